"""What `occlude` returns: the maps under a moving square of one picture, and how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from attrib.report.facts import described
from attrib.report.records import Asked, Spent
from attrib.report.store import AnyPath, new_directory, to_json, write_array, write_text, writing
from attrib.report.table import text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from attrib.analysis.occlusion.maps import OcclusionMaps


@dataclass(frozen=True, eq=False)
class Occluded:
    """Maps of one picture, and everything needed to get them again.

    Attributes:
        image: its name.
        view: what the model saw, as a picture.
        maps: see `attrib.analysis.OcclusionMaps`, with one example.
        asked: what the target meant.
        names: of the classes that come up, by number.
        spent: what it took.
        about: facts for the manifest.
    """

    image: str
    view: Image.Image = field(repr=False)
    maps: OcclusionMaps
    asked: Asked
    names: Mapping[int, str]
    spent: Spent
    about: Mapping[str, Any] = field(repr=False)

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
            f"total activation of {self.maps.layer} channel {int(self.maps.channel[0])} {float(clean.feature[0]):.3g}; "
            f"under the window from {float(feature.min()):.3g} to {float(feature.max()):.3g}",
        ]
        shown = [
            {"most probable": f"{row['name']} ({row['class']})", "positions": f"{row['share']:.1%}"}
            for row in self.table()
        ]
        return "\n".join([*lines, "", text_table(shown, markdown=markdown)])

    def plot(self) -> Figure:
        """The figure of `attrib.plot.occlusion_panels`."""
        from attrib.plot.occlusion import occlusion_panels

        return occlusion_panels(self.maps, self.view, names=self.names, target=self.asked.name)

    def save(self, directory: AnyPath, *, figures: bool = False) -> Path:
        """Write a new directory, whole or not at all: ``manifest.json``, ``maps/*.npy`` and, if asked, the figure.

        Raises:
            OutputError: the directory is taken or cannot be written.
        """
        with new_directory(directory) as folder:
            self.write(folder, figures=figures)
        return Path(directory)

    def write(self, folder: Path, *, figures: bool = False) -> None:
        """Write the files of `save` into a directory that exists."""
        found = self.maps
        maps = {"score": found.score, "label": found.label, "feature": found.feature}
        maps |= {f"class_{index}": score for index, score in found.classes.items()}
        manifest = self.manifest
        manifest["maps"] = {name: write_array(folder, f"maps/{name}.npy", one[0]) for name, one in maps.items()}
        if figures:
            manifest["figure"] = "figure.png"
            with writing("figure.png"):
                self.plot().savefig(folder / "figure.png")
        write_text(folder, "manifest.json", to_json(manifest))
