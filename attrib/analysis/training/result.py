"""What was seen of features during training: strongest examples, projections, jumps, and how ranks settle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from attrib import checks
from attrib.report.finding import Finding
from attrib.report.table import amount, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

JUMPED = "*"


@dataclass(frozen=True)
class Jump:
    """A feature whose strongest example is another one than at the epoch that was watched before.

    Attributes:
        layer: of the feature.
        channel: of the feature.
        before: the earlier epoch.
        after: the later epoch.
        image: the strongest example at the later epoch.
        previous: at the earlier one.
    """

    layer: str
    channel: int
    before: int
    after: int
    image: int
    previous: int


@dataclass(frozen=True, eq=False)
class Evolution(Finding):
    """``F`` features at ``E`` epochs over ``N`` examples.

    Attributes:
        epochs: at which was looked.
        features: layer and channel of each.
        image: the example that excites a feature most, ``(F, E)``; -1 where it responds to all alike.
        value: its activation there, ``(F, E)``.
        place: row and column of that activation in the layer, ``(F, E, 2)``; -1 where it has no locations.
        projection: what leads there, ``(F, E, C, H, W)``, signed.
        response: largest activation over the locations in every example, ``(F, E, N)``.
        correlation: Spearman's rank correlation of the responses to the examples between epochs, ``(F, E, E)``; NaN
            where a feature responds to all alike.
        method: how it was projected.
        probe_set: SHA-256 of the examples.
    """

    epochs: tuple[int, ...]
    features: tuple[tuple[str, int], ...]
    image: Tensor
    value: Tensor
    place: Tensor
    projection: Tensor
    response: Tensor
    correlation: Tensor
    method: str
    probe_set: str

    @property
    def jumped(self) -> Tensor:
        """Whether the strongest example is another one than at the epoch before, ``(F, E)``."""
        alive = self.image >= 0
        changed = (self.image[:, 1:] != self.image[:, :-1]) & alive[:, 1:] & alive[:, :-1]
        return torch.cat([torch.zeros_like(alive[:, :1]), changed], 1)

    @property
    def jumps(self) -> tuple[Jump, ...]:
        """Every change of a strongest example, feature by feature."""
        found = []
        for f, e in self.jumped.nonzero().tolist():
            layer, channel = self.features[f]
            previous, image = self.image[f, e - 1 : e + 1].tolist()
            found.append(Jump(layer, channel, self.epochs[e - 1], self.epochs[e], image, previous))
        return tuple(found)

    @property
    def manifest(self) -> dict[str, Any]:
        """All facts, and the jumps."""
        return super().manifest | {"jumps": [vars(one) for one in self.jumps]}

    def to_text(self, *, markdown: bool = False) -> str:
        """The strongest example of each feature at each epoch, and how each layer settles."""
        jumped = self.jumped
        count, steps = int(jumped.sum()), jumped[:, 1:].numel()
        moves = f"{count} jump{'s' * (count != 1)} in {steps} step{'s' * (steps != 1)}" if steps else "one epoch"
        examples = [
            {"feature": f"{layer}:{channel}"}
            | {f"epoch {epoch}": self._example(f, e, moved=bool(jumped[f, e])) for e, epoch in enumerate(self.epochs)}
            for f, (layer, channel) in enumerate(self.features)
        ]
        said = f"Strongest of {self.response.shape[2]} examples by epoch ({JUMPED}: another one than before; {moves})"
        settled = "Mean rank correlation of the responses with those at the last epoch"
        return "\n\n".join(
            [
                said,
                text_table(examples, markdown=markdown),
                settled,
                text_table(self._settling(), markdown=markdown),
            ]
        )

    def _example(self, f: int, e: int, *, moved: bool) -> str:
        number = int(self.image[f, e])
        return "none" if number < 0 else f"{number}{JUMPED * moved}"

    def _settling(self) -> list[dict[str, str]]:
        rows = []
        for layer in dict.fromkeys(layer for layer, _ in self.features):
            mine = [f for f, (other, _) in enumerate(self.features) if other == layer]
            means = self.correlation[mine, :, -1].nanmean(0).tolist()
            cells = {f"epoch {epoch}": amount(mean, 2) for epoch, mean in zip(self.epochs, means, strict=True)}
            rows.append({"layer": layer} | cells)
        return rows

    def plot(self) -> Figure:
        """The figure of the paper, see `attrib.plot.evolution_panels`."""
        from attrib.plot.training import evolution_panels

        return evolution_panels(self)


def rank_correlation(response: Tensor) -> Tensor:
    """Spearman's rank correlation between the rows of each ``(E, N)``, ties with mean ranks: ``(F, E, E)``.

    Example:
        >>> rows = [[1.0, 2.0, 3.0], [10.0, 20.0, 90.0], [3.0, 2.0, 1.0]]
        >>> rank_correlation(torch.tensor([rows]))[0, 0].round().tolist()
        [1.0, 1.0, -1.0]
    """
    stats = checks.require("scipy.stats", "rank correlation", "analysis")
    ranks = torch.from_numpy(stats.rankdata(response.double().numpy(), axis=2))
    centred = ranks - ranks.mean(2, keepdim=True)
    length = centred.norm(dim=2, keepdim=True)
    unit = torch.where(length > 0, centred / length, torch.nan)
    return (unit @ unit.transpose(1, 2)).clamp(-1, 1)
