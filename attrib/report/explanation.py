"""What `explain` returns: raw maps of several methods for several images and targets, and how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from attrib.errors import InputError, did_you_mean
from attrib.report.facts import described
from attrib.report.records import Asked, Failure, Spent
from attrib.report.store import (
    AnyPath,
    file_names,
    image_names,
    new_directory,
    to_json,
    write_array,
    write_text,
    writing,
)
from attrib.report.table import amount, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Explanation:
    """Maps, and everything needed to get them again.

    Convention:
        - a map is what the method gave: signed, not normalised, at the method's own resolution.
        - costs are sums over all images and targets; `table` divides them by the number of maps.
        - a pass that several methods read counts for each of them, so that costs do not add up: ``total`` is the run's.

    Attributes:
        images: a name for each image.
        inputs: what the model saw, ``(N, C, H, W)``, on the CPU.
        views: the same as pictures, or None where only tensors were given.
        asked: for each target, in words, what it meant for each image.
        maps: for each method and target ``(N, 1, h, w)``, on the CPU; what failed is missing.
        layers: where each method looked, None for the inputs; ``"auto"`` is resolved.
        costs: what each method took.
        total: what all methods took together, every pass once.
        failures: what is missing, and why.
        about: facts for the manifest: versions, model, inputs, methods with their options, device.
    """

    images: tuple[str, ...]
    inputs: Tensor = field(repr=False)
    views: tuple[Image.Image, ...] | None = field(repr=False)
    asked: Mapping[str, tuple[Asked, ...]]
    maps: Mapping[str, Mapping[str, Tensor]] = field(repr=False)
    layers: Mapping[str, str | None]
    costs: Mapping[str, Spent]
    total: Spent
    failures: tuple[Failure, ...]
    about: Mapping[str, Any] = field(repr=False)

    @property
    def methods(self) -> tuple[str, ...]:
        """Labels of the methods that gave at least one map, in the order asked for."""
        return tuple(self.maps)

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets in words, in the order asked for."""
        return tuple(self.asked)

    @property
    def manifest(self) -> dict[str, Any]:
        """All facts as JSON holds them; `save` adds the files."""
        return {
            **described(self.about),
            "images": list(self.images),
            "targets": {target: [asdict(row) for row in rows] for target, rows in self.asked.items()},
            "costs": {method: asdict(spent) for method, spent in self.costs.items()},
            "total": asdict(self.total),
            "failures": [asdict(failure) for failure in self.failures],
        }

    def index(self, image: int | str) -> int:
        """Position of an image that is given by name or position."""
        if isinstance(image, int) and -len(self.images) <= image < len(self.images):
            return image % len(self.images)
        if image in self.images:
            return self.images.index(str(image))
        raise InputError(
            f"image must be one of {', '.join(map(repr, self.images))} or its position; got {image!r}."
            f"{did_you_mean(str(image), self.images)}"
        )

    def table(self) -> list[dict[str, Any]]:
        """One row per method: where it looked, the shape of its maps, and what one map took."""
        rows: list[dict[str, Any]] = []
        for method, found in self.maps.items():
            first = next(iter(found.values()))
            maps = sum(len(maps) for maps in found.values())
            size = f"{first.shape[-2]}x{first.shape[-1]}"
            rows.append({"method": method, "layer": self.layers[method], "map": size, **self.costs[method].row(maps)})
        return rows

    def to_text(self, *, markdown: bool = False) -> str:
        """What was explained, the table of methods, and what failed."""
        asked = [
            f"{name}: {rows[i]}" + (f" [{target}]" if len(self.asked) > 1 else "")
            for i, name in enumerate(self.images)
            for target, rows in self.asked.items()
        ]
        heads = {"method": "method", "layer": "layer", "map": "map", "forwards": "forwards", "backwards": "backwards"}
        heads |= {"seconds": "seconds", "memory_mb": "memory MB"}
        shown = [{head: _cell(row[key]) for key, head in heads.items()} for row in self.table()]
        failed = [f"failed: {failure}" for failure in self.failures]
        return "\n".join([*asked, "", text_table(shown, markdown=markdown), *self._sharing(), *failed])

    def _sharing(self) -> list[str]:
        if not any(spent.shared_forwards for spent in self.costs.values()):
            return []
        whole = self.total
        return [
            f"Passes that methods share count for each; all maps together took {whole.forwards} forwards, "
            f"{whole.backwards} backwards and {amount(whole.seconds)} s."
        ]

    def plot(self, image: int | str = 0, *, picture: object = None, **look: Any) -> Figure:
        """Draw one image with every method's map, for each target.

        Args:
            image: its name or position.
            picture: what to draw under the maps; needed where only tensors were explained.
            look: see `attrib.plot.panels`.
        """
        from attrib.plot.panels import panels

        i = self.index(image)
        seen = picture if picture is not None or self.views is None else self.views[i]
        maps = {method: {target: one[i] for target, one in found.items()} for method, found in self.maps.items()}
        names = {target: str(rows[i]) for target, rows in self.asked.items()}
        notes = {method: self.layers[method] or "" for method in maps}
        return panels(self.inputs[i] if seen is None else seen, maps, names=names, notes=notes, **look)

    def save(self, directory: AnyPath, *, figures: bool = False) -> Path:
        """Write a new directory, whole or not at all.

        It holds ``manifest.json`` (strict JSON), ``inputs.npy`` and one ``.npy`` per method and target under ``maps``.

        Args:
            directory: must not exist, or be empty.
            figures: also draw one picture per image under ``figures``.

        Raises:
            OutputError: the directory is taken or cannot be written.
        """
        with new_directory(directory) as folder:
            self.write(folder, figures=figures)
        return Path(directory)

    def write(self, folder: Path, *, figures: bool = False) -> None:
        """Write the files of `save` into a directory that exists."""
        manifest = self.manifest | {"inputs": write_array(folder, "inputs.npy", self.inputs), "maps": {}}
        methods, targets = file_names(self.methods), file_names(self.targets)
        for method, found in self.maps.items():
            manifest["maps"][method] = {
                target: write_array(folder, f"maps/{methods[method]}/{targets[target]}.npy", maps)
                for target, maps in found.items()
            }
        if figures:
            manifest["figures"] = self._draw(folder)
        write_text(folder, "manifest.json", to_json(manifest))

    def _draw(self, folder: Path) -> dict[str, str]:
        drawn, names = {}, image_names(self.images)
        for i, name in enumerate(self.images):
            figure = self.plot(i)
            drawn[name] = f"figures/{names[name]}.png"
            with writing(drawn[name]):
                (folder / "figures").mkdir(exist_ok=True)
                figure.savefig(folder / drawn[name])
        return drawn


def _cell(value: object) -> str:
    return amount(value) if isinstance(value, (int, float)) or value is None else str(value)
