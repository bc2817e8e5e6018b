"""How a perturbation curve is measured: every choice that changes the number, in one printable object."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from attrib import checks
from attrib.core import resolve_baseline
from attrib.core.objectives.objective import SPACES, Space
from attrib.errors import InputError, ShapeError

Order = Literal["morf", "lerf"]
Ties = Literal["stable", "mean", "bounds"]
Sign = Literal["signed", "positive", "absolute"]
Reduction = Literal["max", "mean", "sum", "l2"]
Plain = None | bool | int | float | str | Sequence[Any]

_MEANING = {
    "zero": "zero (model space)",
    "mean": "mean (of each channel)",
    "blur": "blur (11 px, sigma 5 px)",
    "rise_blur": "rise_blur (11 px, sigma 5 px, folded)",
}


@dataclass(frozen=True)
class Protocol:
    """What is hidden, in which order, and what is read off: stated with every number of a perturbation curve.

    Convention:
        - ``baseline`` replaces removed pixels; ``insertion_baseline`` is what insertion starts from (None: the same).
          A name (``"zero"``, ``"mean"``, ``"blur"`` as in `attrib.core.resolve_baseline`; ``"rise_blur"``), a number
          for all channels, or one per channel. ``"zero"`` is 0 in the *model's* space: the mean colour of normalised
          inputs, not black.
        - ``score`` overrides the target's score space; None keeps it. The class is decided once, on the clean input.
        - ``unit`` is ``"pixel"``, or the side of square patches in pixels. A patch's value is the mean of the map over
          it; patches cut off by the right and lower edges are units of their own, with their own area.
        - ``steps`` counts the *points* of a curve, both ends included. They are equally spaced in units, rounded half
          up, and integrated over the fraction of pixels that is really hidden. More points than units means one unit
          per step. ``"rows"`` is one point more than the image has rows.
        - ``steps="adaptive"`` measures 29 of ``max_steps`` such points, then halves intervals that are steep, or beside
          steep ones, until the area is within ``tolerance`` times the curve's range (highest minus lowest score
          measured) of that of all ``max_steps`` points. That is certain where the curve is monotone between the points
          measured; a bump between two of the first 29 points that shows at none is missed.
        - ``order``: ``"morf"`` (most relevant first) gives deletion and insertion, ``"lerf"`` (least relevant first)
          the other half of SRG. LeRF is MoRF exactly backwards, in ties too.
        - ``ties="stable"``: equal units are taken in raster order.
        - ``ties="mean"``: the mean over ``tie_orders`` random orders of equal units, drawn from ``seed`` in pairs of an
          order and its reverse. A *sample* of all orders; exact for maps whose ties cross no step boundary.
        - ``ties="bounds"``: as ``"mean"``; the bounds also try raster order and the two orders by first-order effect
          (gradient times change per pixel). On a linear model these attain the true extremes, if units are equal or
          each is a step; elsewhere the true extremes can lie further out.
        - ``channels`` reduces maps with several channels (``"max"``: the signed value of largest magnitude), ``sign``
          then keeps them, their positive part or their absolute value; then maps are resized to the input's size.

    Args:
        baseline: see above.
        insertion_baseline: see above.
        score: ``"logit"``, ``"probability"``, ``"log_probability"``, ``"log_odds"`` or None.
        unit: ``"pixel"`` or an int >= 1.
        steps: int >= 2, ``"rows"`` or ``"adaptive"``.
        order: one order or several.
        ties: see above.
        sign: ``"signed"``, ``"positive"`` or ``"absolute"``.
        channels: ``"sum"``, ``"mean"``, ``"max"`` or ``"l2"``.
        tie_orders: random orders per example, an even number; unused by ``ties="stable"``.
        seed: of the random orders; unused by ``ties="stable"``.
        tolerance: in [0, 1], share of a curve's range; unused unless ``steps="adaptive"``.
        max_steps: int >= 2 or ``"rows"``; unused unless ``steps="adaptive"``.

    Example:
        >>> print(Protocol(baseline=0.5, steps=11, order="morf"))
        baseline=0.5, insertion_baseline=0.5, score=probability, unit=pixel, steps=11, order=morf, ties=stable (raster
        order), sign=signed, channels=sum
        >>> Protocol.from_dict(Protocol.named("rise").to_dict()) == as_protocol("rise")
        True
    """

    baseline: float | str | tuple[float, ...] = "zero"
    insertion_baseline: float | str | tuple[float, ...] | None = None
    score: Space | None = "probability"
    unit: int | Literal["pixel"] = "pixel"
    steps: int | Literal["rows", "adaptive"] = 26
    order: Order | tuple[Order, ...] = ("morf", "lerf")
    ties: Ties = "stable"
    sign: Sign = "signed"
    channels: Reduction = "sum"
    tie_orders: int = 8
    seed: int = 0
    tolerance: float = 0.01
    max_steps: int | Literal["rows"] = 225

    def __post_init__(self) -> None:
        self._set("baseline", _checked_baseline("baseline", self.baseline))
        if self.insertion_baseline is not None:
            self._set("insertion_baseline", _checked_baseline("insertion_baseline", self.insertion_baseline))
        if self.score is not None:
            checks.choice("score space", self.score, SPACES)
        if self.unit != "pixel":
            self._set("unit", checks.integer("unit, unless 'pixel',", self.unit, 1))
        if self.steps not in ("rows", "adaptive"):
            self._set("steps", checks.integer("steps, unless 'rows' or 'adaptive',", self.steps, 2))
        if self.max_steps != "rows":
            self._set("max_steps", checks.integer("max_steps, unless 'rows',", self.max_steps, 2))
        self._set("order", _checked_order(self.order))
        checks.choice("ties", self.ties, ("stable", "mean", "bounds"))
        checks.choice("sign", self.sign, ("signed", "positive", "absolute"))
        checks.choice("channels", self.channels, ("sum", "mean", "max", "l2"))
        self._set("tie_orders", checks.integer("tie_orders", self.tie_orders, 2))
        self._set("seed", checks.integer("seed", self.seed, 0))
        self._set("tolerance", checks.number("tolerance", self.tolerance, 0, 1))
        if self.tie_orders % 2:
            raise InputError(
                f"tie_orders must be even, because each order is tried with its reverse; got {self.tie_orders}."
            )

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def named(cls, name: str) -> Protocol:
        """Return a preset: ``"default"``, ``"adaptive"`` (the same, with ``steps="adaptive"``) or ``"rise"``.

        RISE has the settings of Petsiuk et al. at any image size: the softmax probability of the class predicted on the
        clean image (target ``"predicted"``); deletion fills in zeros of the normalised image; insertion starts from a
        blur of 11 pixels and sigma 5; one step is one image row of pixels. Their batch code takes eight rows per step.
        Only ties differ: theirs are unstable and reversed.
        """
        return _PRESETS[checks.choice("protocol", name, tuple(_PRESETS))]

    @classmethod
    def from_dict(cls, fields_: Mapping[str, Any]) -> Protocol:
        """Read what `to_dict` wrote; unknown fields are refused."""
        checks.unknown_options("protocol", dict(fields_), tuple(field.name for field in fields(cls)))
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in fields_.items()
        }
        return cls(**given)

    def to_dict(self) -> dict[str, Plain]:
        """Return every field as JSON knows it."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @property
    def insertion(self) -> float | str | tuple[float, ...]:
        """What insertion starts from."""
        return self.baseline if self.insertion_baseline is None else self.insertion_baseline

    @property
    def bend(self) -> float | None:
        """The tolerance where only as many points are measured as it takes; None where all are."""
        return self.tolerance if self.steps == "adaptive" else None

    def points(self, height: int, units: int) -> int:
        """Return the possible points of a curve on an image of ``height`` rows and so many ``units``."""
        steps = self.max_steps if self.steps == "adaptive" else self.steps
        return min(height + 1 if steps == "rows" else steps, units + 1)

    def __str__(self) -> str:
        told: dict[str, object] = {f.name: getattr(self, f.name) for f in fields(self)}
        told["baseline"] = _MEANING.get(str(self.baseline), self.baseline)
        told["insertion_baseline"] = _MEANING.get(str(self.insertion), self.insertion)
        most = told.pop("max_steps")
        bend = f"tolerance {told.pop('tolerance')} of the range, among {most} points"
        told["steps"] = f"adaptive ({bend})" if self.steps == "adaptive" else self.steps
        random = f"{told.pop('tie_orders')} orders, seed {told.pop('seed')}"
        told["unit"] = "pixel" if self.unit == "pixel" else f"{self.unit} px"
        told["score"] = self.score or "the target's own"
        told["order"] = "+".join(self.order)
        told["ties"] = {"stable": "stable (raster order)"}.get(self.ties, f"{self.ties} ({random})")
        return ", ".join(f"{name}={value}" for name, value in told.items())


