"""How far explanations move when a picture is changed a little, with aim and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from attrib import checks
from attrib.core.attribution import Attribution
from attrib.core.network.frozen import frozen
from attrib.core.objectives.objective import Objective
from attrib.core.objectives.targets import as_objective
from attrib.core.reduce import reduce_channels
from attrib.core.together import attribute_all
from attrib.errors import InputError, ShapeError
from attrib.metrics.correlation import pearson, ranks, varies
from attrib.registry import METHODS
from attrib.report.finding import Finding
from attrib.report.table import amount, text_table
from attrib.synthesis.subject import Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from attrib.synthesis.attacked import Adversarial, Method

USUAL = ("saliency", "gradcam")
MEASURES = ("cosine distance", "relative L2", "rank correlation", "top overlap")


@dataclass(frozen=True, eq=False)
class AttributionChange(Finding):
    r"""Maps before and after an attack, and how far they are apart.

    Convention:
        - maps are compared as the method gives them, at its own resolution, channels summed, signs kept.
        - ``cosine distance``: :math:`1 - \langle a, b \rangle / (\|a\| \|b\|)`, from 0 to 2, whatever the scale.
        - ``relative L2``: :math:`\|b - a\| / \|a\|` with ``a`` the map before.
        - ``rank correlation``: Spearman's, equal values sharing their mean rank.
        - ``top overlap``: the share of the ``top`` highest pixels that stays; equal values at the cut count in part.
        - a measure that is not defined, of a map that is zero or flat, is NaN.
        - ``shuffled`` is the control: the perturbation of each picture with its pixels in another order, clipped to
          black and white. What moves a map no further than this is not the work of the attack.

    Attributes:
        before: maps of the pictures as they were, by method, ``(N, 1, h, w)``.
        after: of the pictures after the attack.
        shuffled: of the control.
        attack: measures by method and name, ``(N,)`` each, before against after.
        control: likewise, before against shuffled.
        inputs: of the control, ``(N, C, H, W)``.
        kept: whether the network says of the control what it said before, ``(N,)`` bool.
        top: share of the pixels whose overlap is measured.
        seed: of the order of the control.
        found: what was attacked.
    """

    before: Mapping[str, Tensor]
    after: Mapping[str, Tensor]
    shuffled: Mapping[str, Tensor]
    attack: Mapping[str, Mapping[str, Tensor]]
    control: Mapping[str, Mapping[str, Tensor]]
    inputs: Tensor
    kept: Tensor
    top: float
    seed: int
    found: Adversarial = field(metadata={"saved": False}, repr=False)

    @property
    def counted(self) -> Tensor:
        """Which examples the means of the table are over: the successes, or all that were attacked if there is none."""
        found = self.found.success if bool(self.found.success.any()) else ~self.found.wrong
        return found.cpu()  # where the measures are

    def table(self) -> list[dict[str, Any]]:
        """Two rows per method, the attack and its control: means over `counted`, of what is defined."""
        rows = []
        for name in self.attack:
            for what, found in (("attack", self.attack[name]), ("shuffled", self.control[name])):
                means = {one: float(values[self.counted].nanmean()) for one, values in found.items()}
                rows.append({"method": name, "perturbation": what, **means})
        return rows

    @property
    def manifest(self) -> dict[str, Any]:
        """All facts as JSON holds them, with the rows of the table."""
        return super().manifest | {"means": self.table(), "counted": self.counted.tolist()}

    def to_text(self, *, markdown: bool = False) -> str:
        """The table, and what its means are over."""
        rows = [{key: value if isinstance(value, str) else amount(value) for key, value in row.items()}
                for row in self.table()]  # fmt: skip
        whose = "whose class changed" if bool(self.found.success.any()) else "that were attacked; no class changed"
        return (
            f"Means over the {int(self.counted.sum())} pictures {whose}. Top: {self.top:.0%} of the pixels. Shuffled: "
            "the same perturbation, its pixels in random order; "
            f"{int(self.kept[self.counted].sum())} keep their class.\n\n{text_table(rows, markdown=markdown)}"
        )

    def plot(self) -> Figure:
        """Draw the maps of the first counted example before, after and under the control."""
        from attrib.plot.adversarial import change_panels

        return change_panels(self, example=int(self.counted.nonzero()[0]))


def attribution_change(
    found: Adversarial, methods: Sequence[Method], *, target: object, layer: str | None, top: float, seed: int
) -> AttributionChange:
    """See `Adversarial.attribution_change`."""
    if not checks.number("top", top, 0, 1) > 0:
        raise InputError(f"top must be above 0, a share of the pixels; got {top!r}.")
    checks.integer("seed", seed, 0)
    asked, goal = made(found.subject.model, methods or USUAL, layer), as_objective(target)
    shuffled = found.shuffled(seed)
    before, after, control = (_maps(asked, found.subject, x, goal) for x in (found.clean, found.adversarial, shuffled))
    with frozen(found.subject.model):
        kept = (found.subject.chances(shuffled).argmax(1) == found.before.argmax(1)).cpu()
    attack, alone = (
        {name: distances(before[name], others[name], top) for name in asked} for others in (after, control)
    )
    return AttributionChange(before, after, control, attack, alone, shuffled, kept, top, seed, found)


def made(model: Any, methods: Sequence[Method], layer: str | None) -> dict[str, Attribution]:
    """The methods by name; ``layer`` is for those that need one."""
    found: dict[str, Attribution] = {}
    for one in methods:
        kind = METHODS[one] if isinstance(one, str) else one
        if not isinstance(kind, Attribution):
            needs = layer is not None and getattr(getattr(kind, "func", kind), "needs_layer", False)
            kind = kind(model, layer=layer) if needs else kind(model)
        name = one if isinstance(one, str) else kind.name
        if name in found:
            raise InputError(f"methods must have different names; got {name!r} twice.")
        found[name] = kind
    return found


def _maps(methods: Mapping[str, Attribution], subject: Subject, x: Tensor, goal: Objective) -> dict[str, Tensor]:
    """The maps of every method, a batch of examples at a time."""
    found: dict[str, list[Tensor]] = {name: [] for name in methods}
    for rows, part in subject.pieces(x):
        answers = attribute_all(methods, x[rows], [goal.rows(rows)], additional_forward_args=part.extra or None)
        for name, (maps,) in answers.items():
            found[name].append(_one_channel(name, maps))
    return {name: torch.cat(maps) for name, maps in found.items()}


def _one_channel(name: str, maps: Any) -> Tensor:
    if not isinstance(maps, Tensor) or maps.ndim != 4:
        raise ShapeError(f"maps of {name} must have shape (N, C, h, w) to be compared; choose methods for images.")
    return reduce_channels(maps, "sum")


def distances(before: Tensor, after: Tensor, top: float) -> dict[str, Tensor]:
    """The measures of `AttributionChange` for maps ``(N, 1, h, w)``, ``(N,)`` each, float64 on the CPU."""
    a, b = (maps.detach().cpu().flatten(1).double() for maps in (before, after))
    sizes = a.norm(dim=1) * b.norm(dim=1)
    nothing = float("nan")
    epsilon = torch.finfo(before.dtype).eps
    moves = varies(a.T, epsilon) & varies(b.T, epsilon)
    values = (
        (1 - (a * b).sum(1) / sizes).clamp(0, 2).where(sizes > 0, nothing),
        ((b - a).norm(dim=1) / a.norm(dim=1)).where(a.norm(dim=1) > 0, nothing),
        pearson(ranks(a.T), ranks(b.T)).where(moves, nothing),
        torch.minimum(_in_top(a, top), _in_top(b, top)).sum(1).where(moves, nothing),
    )
    return dict(zip(MEASURES, values, strict=True))


def _in_top(values: Tensor, top: float) -> Tensor:
    """How much of each pixel is in the top, adding up to 1; pixels equal to the last one in share what is left."""
    count = ceil(top * values.shape[1])
    last = values.topk(count, dim=1).values[:, -1:]
    above, equal = (values > last).double(), (values == last).double()
    return (above + equal * (count - above.sum(1, keepdim=True)) / equal.sum(1, keepdim=True)) / count
