"""DeepDream: a picture with more and more of what a layer sees in it, from coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from attrib import checks
from attrib.core.network.capture import capture
from attrib.core.network.frozen import frozen
from attrib.core.network.layers import resolve
from attrib.core.network.passes import forward
from attrib.core.objectives.features import Energy, Guided
from attrib.core.objectives.objective import Objective
from attrib.core.objectives.targets import as_objective
from attrib.core.synth import Bounds, Jitter, Move, PixelSpace, Search, Synthesis, synthesize
from attrib.errors import InputError
from attrib.io.loaded import LoadedModel
from attrib.report.finding import Finding
from attrib.report.store import writing
from attrib.report.table import amount, text_table
from attrib.synthesis.starts import channels
from attrib.synthesis.subject import Network, Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALLEST = 16  # pixels: below, hardly any network has places left


@dataclass(frozen=True, eq=False)
class Dream(Finding):
    """A dreamt picture.

    Attributes:
        picture: ``(C, H, W)`` in [0, 1].
        frames: the picture after each octave, coarse to fine, each at its own size.
        score: of each octave, ``(steps + 1,)``: at its start, and after each step.
        asked: what was asked for, in words.
        stopped: ``"done"``, or ``"interrupted"``: later octaves are missing then, and ``picture`` is the last frame.
    """

    picture: Tensor
    frames: tuple[Tensor, ...]
    score: tuple[Tensor, ...]
    asked: str
    stopped: str

    def to_text(self, *, markdown: bool = False) -> str:
        """A row per octave: its size, the objective before and after."""
        rows = [
            {
                "octave": str(i + 1),
                "size": "x".join(map(str, frame.shape[-2:])),
                "score at the start": amount(float(score[0])),
                "at the end": amount(float(score[-1])),
            }
            for i, (frame, score) in enumerate(zip(self.frames, self.score, strict=True))
        ]
        return f"{self.asked}\n\n{text_table(rows, markdown=markdown)}"

    def plot(self) -> Figure:
        """The picture after each octave."""
        from attrib.plot.synthesis import images

        return images(self.frames, [f"octave {i + 1}" for i in range(len(self.frames))], foot=self.asked)

    def movie(self, path: str | PathLike[str], *, seconds: float = 0.5) -> Path:
        """Write the frames, all at the size of the last one, as ``.gif`` or ``.mp4``, ``seconds`` each.

        Raises:
            MissingDependency: imageio is not installed; for ``.mp4`` imageio-ffmpeg is needed too.
        """
        place = Path(path)
        checks.choice("a movie's suffix", place.suffix.lower(), (".gif", ".mp4"))
        writer = checks.require("imageio.v2", "a movie", "movie")
        if place.suffix.lower() == ".mp4":
            checks.require("imageio_ffmpeg", "an mp4", "movie")
        size = self.frames[-1].shape[-2:]
        shown = [_resized(frame[None], size)[0].clamp(0, 1).mul(255).round().byte() for frame in self.frames]
        arrays = [frame.expand(3, -1, -1).permute(1, 2, 0).numpy() for frame in shown]
        how: dict[str, Any] = {"duration": 1000 * seconds} if place.suffix.lower() == ".gif" else {"fps": 1 / seconds}
        with writing(place):
            writer.mimsave(place, arrays, **how)
        return place


def dream(
    model: Network,
    image: Image.Image | Tensor,
    layer: str | Sequence[str] | Objective,
    *,
    guide: Image.Image | Tensor | None = None,
    octaves: int = 4,
    scale: float = 1.4,
    pixels: PixelSpace | None = None,
    **changes: Any,
) -> Dream:
    r"""Move a picture towards more activation of a layer, first of its small copies, then of larger ones.

    .. math:: I^* = \arg\max_I \sum_i f_i(I)^2, \qquad
        I \leftarrow \operatorname{clip}\big(I + \eta\, g / \operatorname{mean}|g|\big)

    Convention:
        - of each octave the details that were added are kept, enlarged, and added to the picture at the next size: the
          picture itself is never blurred by the enlargement.
        - the gradient of :math:`\tfrac12 \sum f_i^2` at the layer is the activation itself, as in the published script.
        - a step is ``move`` in the network's own units; the picture stays between black and white.
        - with ``guide``, each place of the layer is drawn to the place of the guide's that it is most like.

    Cost: one forward pass up to the layer and one backward pass per step and octave.

    Args:
        model: a `attrib.io.LoadedModel`, or a module with ``pixels``.
        image: a picture, which keeps its size, or ``(1, C, H, W)`` as the network takes it.
        layer: a layer, several whose sums are added, or any objective, such as a class or ``"layer4:7"``.
        guide: another picture, whose features at ``layer`` (one) are sought.
        octaves: how many sizes; the last one is the picture's own.
        scale: from one size to the next.
        pixels: how pixels become inputs; as the LoadedModel says if None.
        changes: settings of `attrib.core.synth.Search`, 10 steps of ``Move(0.03, "l1")`` with ``Jitter(32)`` unless
            given; ``tile`` bounds the memory for large pictures.

    Raises:
        InputError: the smallest octave has fewer than 16 pixels.

    Example:
        >>> from attrib.core.synth import PixelSpace
        >>> found = dream(model, torch.rand(1, 3, 40, 32), "conv", octaves=2, pixels=PixelSpace(), steps=2)
        >>> [tuple(frame.shape) for frame in found.frames], all(s[-1] > s[0] for s in found.score)
        ([(3, 29, 23), (3, 40, 32)], True)

    References:
        Mordvintsev, Olah and Tyka, "Inceptionism: Going Deeper into Neural Networks", 2015, and its published script.
    """
    subject = Subject.of(model, pixels)
    base = _input(image, model, subject)
    goal, asked = _goal(subject, layer, None if guide is None else _input(guide, model, subject))
    sizes = octave_sizes(base.shape[-2:], octaves, scale)
    search = _search(subject.space, changes)
    detail = torch.zeros_like(base[..., :1, :1])
    frames, found = [], list[Synthesis]()
    for size in sizes:
        octave = _resized(base, size)
        start = octave + _resized(detail, size)
        found.append(synthesize(subject.model, goal, start, search))
        detail = found[-1].image - octave
        frames.append(subject.space.to_picture(found[-1].image)[0].clamp(0, 1).cpu())
        if found[-1].stopped == "interrupted":
            break
    return Dream(frames[-1], tuple(frames), tuple(one.score[:, 0] for one in found), asked, found[-1].stopped)


def octave_sizes(size: Sequence[int], octaves: int, scale: float) -> list[tuple[int, int]]:
    """Heights and widths, coarse to fine.

    Example:
        >>> octave_sizes((140, 70), 3, 1.4)
        [(71, 36), (100, 50), (140, 70)]
    """
    checks.integer("octaves", octaves, 1)
    if not checks.number("scale", scale) > 1:
        raise InputError(f"scale must be above 1; got {scale}.")
    sizes = [(round(size[0] / scale**i), round(size[1] / scale**i)) for i in reversed(range(octaves))]
    if min(sizes[0]) < min(SMALLEST, *size):
        raise InputError(
            f"octaves must leave {SMALLEST} pixels to the smallest picture; got {octaves} of scale {scale}, which make "
            f"{sizes[0][0]}x{sizes[0][1]} of {size[0]}x{size[1]}. Take fewer."
        )
    return sizes


def _search(space: PixelSpace, changes: dict[str, Any]) -> Search:
    checks.unknown_options("search", changes, tuple(Search.__dataclass_fields__))
    usual: dict[str, Any] = {
        "steps": 10,
        "move": Move(0.03, "l1"),
        "views": (Jitter(32),),
        "projections": (Bounds(space),),
    }
    search = Search(**{**usual, **changes})
    if not search.parameters.pixels:
        raise InputError(
            f"parameters must be the pixels of the picture; got {type(search.parameters).__name__}. Leave them out."
        )
    return search


def _input(image: Image.Image | Tensor, model: Network, subject: Subject) -> Tensor:
    """A picture at its own size, as the network takes it."""
    if isinstance(image, Image.Image):
        from attrib.io.images import as_array, as_rgb

        mean = model.mean if isinstance(model, LoadedModel) else None
        grey = (len(mean) if mean is not None else channels(subject.model)) == 1
        array = np.array(as_rgb(image).convert("L"))[..., None] if grey else as_array(image)
        picture = torch.from_numpy(array).permute(2, 0, 1)[None].to(torch.float32) / 255
        return subject.space.to_input(subject.placed(picture))
    checks.batch(image)
    x = checks.shape(image, "1 c h w", "image")
    subject.picture(x)
    return subject.placed(x)


def _goal(subject: Subject, layer: str | Sequence[str] | Objective, guide: Tensor | None) -> tuple[Objective, str]:
    unit = isinstance(layer, str) and ":" in layer
    if unit or not isinstance(layer, (str, list, tuple)):
        if guide is not None:
            raise InputError("guide must be left out where an objective is given; it goes with a layer.")
        return as_objective(layer), str(layer) if isinstance(layer, (str, int)) else type(layer).__name__
    if not layer:
        raise InputError("layer must name at least one layer; got none.")
    names = [resolve(subject.model, one) for one in ([layer] if isinstance(layer, str) else layer)]
    if guide is None:
        energies: list[Objective] = [Energy(name) for name in names]
        return reduce(add, energies), f"energy of {' + '.join(names)}"
    if len(names) != 1:
        raise InputError(f"layer must be one layer where there is a guide; got {', '.join(names)}.")
    with frozen(subject.model), torch.no_grad(), capture(subject.model, *names) as acts:
        forward(subject.model, (guide,))
    return Guided(names[0], acts[names[0]][0].detach()), f"features of the guide at {names[0]}"


def _resized(image: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return F.interpolate(image, size=tuple(size), mode="bilinear", align_corners=False, antialias=True)
