"""Fooling images: noise that a network is sure about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from attrib import checks
from attrib.core.network.frozen import frozen
from attrib.core.objectives.indices import as_index
from attrib.core.objectives.objective import ClassScore
from attrib.core.synth import PixelSpace
from attrib.core.synth.moves import normalised
from attrib.errors import InputError
from attrib.io.loaded import LoadedModel
from attrib.report.finding import Finding
from attrib.report.table import amount, text_table
from attrib.synthesis.plan import Classes, indices
from attrib.synthesis.starts import input_shape
from attrib.synthesis.subject import BATCH, Network, Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Start = Literal["noise", "grey", "black"]
STARTS: tuple[Start, ...] = ("noise", "grey", "black")


@dataclass(frozen=True, eq=False)
class Fooling(Finding):
    """Images that a network is sure about, and in which nobody sees anything.

    Attributes:
        images: as inputs of the network, ``(N, C, H, W)``.
        start: where each began, likewise.
        target: the class of each, ``(N,)``.
        probability: of that class, ``(N,)``.
        reached: whether it is the confidence that was asked for, ``(N,)`` bool.
        taken: steps, ``(N,)``.
        curve: probability at every step, ``(steps + 1, N)``; an image that is done keeps its own.
        confidence: what was asked for.
        step: length of a step, pixels.
        subject: the network, its normalisation and its class names.
    """

    images: Tensor
    start: Tensor
    target: Tensor
    probability: Tensor
    reached: Tensor
    taken: Tensor
    curve: Tensor
    confidence: float
    step: float
    subject: Subject = field(metadata={"saved": False}, repr=False)

    def table(self) -> list[dict[str, Any]]:
        """One row per image."""
        return [
            {
                "class": self.subject.label(int(self.target[i])),
                "probability": float(self.probability[i]),
                "outcome": "reached" if self.reached[i] else "not reached",
                "steps": int(self.taken[i]),
            }
            for i in range(len(self.images))
        ]

    @property
    def manifest(self) -> dict[str, Any]:
        """All facts as JSON holds them, with the rows of the table."""
        return super().manifest | {"normalisation": self.subject.space.__dict__, "rows": self.table()}

    def to_text(self, *, markdown: bool = False) -> str:
        """Which classes were reached, and how fast."""
        rows = [{key: value if isinstance(value, str) else amount(value) for key, value in row.items()}
                for row in self.table()]  # fmt: skip
        told = f"{int(self.reached.sum())} of {len(self.images)} reached probability {self.confidence:g}."
        return f"{told}\n\n{text_table(rows, markdown=markdown)}"

    def plot(self) -> Figure:
        """Draw each image below where it began."""
        from attrib.plot.adversarial import fooling_panels

        return fooling_panels(self)


def fool(  # noqa: PLR0913  the paper's settings, and the network's
    model: Network,
    target: Classes,
    start: Start | Tensor = "noise",
    *,
    shape: Sequence[int] | None = None,
    confidence: float = 0.99,
    steps: int = 200,
    step: float = 1 / 255,
    pixels: PixelSpace | None = None,
    seed: int = 0,
    additional_forward_args: object = None,
    batch_size: int = BATCH,
) -> Fooling:
    r"""Make images that the network is sure about, from noise or from nothing.

    .. math:: x_{t+1} = \mathrm{clip}_{[0, 1]}\big(x_t + \alpha\, \mathrm{sign}(\nabla_x \log p_c(x_t))\big)

    until :math:`p_c(x_t) \ge` ``confidence``.

    Convention:
        - no ball and no prior: only black and white bound the image.
        - every image stops by itself; those that do not arrive in ``steps`` steps are kept and counted.
        - the noise is the same for all classes: what differs between their images is what the network asked for.

    Cost: at most ``steps`` forward and backward passes and ``steps + 1`` forward passes per image.

    Args:
        model: a `attrib.io.LoadedModel`, or an ``nn.Module`` or callable with outputs ``(N, C)``.
        target: one class or several; one image each.
        start: uniform ``"noise"`` in [0, 1], ``"grey"`` 0.5, ``"black"`` 0, or inputs ``(N, C, H, W)`` or
            ``(1, C, H, W)`` as the network takes them.
        shape: ``(C, H, W)`` of an image; as the network's preprocessing gives it if None.
        confidence: probability at which an image is done, below 1.
        steps: at most so many.
        step: length of one, pixels.
        pixels: as in `attrib.synthesis.attack`.
        seed: of the noise.
        additional_forward_args: as in `attrib.Attribution.attribute`.
        batch_size: images in a pass.

    Example:
        >>> from attrib.core.synth import PixelSpace
        >>> found = fool(model, [3, 5], shape=(3, 12, 12), confidence=0.2, pixels=PixelSpace(mean=0.5, std=0.02))
        >>> found.reached.tolist()
        [True, True]

    References:
        Nguyen, Yosinski, Clune, "Deep Neural Networks are Easily Fooled", CVPR 2015: gradient ascent, here without
        their penalty.
    """
    checks.integer("steps", steps, 1)
    checks.number("confidence", confidence, 0, 1)
    if not (0 < confidence < 1 and checks.number("step", step, 0) > 0):
        raise InputError(f"confidence must lie between 0 and 1 and step be above 0; got {confidence!r} and {step!r}.")
    subject = Subject.of(model, pixels, additional_forward_args, batch_size)
    asked = as_index(list(target) if isinstance(target, tuple) else target)
    wanted = asked if isinstance(asked, Tensor) else torch.tensor([asked])
    with frozen(subject.model):
        size = () if isinstance(start, Tensor) else shape or _shape(model)
        first = _start(subject, start, size, seed)
        x = first.expand(len(wanted), *first.shape[1:]) if len(first) == 1 else first
        goal = indices("target", wanted, subject.chances(x))
        return _climbed(subject, x, goal, confidence, steps, step)


def _shape(model: Network) -> tuple[int, ...]:
    if not isinstance(model, LoadedModel):
        raise InputError("shape must be given for a bare model, whose preprocessing is not known; got None.")
    return input_shape(model, None)


def _start(subject: Subject, start: Start | Tensor, shape: Sequence[int], seed: int) -> Tensor:
    """Inputs to begin with, on the device and in the dtype of the network."""
    if isinstance(start, Tensor):
        (x,) = checks.batch(start)
        subject.picture(x)
        return x.detach().clone()
    checks.choice("start, unless a tensor,", start, STARTS)
    size = (1, *(checks.integer("shape", side, 1) for side in shape))
    source = torch.Generator().manual_seed(checks.integer("seed", seed, 0))
    flat = {"grey": 0.5, "black": 0.0}
    found = torch.full(size, flat[start]) if start in flat else torch.rand(size, generator=source)
    return subject.space.to_input(found.to(subject.like))


def _climbed(subject: Subject, x: Tensor, goal: Tensor, confidence: float, steps: int, step: float) -> Fooling:
    picture = subject.picture(x)
    taken = torch.zeros_like(goal)
    reached = torch.zeros_like(goal, dtype=torch.bool)
    curve = picture.new_zeros(steps + 1, len(x))
    for count in range(steps + 1):
        rows = (~reached).nonzero()[:, 0]
        part = subject.rows(x, rows)
        chance = part.chances(subject.space.to_input(picture[rows])).gather(1, goal[rows, None])[:, 0]
        curve[count:, rows] = chance.to(curve)
        reached[rows], taken[rows] = chance >= confidence, count
        going = rows[chance < confidence]
        if count == steps or not len(going):
            break
        slope = subject.rows(x, going).slope(picture[going], ClassScore(goal[going, None], "log_odds"))
        picture[going] = (picture[going] + step * normalised(slope, "sign")).clamp(0, 1)
    found = (subject.space.to_input(picture), x, goal, curve[-1], reached, taken, curve)
    return Fooling(*found, confidence, step, subject)
