"""What layers, the score and maps make of a picture that is shifted, scaled or turned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.analysis.features.bank import as_pictures, penultimate
from attrib.analysis.moved.moves import Watched, share
from attrib.analysis.moved.warp import Kind, Padding, checked_sweeps, still, warp
from attrib.core.attribution import Attribution
from attrib.core.network.frozen import frozen
from attrib.core.network.layers import modules_of, resolve, unwrap
from attrib.core.network.streaming import Batch, Data, batches
from attrib.core.objectives.objective import ClassScore, Objective, Predicted
from attrib.core.objectives.targets import as_objective
from attrib.errors import LayerError, ShapeError, TargetError
from attrib.io.preprocess import statistics
from attrib.registry import METHODS
from attrib.report.finding import Finding
from attrib.report.table import amount, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Method = str | Callable[[Callable[..., Any]], Attribution]
Curves = Mapping[str, Mapping[str, Tensor]]
SHOWN = 5  # pictures that are kept for the figure, as many as in the paper's


@dataclass(frozen=True, eq=False)
class Invariance(Finding):
    """What changes along sweeps of ``A`` amounts over ``N`` pictures; a sweep is a ``Kind``.

    Attributes:
        amounts: of each sweep, ``(A,)``, in its unit.
        distance: by sweep and layer, how far the features are from those of the picture itself, ``(A, N)``.
        norm: by layer, length of the features of the picture itself, ``(N,)``.
        probability: of the target, by sweep, ``(A, N)``.
        clean: of the picture itself, ``(N,)``.
        artefact: by sweep and layer, the distance after the way there and back, ``(A, N)``: what borders that are lost
            and interpolation do alone. Empty if it was not asked for.
        equivariance: by sweep and method, how far the map of the warped picture, warped back, is from the map, over
            the length of the map, ``(A, N)``; NaN where the map is zero, or nothing of it came back.
        outside: by sweep, share of the warped picture that shows what was not in the picture, ``(A,)``.
        padding: what is shown there.
        pictures: the first few, ``(n, C, H, W)`` in [0, 1].
        shade: what an input of 0 looks like, ``(C,)``.
    """

    amounts: Mapping[str, Tensor]
    distance: Curves
    norm: Mapping[str, Tensor]
    probability: Mapping[str, Tensor]
    clean: Tensor
    artefact: Curves
    equivariance: Curves
    outside: Mapping[str, Tensor]
    padding: Padding
    pictures: Tensor = field(repr=False, metadata={"saved": False})
    shade: Tensor = field(repr=False, metadata={"saved": False})

    def relative(self, sweep: str, layer: str) -> Tensor:
        """The distance over the length of the features, ``(A, N)``; NaN where these are zero."""
        return share(self.distance[checks.choice("sweep", sweep, tuple(self.distance))][layer], self.norm[layer])

    def control(self, sweep: str, layer: str) -> Tensor:
        """The artefact over the length of the features, ``(A, N)``; NaN where these are zero."""
        return share(self.artefact[checks.choice("sweep", sweep, tuple(self.artefact))][layer], self.norm[layer])

    def moved(self, sweep: str, by: float) -> Tensor:
        """The first pictures as the network saw them after this amount, ``(n, C, H, W)`` in [0, 1]."""
        shade = self.shade.reshape(-1, 1, 1)
        return (warp(self.pictures - shade, sweep, by, self.padding) + shade).clamp(0, 1)  # type: ignore[arg-type]  # a Kind

    def table(self) -> list[dict[str, float | str]]:
        """Means over pictures and over the amounts that move something, a row for each sweep."""
        rows = []
        for sweep, amounts in self.amounts.items():
            moved = torch.tensor([not still(sweep, one) for one in amounts.tolist()])  # type: ignore[arg-type]
            row: dict[str, float | str] = {"sweep": f"{sweep} {_span(amounts)}"}
            for layer in self.norm:
                row[f"{layer} distance"] = _mean(self.relative(sweep, layer)[moved])
                if self.artefact:
                    row[f"{layer} artefact"] = _mean(self.control(sweep, layer)[moved])
            row["p"] = _mean(self.probability[sweep][moved])
            for method, error in self.equivariance.get(sweep, {}).items():
                row[f"{method} error"] = _mean(error[moved])
            rows.append(row | {"outside": _mean(self.outside[sweep][moved])})
        return rows

    def to_text(self, *, markdown: bool = False) -> str:
        """Means over pictures and amounts; distances are relative."""
        rows = [
            {name: one if isinstance(one, str) else amount(one) for name, one in row.items()} for row in self.table()
        ]
        clean = f"{len(self.clean)} pictures, p {amount(float(self.clean.mean()))} unmoved; padding: {self.padding}"
        return "\n".join([text_table(rows, markdown=markdown), "", clean])

    def plot(self) -> Figure:
        """Pictures, distances and probability along each sweep: the figure of the paper."""
        from attrib.plot.invariance import invariance_curves

        return invariance_curves(self)


def invariance(  # noqa: PLR0913  what is moved, what is watched, and how it runs
    model: Callable[..., Any],
    data: Data,
    target: object = None,
    *,
    layers: Sequence[str | nn.Module] | None = None,
    sweeps: Mapping[Kind, Sequence[float]] | None = None,
    padding: Padding = "zeros",
    methods: Sequence[Method] = (),
    control: bool = True,
    preprocess: object = None,
    batch_size: int = 32,
    show_progress: bool = False,
) -> Invariance:
    r"""Shift, scale and turn pictures, and measure how much layers, the score and maps change.

    .. math:: d_l(T) = \lVert \phi_l(T x) - \phi_l(x) \rVert_2, \qquad
        e_m(T) = \frac{\lVert T^{-1} m(T x) - m(x) \rVert_2}{\lVert m(x) \rVert_2}

    with the features :math:`\phi_l` of layer *l* flattened, and a map *m*.

    Convention:
        - the paper shows :math:`d_l` of its layers 1 and 7; ``relative`` divides it by :math:`\lVert\phi_l(x)\rVert`.
        - the class is decided once, on the picture itself; the probability is that of this class throughout.
        - pictures are warped as the network sees them, so ``padding="zeros"`` is the mean colour; see
          `attrib.analysis.moved.warp.warp`. ``outside`` says how much of the picture is padding.
        - both sums of :math:`e_m` run over the pixels that came back from inside the picture. Maps are brought to its
          resolution first. A method that moves with its picture has error 0; one that does not move at all, more.
        - an amount that moves nothing gives distance 0, error 0 and the same probability, to the bit, where the network
          itself gives the same numbers twice.

    Cost: one forward pass per picture and amount, two with ``control``, and one run of each method.

    Args:
        model: with outputs ``(N, C)``.
        data: pictures ``(N, C, H, W)`` of one size, see `attrib.core.network.streaming.batches`.
        target: a class target; the labels of the data if None, the predicted class where they have none.
        layers: whose features; the first convolution, and what enters the last linear layer, if None.
        sweeps: amounts by kind: ``"vertical"`` and ``"horizontal"`` shifts in whole pixels, ``"scale"`` factors,
            ``"rotation"`` in degrees; all four, to a quarter of the side, 0.6 to 1.8 and a full turn, if None.
        padding: what comes in from outside: ``"zeros"``, ``"border"`` or ``"reflection"``.
        methods: names of methods whose maps are compared, or functions of the model that make one.
        control: also measure what the way there and back does: borders that are lost, and interpolation.
        preprocess: how pictures became data; its mean and standard deviation are taken back in the figure.
        batch_size: as in `attrib.core.network.streaming.batches`.
        show_progress: progress bar on standard error.

    Example:
        >>> found = invariance(model, x, 3, sweeps={"vertical": [-2, 0, 2]}, methods=["saliency"])
        >>> found.distance["vertical"]["fc@input"].shape, float(found.distance["vertical"]["stem"][1].max())
        (torch.Size([3, 2]), 0.0)

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.1 and figure 5.
    """
    bare = unwrap(model)
    made = [METHODS[one](bare) if isinstance(one, str) else one(bare) for one in methods]
    watched = Watched(bare, _layers(bare, layers), {one.name: one for one in made}, padding, control)
    weight = next(bare.parameters(), None) if isinstance(bare, nn.Module) else None
    device = None if weight is None else weight.device
    objective = None if target is None else as_objective(target)
    parts: list[dict[str, Any]] = []
    pictures: list[Tensor] = []
    for batch in batches(data, batch_size=batch_size, device=device, show_progress=show_progress):
        size = _size(batch.inputs, pictures)
        with frozen(bare), torch.no_grad():
            parts.append(watched.measure(batch.inputs, _goal(objective, batch), checked_sweeps(sweeps, size)))
        pictures += list(batch.inputs[: SHOWN - len(pictures)].cpu())
    joined = {name: _joined([part[name] for part in parts]) for name in parts[0] if name not in {"amounts", "outside"}}
    fixed = {name: parts[0][name] for name in ("amounts", "outside")}
    mean, std = statistics(preprocess)
    shown = as_pictures(torch.stack(pictures).float(), mean, std)
    shade = torch.full((shown.shape[1],), 0.5) if mean is None else torch.tensor(mean)
    return Invariance(**joined, **fixed, padding=padding, pictures=shown, shade=shade)


def _layers(model: Callable[..., Any], layers: Sequence[str | nn.Module] | None) -> tuple[str, ...]:
    if layers is not None:
        return tuple(dict.fromkeys(resolve(model, layer) for layer in layers))
    first = next((name for name, module in modules_of(model).items() if isinstance(module, nn.Conv2d)), None)
    if first is None:
        raise LayerError("there is no convolution that could be the first layer. Name layers; see attrib layers.")
    return first, penultimate(model)


def _size(inputs: Tensor, before: list[Tensor]) -> tuple[int, int]:
    checks.batch(inputs)
    checks.shape(inputs, "n c h w", "inputs")
    if before and before[0].shape != inputs.shape[1:]:
        raise ShapeError(f"all pictures must have one size, {tuple(before[0].shape)}; got {tuple(inputs.shape[1:])}.")
    return inputs.shape[2], inputs.shape[3]


def _goal(objective: Objective | None, batch: Batch) -> Objective:
    """What is asked of a batch: its labels or its predicted classes, unless something else is."""
    if objective is None:
        return Predicted() if batch.labels is None else ClassScore(batch.labels)
    if 1 < objective.entries <= int(batch.index.max()):
        raise TargetError(f"target must have one entry for each picture; got {objective.entries} for more of them.")
    return objective.rows(batch.index)


def _span(amounts: Tensor) -> str:
    return f"{float(amounts.min()):g} to {float(amounts.max()):g}"


def _mean(values: Tensor) -> float:
    """Of the values that are defined; NaN if none is."""
    return float(values.double().nanmean())


def _joined(parts: list[Any]) -> Any:
    """Batches side by side: the last axis is the picture."""
    if isinstance(parts[0], Tensor):
        return torch.cat(parts, -1)
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}
