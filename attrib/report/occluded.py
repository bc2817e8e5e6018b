"""What `occlude` returns: the maps under a moving square of one picture, and how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image

from attrib.report.facts import described
from attrib.report.finding import Finding
from attrib.report.records import Asked, Spent
from attrib.report.table import text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from attrib.analysis.occlusion.context import ObjectContext
    from attrib.analysis.occlusion.maps import OcclusionMaps, PixelMaps


@dataclass(frozen=True, eq=False)
class Occluded(Finding):
    """Maps of one picture, and everything needed to get them again.

    ``arrays/grid.*.npy`` are at the positions of the window, ``arrays/pixels.*.npy`` at the resolution of the input.

    Attributes:
        image: its name.
        view: what the model saw, as a picture.
        maps: see `attrib.analysis.OcclusionMaps`, with one example.
        asked: what the target meant.
        names: of the classes that come up, by number.
        spent: what it took.
        about: facts for the manifest.
        hidden: what is lost with the object and with all but the object, where a mask says which that is.
    """

    image: str
    view: Image.Image = field(repr=False)
    maps: OcclusionMaps
    asked: Asked
    names: Mapping[int, str]
    spent: Spent
    about: Mapping[str, Any] = field(repr=False)
    hidden: ObjectContext | None = None

    @property
    def manifest(self) -> dict[str, Any]:
        """All facts as JSON holds them; `save` adds the files."""
        windows, clean = self.maps.windows, self.maps.clean
        return {
            **described(self.about),
            "image": self.image,
            "target": asdict(self.asked),
            "layer": self.maps.layer,
            "channel": int(self.maps.channel[0]),
            "windows": {"window": list(windows.window), "stride": list(windows.stride), "edge": windows.edge},
            "grid": list(windows.grid),
            "clean": {
                "score": float(clean.score[0]),
                "label": int(clean.label[0]),
                "feature": float(clean.feature[0]),
                "classes": {index: float(score[0]) for index, score in clean.classes.items()},
            },
            "labels": self.table(),
            "object": None if self.hidden is None else self.hidden.table()[0],
            "cost": asdict(self.spent),
        }

    def table(self) -> list[dict[str, Any]]:
        """The most probable classes under the square, most frequent first: number, name, share of the positions."""
        labels = self.maps.label[0].flatten().tolist()
        rows = [
            {"class": index, "name": self.names[index], "share": labels.count(index) / len(labels)}
            for index in sorted(set(labels))
        ]
        return sorted(rows, key=lambda row: -row["share"])

    def to_text(self, *, markdown: bool = False) -> str:
        """What was asked, how far the score falls, and which classes come up instead."""
        score, feature, clean = self.maps.score[0], self.maps.feature[0], self.maps.clean
        rows, columns = self.maps.windows.grid
        lines = [
            f"{self.image}: {self.asked}",
            f"{rows} x {columns} positions of a window of {'x'.join(map(str, self.maps.windows.window))} pixels",
            f"score {float(clean.score[0]):.3g}; under the window from {float(score.min()):.3g} to "
            f"{float(score.max()):.3g}",
            f"total activation of {self.maps.layer} channel {int(self.maps.channel[0])}: "
            f"{float(clean.feature[0]):.3g}; under the window from {float(feature.min()):.3g} to "
            f"{float(feature.max()):.3g}",
        ]
        shown = [
            {"most probable": f"{row['name']} ({row['class']})", "positions": f"{row['share']:.1%}"}
            for row in self.table()
        ]
        tables = [text_table(shown, markdown=markdown)]
        if self.hidden is not None:
            row = {name: f"{value:.3g}" for name, value in self.hidden.table()[0].items()}
            tables.append(text_table([row], markdown=markdown))
        return "\n\n".join(["\n".join(lines), *tables])

    def plot(self) -> Figure:
        """The figure of `attrib.plot.occlusion_panels`."""
        from attrib.plot.occlusion import occlusion_panels

        return occlusion_panels(self.maps, self.view, names=self.names, target=self.asked.name)

    def _saved(self) -> list[tuple[str, Any]]:
        return [("grid", _named(self.maps)), ("pixels", _named(self.maps.upsampled()))]


def _named(maps: OcclusionMaps | PixelMaps) -> dict[str, Tensor]:
    """The maps of the one example, by name."""
    named = {"score": maps.score, "label": maps.label, "feature": maps.feature}
    named |= {f"class_{index}": score for index, score in maps.classes.items()}
    return {name: one[0] for name, one in named.items()}
