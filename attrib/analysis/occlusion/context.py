"""Object against context: what does the score lose when the object is hidden, and what when all the rest is?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attrib import checks
from attrib.core.masking.baseline import Baseline
from attrib.core.masking.masks import Given
from attrib.core.masking.options import check_options
from attrib.core.network.frozen import frozen
from attrib.core.network.layers import unwrap
from attrib.core.objectives.objective import Space
from attrib.core.objectives.targets import as_objective
from attrib.core.query import Query
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

    def table(self) -> list[dict[str, float]]:
        """One row per example."""
        columns = {
            "area": self.area,
            "clean": self.clean,
            "object hidden": self.object_hidden,
            "context hidden": self.context_hidden,
            "random hidden": self.random_hidden.mean(1),
        }
        return [{name: float(values[i]) for name, values in columns.items()} for i in range(len(self.clean))]

    def __str__(self) -> str:
        rows = self.table()
        mean = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        named = [(str(i), row) for i, row in enumerate(rows)] + [("mean", mean)]
        head = f"{'example':>7}  " + "  ".join(rows[0])
        lines = [f"{label:>7}  " + "  ".join(f"{row[name]:{len(name)}.3g}" for name in row) for label, row in named]
        return "\n".join([head, *lines])


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
          comes in on the left) to a random place: the same area to the pixel. They may cover part of the object;
          ``overlap`` says how much.
        - each example has places of its own, which depend on the seed and the size of the picture only.
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
    (x,) = checks.batch(inputs)
    checks.shape(x, "n c h w", "inputs")
    options = dict(check_options(options))  # type: ignore[arg-type]
    thing = _on_object(mask, x)
    places = _shifted(thing, checks.integer("regions", regions, 1), checks.integer("seed", seed, 0))
    keep = 1 - torch.cat([thing[None], 1 - thing[None], places])[:, :, None]
    bare = unwrap(model)
    with frozen(bare):
        objective = as_objective(target).in_space(score)
        query = Query(bare, (x.detach(),), objective, None, checks.arguments(additional_forward_args))
        clean = query.clean.score
        values = clean.new_empty(len(keep), len(x))
        for positions, scores in sweep(query, Given(keep), baseline=baseline, **options):
            values[positions] = scores
    area = thing.mean((1, 2))
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
    thing = given.to(x).expand(len(x), *size)
    if not thing.flatten(1).any(1).all() or thing.flatten(1).all(1).any():
        raise InputError("mask must cover part of every picture; it covers nothing, or everything, of some.")
    return thing


def _shifted(thing: Tensor, regions: int, seed: int) -> Tensor:
    """The mask in other places, ``(regions, N, H, W)``; never where it was."""
    n, h, w = thing.shape
    source = torch.Generator().manual_seed(seed)
    steps = torch.randint(1, h * w, (regions, n), generator=source).tolist()
    return torch.stack(
        [torch.stack([one.roll(divmod(by, w), (0, 1)) for one, by in zip(thing, row, strict=True)]) for row in steps]
    )