def _checked_order(order: object) -> tuple[str, ...]:
    items = (order,) if isinstance(order, str) else order
    if not isinstance(items, (tuple, list)) or not items or len(set(items)) < len(items):
        raise InputError(f"order must be 'morf', 'lerf' or both; got {order!r}.")
    for item in items:
        checks.choice("order", item, ("morf", "lerf"))
    return tuple(item for item in ("morf", "lerf") if item in items)


def _checked_baseline(what: str, value: object) -> float | str | tuple[float, ...]:
    if isinstance(value, str):
        return checks.choice(what, value, tuple(_MEANING))
    if isinstance(value, (tuple, list)) and value:
        return tuple(checks.number(what, item) for item in value)
    if isinstance(value, Tensor) or callable(value) or isinstance(value, (tuple, list)):
        raise InputError(
            f"{what} of a protocol must be a name, a number or one number per channel, so that it can be printed and "
            f"stored; got {type(value).__name__}. Known names: {', '.join(map(repr, _MEANING))}."
        )
    return checks.number(what, value)


def rise_blur(x: Tensor) -> Tensor:
    """Blur ``(N, C, H, W)`` as the published code of RISE does, zero-padded.

    Its 11-pixel kernel is a Gaussian of sigma 5, cut at 4 sigma and *folded* back at the kernel's ends (SciPy's
    ``reflect``). It is much flatter than `attrib.core.gaussian_blur`: 0.088 at its ends and 0.094 in the middle.
    """
    size, sigma, reach = 11, 5.0, 20  # SciPy's filters reach 4 sigma
    line = [0.0] * size
    for offset in range(-reach, reach + 1):
        place = (size // 2 + offset) % (2 * size)
        line[min(place, 2 * size - 1 - place)] += math.exp(-(offset**2) / (2 * sigma**2))
    kernel = torch.tensor(line, dtype=torch.float64)
    kernel = (kernel / kernel.sum()).to(x).expand(x.shape[1], 1, size)
    x = F.conv2d(x, kernel[..., None], padding=(size // 2, 0), groups=x.shape[1])
    return F.conv2d(x, kernel[:, :, None], padding=(0, size // 2), groups=x.shape[1])


def make_baseline(baseline: float | str | tuple[float, ...], x: Tensor) -> Tensor:
    """Return what replaces hidden pixels of ``x (N, C, H, W)``, broadcastable to it."""
    if isinstance(baseline, tuple):
        if len(baseline) != x.shape[1]:
            raise ShapeError(f"baseline must have one number for each of {x.shape[1]} channels; got {len(baseline)}.")
        return x.new_tensor(baseline).reshape(1, -1, 1, 1)
    return rise_blur(x) if baseline == "rise_blur" else resolve_baseline(baseline, x)  # type: ignore[arg-type]


def as_protocol(protocol: Protocol | str | Mapping[str, Any]) -> Protocol:
    """Read a protocol, the name of a preset, or what `Protocol.to_dict` gives."""
    if isinstance(protocol, Protocol):
        return protocol
    if isinstance(protocol, Mapping):
        return Protocol.from_dict(protocol)
    if isinstance(protocol, str):
        return Protocol.named(protocol)
    raise InputError(f"protocol must be a Protocol, a name or a dict; got {type(protocol).__name__}.")


_PRESETS = {
    "default": Protocol(),
    "adaptive": Protocol(steps="adaptive"),
    "rise": Protocol(baseline="zero", insertion_baseline="rise_blur", score="probability", steps="rows"),
}
