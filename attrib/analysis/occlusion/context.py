"""Object against context: what does the score lose when the object is hidden, and what when all the rest is?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attrib import checks
from attrib.analysis.occlusion.asking import ask, warn_of_shares
from attrib.core.masking.baseline import Baseline
from attrib.core.masking.masks import Given
from attrib.core.masking.options import check_options
from attrib.core.network.frozen import frozen
from attrib.core.network.layers import unwrap
from attrib.core.objectives.objective import Space
from attrib.core.reduce import widened
from attrib.core.sweeps.perturb import sweep
from attrib.errors import InputError, ShapeError


@dataclass(frozen=True, eq=False)
class ObjectContext:
    """Scores of each example with parts of it hidden.

    Attributes:
        clean: nothing is hidden, ``(N,)``.
        object_hidden: the object is, ``(N,)``.
        context_hidden: everything else is, ``(N,)``.
        random_hidden: the object's shape is, in other places, ``(N, regions)``.
        area: share of the picture that the object covers, ``(N,)``.
        overlap: share of each random region that lies on the object, ``(N, regions)``.
    """

    clean: Tensor
    object_hidden: Tensor
    context_hidden: Tensor
    random_hidden: Tensor
    area: Tensor
    overlap: Tensor

    @property
    def object_cost(self) -> Tensor:
        """What hiding the object costs beyond hiding as much elsewhere, ``(N,)``."""
        return self.random_hidden.mean(1) - self.object_hidden

    @property
    def ratio(self) -> Tensor:
        """What hiding the object costs, divided by what hiding its context costs, ``(N,)``.

        Above 1 the object alone counts for more than all the rest. NaN where hiding the context costs nothing.
        """
        return _ratio(self.clean, self.object_hidden, self.context_hidden)

    def table(self) -> list[dict[str, float]]:
        """One row per example."""
        return [self._row(slice(i, i + 1)) for i in range(len(self.clean))]

    def _row(self, which: slice) -> dict[str, float]:
        """Means over some examples; the ratio is that of the means, which one small cost does not blow up."""
        clean, on, off = (one[which].mean() for one in (self.clean, self.object_hidden, self.context_hidden))
        columns = {
            "area": self.area[which].mean(),
            "clean": clean,
            "object hidden": on,
            "context hidden": off,
            "random hidden": self.random_hidden[which].mean(),
            "object / context": _ratio(clean, on, off),
        }
        return {name: float(value) for name, value in columns.items()}

    def __str__(self) -> str:
        named = [*((str(i), row) for i, row in enumerate(self.table())), ("mean", self._row(slice(None)))]
        head = f"{'example':>7}  " + "  ".join(named[0][1])
        lines = [f"{label:>7}  " + "  ".join(f"{row[name]:{len(name)}.3g}" for name in row) for label, row in named]
        return "\n".join([head, *lines])


def _ratio(clean: Tensor, on: Tensor, off: Tensor) -> Tensor:
    return ((clean - on) / (clean - off)).masked_fill(clean <= off, float("nan"))


def object_context(  # noqa: PLR0913  what is asked, of what, and how it runs
    model: Callable[..., Any],
    inputs: Tensor,
    mask: Tensor | npt.NDArray[Any],
    target: object = "predicted",
    *,
    baseline: Baseline = "mean",
    score: Space = "probability",
    regions: int = 10,
    seed: int = 0,
    additional_forward_args: object = None,
    **options: Any,
) -> ObjectContext:
    """Hide the object, then everything but the object, and compare with hiding as much in random places.

    Convention:
        - random regions are the object's own shape, shifted round the borders of the picture (what leaves on the right
          comes in on the left) by a random step: the same area to the pixel, and never the same pixels. They may cover
          part of the object; ``overlap`` says how much.
        - the steps depend on the seed and the size of the picture only, and are the same for all examples; an example
          skips those that would leave its object where it was, and takes the next.
        - the class is decided once, on the clean input.

    Cost: ``3 + regions`` forward passes per example, no gradient.

    Args:
        model: see `attrib.Attribution`.
        inputs: ``(N, C, H, W)``.
        mask: True or 1 on the object, ``(N, H, W)``, or ``(H, W)`` for all examples.
        target: what to explain, see `attrib.Attribution.attribute`.
        baseline: what hidden parts show, see `attrib.core.resolve_baseline`.
        score: score space.
        regions: how many random places.
        seed: of the places; torch's own random state is not touched.
        additional_forward_args: as in `attrib.Attribution.attribute`.
        options: how the sweep runs, see `attrib.core.SweepOptions`.

    Example:
        >>> mask = torch.zeros(12, 12, dtype=torch.bool)
        >>> mask[3:8, 2:6] = True
        >>> found = object_context(model, x, mask, 3, regions=4)
        >>> found.random_hidden.shape, found.area.tolist()
        (torch.Size([2, 4]), [0.1388888955116272, 0.1388888955116272])
    """
    options, bare = dict(check_options(options)), unwrap(model)  # type: ignore[arg-type]
    query = ask(bare, inputs, target, score, additional_forward_args)
    x = query.image
    thing = _on_object(mask, x)
    places = _shifted(thing, checks.integer("regions", regions, 1), checks.integer("seed", seed, 0))
    keep = 1 - torch.cat([thing[None], 1 - thing[None], places])[:, :, None].to(x)
    with frozen(bare):
        warn_of_shares(query, score)
        values = widened(query.clean.score).new_empty(len(keep), len(x))
        for positions, scores in sweep(query, Given(keep), baseline=baseline, **options):
            values[positions] = scores.to(values)
    clean, area = query.clean.score.to(values), thing.mean((1, 2))
    overlap = (places * thing).mean((2, 3)).T / area[:, None]
    return ObjectContext(clean, values[0], values[1], values[2:].T.contiguous(), area, overlap)


def _on_object(mask: Tensor | npt.NDArray[Any], x: Tensor) -> Tensor:
    """The mask as numbers ``(N, H, W)``."""
    given = torch.as_tensor(np.asarray(mask) if not isinstance(mask, Tensor) else mask)
    size = tuple(x.shape[2:])
    if given.shape[-2:] != size or given.ndim not in (2, 3) or (given.ndim == 3 and len(given) not in (1, len(x))):
        raise ShapeError(
            f"mask must have shape (N={len(x)}, H={size[0]}, W={size[1]}) or (H, W); got {tuple(given.shape)}."
        )
    if not bool(((given == 0) | (given == 1)).all()):
        raise InputError("mask must hold True and False, or 1 on the object and 0 elsewhere; got other values.")
    thing = given.to(widened(x)).expand(len(x), *size)
    if not thing.flatten(1).any(1).all() or thing.flatten(1).all(1).any():
        raise InputError("mask must cover part of every picture; it covers nothing, or everything, of some.")
    return thing


def _shifted(thing: Tensor, regions: int, seed: int) -> Tensor:
    """The mask in other places, ``(regions, N, H, W)``; never where it was."""
    h, w = thing.shape[1:]
    order = torch.randperm(h * w, generator=torch.Generator().manual_seed(seed)).tolist()
    steps = [divmod(by, w) for by in order]
    return torch.stack([_moved(one, steps, regions) for one in thing], 1)


def _moved(one: Tensor, steps: Sequence[tuple[int, int]], regions: int) -> Tensor:
    """The mask ``(H, W)`` after the first ``regions`` of the steps that move it."""
    moved = (one.roll(step, (0, 1)) for step in steps)
    found = list(islice((there for there in moved if not torch.equal(there, one)), regions))
    if len(found) < regions:
        raise InputError(f"regions must be at most {len(found)}, the steps that move this mask; got {regions}.")
    return torch.stack(found)
