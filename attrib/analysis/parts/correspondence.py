"""Do the same parts of different pictures mean the same to a network? Changes under occlusion, sign by sign."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from attrib import checks
from attrib.analysis.parts.boxes import PartLike, moved, part_masks
from attrib.analysis.parts.result import Correspondence
from attrib.core.masking.baseline import Baseline, resolve_baseline
from attrib.core.network.auto import auto_layer
from attrib.core.network.frozen import frozen
from attrib.core.network.layers import resolve, unwrap
from attrib.core.network.streaming import stream
from attrib.errors import InputError, ModelError

Zero = Literal["own", "positive", "ignored"]
ZEROS: tuple[Zero, ...] = ("own", "positive", "ignored")
_CHUNK = 2**16  # features compared at a time: what keeps N x D comparisons small, and counts exact in float32


def correspondence(  # noqa: PLR0913  the settings of the experiment, and how it runs
    model: Callable[..., Any],
    inputs: Tensor,
    parts: Mapping[str, PartLike],
    layers: str | nn.Module | Sequence[str | nn.Module] | None = None,
    *,
    baseline: Baseline = "mean",
    zero: Zero = "own",
    draws: int = 10,
    within: PartLike | None = None,
    aligned: bool = False,
    seed: int = 0,
    batch_size: int = 32,
    show_progress: bool = False,
) -> Correspondence:
    r"""Hide the same part in every picture, and compare how the features of the pictures change.

    .. math::
        \epsilon_i^l = x_i^l - \tilde{x}_i^l, \qquad
        \Delta_l = \operatorname*{mean}_{i < j}
            \frac{1}{D_l} \sum_{d=1}^{D_l} \left[\operatorname{sign} \epsilon_{i,d}^l \ne \operatorname{sign}
            \epsilon_{j,d}^l\right]

    Here :math:`x_i^l` are the features of picture :math:`i` at layer :math:`l`, and :math:`\tilde{x}_i^l` those with
    the part hidden. The lower the distance, the more alike is what the part means in different pictures. It says little
    by itself: random places of the same size, another in each picture, are the control. Nor does a part below the
    control prove anything if the part is at the same place in all pictures: whatever is hidden there changes the same
    locations of a layer. ``aligned=True`` is the control for that: a random place is then the same in all pictures.

    Convention:
        - the paper sums over ordered pairs and its table shows values below 1: each distance is divided by the number
          of features. Mean and standard deviation (of a sample) are over unordered pairs; `Correspondence.total` sums.
        - ``zero="own"``: a change of exactly 0 is a sign of its own, as ``torch.sign`` has it: two features that both
          stay agree, one that stays and one that changes differ. It decides much, because most features of a ReLU layer
          stay at 0. ``"positive"``: 0 counts as +. ``"ignored"``: only features that change in both pictures are
          compared; NaN where there are none.
        - features are all values of the layer, location by location; a layer of locations sees where a part is.
        - a random place is the part's own shape, moved to where it fits into the picture, or into the box of
          ``within``; it may cover the part. Every picture and every draw has one of its own; ``aligned=True`` draws one
          for all pictures, as far as their sizes allow.
        - ``baseline="mean"``: hidden pixels take each picture's mean colour.

    Cost: ``N (1 + parts (1 + draws))`` forward passes, no gradient. The features of all pictures at the layers are
    held, and their signs once more, in bytes.

    Args:
        model: see `attrib.Attribution`.
        inputs: at least two pictures, ``(N, C, H, W)``.
        parts: for each name, where it is: boxes ``x0, y0, x1, y1`` in pixels of the inputs, the lower right corner
            outside, ``(N, 4)``, or masks ``(N, H, W)`` of bools; one box or mask counts for all pictures.
        layers: one or several; the last spatial one if None.
        baseline: what hidden pixels show, see `attrib.core.resolve_baseline`.
        zero: how changes of exactly zero count, see above.
        draws: how many random places of each part, >= 1.
        within: where random places lie, a box or mask as in ``parts``; anywhere if None. The paper speaks of random
            parts of the object.
        aligned: whether a random place is the same in all pictures of a draw.
        seed: of the random places; torch's own random state is not touched.
        batch_size: pictures in a forward pass.
        show_progress: progress bar on standard error, in parts and draws.

    Raises:
        InputError: there are fewer than two pictures, or a part is empty, out of the picture or not there for all.

    Example:
        >>> faces = torch.rand(4, 3, 12, 12)
        >>> found = correspondence(model, faces, {"eye": [2, 2, 5, 4]}, ["relu", "fc"], draws=3)
        >>> found.distances["fc"].shape, found.random["relu"].shape
        (torch.Size([1, 6]), torch.Size([1, 3, 6]))

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, correspondence analysis:
        equation of the distance, table and figure of dogs' faces.
    """
    x = _pair_or_more(inputs)
    network = unwrap(model)
    masks, count = part_masks(parts, x), checks.integer("draws", draws, 1)
    room = None if within is None else part_masks({"within": within}, x, whole=True)["within"]
    source = torch.Generator().manual_seed(checks.integer("seed", seed, 0))
    shifted = {name: [moved(one, room, source, name, aligned) for _ in range(count)] for name, one in masks.items()}
    fill = resolve_baseline(baseline, x)
    compare = _Comparison(
        network, _addresses(network, layers, x), x, fill, checks.choice("zero", zero, ZEROS), batch_size
    )
    hidden = [one for name, mask in masks.items() for one in (mask, *(random for random, _ in shifted[name]))]
    rows = [compare(one) for one in tqdm(hidden, unit="part", disable=None if show_progress else True)]
    values = {one: torch.stack([row[one] for row in rows]).reshape(len(masks), 1 + count, -1) for one in compare.layers}
    told = {"draws": count, "within": within is not None, "aligned": aligned, "seed": seed}
    return Correspondence(
        {one: value[:, 0] for one, value in values.items()},
        {one: value[:, 1:] for one, value in values.items()},
        torch.tensor(list(combinations(range(len(x)), 2))),
        masks,
        {name: torch.stack([boxes for _, boxes in shifted[name]]) for name in masks},
        {"zero": zero, "baseline": _words(baseline), **told},
    )


def _pair_or_more(inputs: Tensor) -> Tensor:
    (x,) = checks.batch(inputs)
    checks.shape(x, "n c h w", "inputs")
    if len(x) < 2:
        raise InputError(f"inputs must hold at least two pictures to compare; got {len(x)}.")
    return x.detach()


def _addresses(
    network: Callable[..., Any], layers: str | nn.Module | Sequence[str | nn.Module] | None, x: Tensor
) -> tuple[str, ...]:
    if layers is None:
        with frozen(network):
            return (auto_layer(network, (x[:1],), ()),)
    many = [layers] if isinstance(layers, (str, nn.Module)) else list(layers)
    if not many:
        raise InputError("layers must name at least one; got none.")
    return tuple(dict.fromkeys(resolve(network, one) for one in many))


def _words(baseline: Baseline) -> object:
    return baseline if isinstance(baseline, (str, int, float)) else type(baseline).__name__


@dataclass(frozen=True)
class _Comparison:
    """Distances between the changes of all pairs of pictures, for one part hidden at a time."""

    network: Callable[..., Any]
    layers: tuple[str, ...]
    x: Tensor
    baseline: Tensor
    zero: Zero
    batch_size: int

    @cached_property
    def clean(self) -> list[dict[str, Tensor]]:
        """The features with nothing hidden, batch by batch."""
        return list(self._features(self.x))

    def __call__(self, mask: Tensor) -> dict[str, Tensor]:
        """The distances ``(pairs,)`` at each layer."""
        hidden = torch.where(mask[:, None].to(self.x.device), self.baseline, self.x)
        signs: dict[str, list[Tensor]] = {address: [] for address in self.layers}
        for before, after in zip(self.clean, self._features(hidden), strict=True):
            for address in self.layers:
                change = before[address] - after[address]
                if not checks.finite(change):
                    raise ModelError(f"features of {address!r} must be finite; got NaN or infinite values.")
                signs[address].append(change.sign().to(torch.int8))
        return {address: sign_distances(torch.cat(rows), self.zero) for address, rows in signs.items()}

    def _features(self, x: Tensor) -> Iterator[dict[str, Tensor]]:
        # the same batches with and without the part: what the part cannot change is then the same to the bit
        for seen in stream(self.network, x, *self.layers, batch_size=self.batch_size):
            yield {address: seen.acts[address].flatten(1) for address in self.layers}


def sign_distances(signs: Tensor, zero: Zero = "own") -> Tensor:
    """Normalised Hamming distance between the rows of ``(N, D)`` signs -1, 0 and 1, for all pairs ``i < j``.

    Example:
        >>> signs = torch.tensor([[1, 0, -1, 0], [1, 1, 1, 0]])
        >>> [sign_distances(signs, zero).tolist() for zero in ("own", "positive", "ignored")]
        [[0.5], [0.25], [0.5]]
    """
    checks.choice("zero", zero, ZEROS)
    signs = torch.where(signs == 0, 1, signs) if zero == "positive" else signs
    sides = (-1, 1) if zero == "ignored" else (-1, 0, 1)
    n = len(signs)
    same, compared = (torch.zeros(n, n, dtype=torch.float64, device=signs.device) for _ in range(2))
    for part in torch.split(signs, _CHUNK, 1):
        for side in sides:
            one = (part == side).float()
            same += one @ one.T
        seen = torch.ones_like(part, dtype=torch.float32) if zero != "ignored" else (part != 0).float()
        compared += seen @ seen.T
    first, second = torch.triu_indices(n, n, 1)
    return (1 - same / compared)[first, second].cpu()
