"""Photos as HOG sees them: glyphs, and what ridge regression and a paired dictionary make of the features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from attrib import checks
from attrib.analysis.hog.dictionary import fit_dictionary
from attrib.analysis.hog.inverter import Fidelity, Inverter, fidelity, luma
from attrib.analysis.hog.ridge import fit_ridge
from attrib.errors import InputError
from attrib.io.samples import open_samples
from attrib.models.hog import HOG
from attrib.report.finding import Finding
from attrib.report.table import text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GLYPH = 8  # pixels: the smallest cell in which scikit-image's lines look like lines
Scores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class HOGViews(Finding):
    """Photos and what their HOG features know of them; mappings are by the name of the photo.

    Attributes:
        pictures: the photos as HOG got them, ``(3, H, W)`` in [0, 1].
        glyphs: `attrib.plot.hog_glyph` of each, ``(H, W)``.
        views: for each way of inverting, ``(1, height, width)`` for each photo, not clipped.
        psnr: of each view, against the photo in grey, dB.
        correlation: likewise.
        examples: photos that the inverters learned from.
        settings: of the HOG and the inverters.
    """

    pictures: Mapping[str, Tensor]
    glyphs: Mapping[str, Tensor]
    views: Mapping[str, Mapping[str, Tensor]]
    psnr: Scores
    correlation: Scores
    examples: int
    settings: Mapping[str, Any]

    def with_view(self, view: str, pictures: Mapping[str, Tensor]) -> HOGViews:
        """The same with a further view, such as what `attrib.synthesis.invert` found.

        Args:
            view: what to call it.
            pictures: for each photo ``(1, h, w)`` or ``(3, h, w)``, from its upper left corner.
        """
        if set(pictures) != set(self.pictures):
            got, known = (", ".join(map(repr, names)) for names in (pictures, self.pictures))
            raise InputError(f"pictures must be of the photos {known}; got {got}.")
        grey = {name: luma(one[None])[0] if len(one) == 3 else one for name, one in pictures.items()}
        found = {name: _compare(one, self.pictures[name]) for name, one in grey.items()}
        return replace(
            self,
            views={**self.views, view: grey},
            psnr={**self.psnr, view: {name: float(one.psnr) for name, one in found.items()}},
            correlation={**self.correlation, view: {name: float(one.correlation) for name, one in found.items()}},
        )

    def to_text(self, *, markdown: bool = False) -> str:
        """How near each view is to its photo."""
        rows = [
            {
                "photo": name,
                "view": view,
                "PSNR, dB": f"{self.psnr[view][name]:.2f}",
                "correlation": f"{self.correlation[view][name]:.3f}",
            }
            for name in self.pictures
            for view in self.views
        ]
        return f"learned from {self.examples} photos\n\n{text_table(rows, markdown=markdown)}"

    def plot(self) -> Figure:
        """The figure of `attrib.plot.hog_panels`."""
        from attrib.plot.hog import hog_panels

        return hog_panels(self)


def see_hog(  # noqa: PLR0913  how HOG sees, and how it is inverted
    images: object,
    examples: object,
    *,
    hog: HOG | None = None,
    window: int = 4,
    size: int = 256,
    dictionary: bool = True,
    atoms: int = 256,
    per_image: int = 600,
    seed: int = 0,
    show_progress: bool = False,
) -> HOGViews:
    """Show photos as HOG sees them: glyphs beside pictures made from the features, by what other photos teach.

    Convention:
        - photos are scaled down to ``size``; what fills no cell at their right and lower rim is not seen.
        - inverters learn from the examples and their mirror images, and give grey pictures. A photo that is among the
          examples is remembered, not seen: take others.
        - the HOG that is inverted has signed orientations unless another is given; the glyphs are scikit-image's, in 9
          unsigned orientations, in cells of 8 pixels or, if they are larger, those of ``hog``.

    Cost: what `fit_ridge` and `fit_dictionary` cost: for three examples about 20 seconds on one core, 4 without the
    dictionary.

    Args:
        images: the photos to see: a PIL image, names to images, or anything that `attrib.io.open_samples` opens.
        examples: photos to learn from, likewise.
        hog: the features; 18 signed orientations, cells of 4 pixels, blocks of 2 cells if None.
        window: blocks in a window, see `fit_ridge`.
        size: the longer side, in pixels; smaller photos stay as they are.
        dictionary: learn a paired dictionary too.
        atoms: see `fit_dictionary`.
        per_image: see `fit_dictionary`.
        seed: see `fit_dictionary`.
        show_progress: progress bars on standard error.

    Raises:
        MissingDependency: scikit-image or scikit-learn is not installed.

    Example:
        >>> noise = np.random.default_rng(0).integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)
        >>> photo, *others = (Image.fromarray(one) for one in noise)
        >>> found = see_hog(photo, {"one": others[0], "other": others[1]}, dictionary=False)
        >>> found.views["ridge"]["image"].shape
        torch.Size([1, 40, 48])

    References:
        Vondrick, Khosla, Malisiewicz, Torralba, "HOGgles: Visualizing Object Detection Features", ICCV 2013.
    """
    checks.integer("size", size, 1)
    hog = hog or HOG(signed=True, orientations=18, pixels_per_cell=4, cells_per_block=2)
    pictures, lessons = _photos(images, size), list(_photos(examples, size).values())
    learned = [one[None] for photo in lessons for one in (photo, photo.flip(2))]
    shared: dict[str, Any] = {"window": window, "show_progress": show_progress}
    inverters: dict[str, Inverter] = {"ridge": fit_ridge(learned, hog, **shared)}
    if dictionary:
        shared |= {"atoms": atoms, "per_image": per_image, "seed": seed}
        inverters["paired dictionary"] = fit_dictionary(learned, hog, **shared)
    return _views(pictures, inverters, hog, len(lessons), {"window": window, "size": size, "seed": seed})


def _views(
    pictures: Mapping[str, Tensor], inverters: Mapping[str, Inverter], hog: HOG, examples: int, how: Mapping[str, int]
) -> HOGViews:
    from attrib.plot.hog import hog_glyph

    high, wide = (max(GLYPH, side) for side in hog.cells.step)
    glyphs = {name: hog_glyph(x, pixels_per_cell=(high, wide)) for name, x in pictures.items()}
    found = HOGViews(pictures, glyphs, {}, {}, {}, examples, {**_settings(hog), **how})
    for view, one in inverters.items():
        found = found.with_view(view, {name: one.of(x[None])[0] for name, x in pictures.items()})
    return found


def _compare(found: Tensor, photo: Tensor) -> Fidelity:
    high, wide = found.shape[1:]
    return fidelity(found[None], luma(photo[None])[..., :high, :wide], 1.0)


def _photos(data: object, size: int) -> dict[str, Tensor]:
    """Photos by name, ``(3, H, W)`` in [0, 1]."""
    samples = open_samples({"image": data} if isinstance(data, Image.Image) else data)
    found = {}
    for name, sample in zip(samples.names, samples, strict=True):
        if not isinstance(sample.image, Image.Image):
            raise InputError(f"images must be pictures; got a {type(sample.image).__name__} for {name!r}.")
        photo = sample.image.convert("RGB")
        photo.thumbnail((size, size), Image.Resampling.LANCZOS)
        found[name] = torch.from_numpy(np.array(photo)).movedim(2, 0).float() / 255
    return found


def _settings(hog: HOG) -> dict[str, Any]:
    cells, blocks = hog.cells, hog.blocks
    return {
        "orientations": cells.orientations,
        "signed": cells.turn == 360,
        "pixels_per_cell": "x".join(map(str, cells.step)),
        "cells_per_block": "x".join(map(str, blocks.block)),
        "block_norm": blocks.norm,
    }
