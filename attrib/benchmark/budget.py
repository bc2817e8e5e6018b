"""Equal effort: the options with which a method spends a given number of forward passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from attrib import checks
from attrib.core.masking.masks import Windows
from attrib.core.masking.superpixels import superpixels
from attrib.errors import InputError
from attrib.registry import METHODS


@dataclass(frozen=True)
class SampleCount:
    """An option that says how many passes a method makes.

    Attributes:
        option: of the constructor.
        fixed: passes that are made whatever its value, at most: the clean one, those that check a replayed model.
        least: its smallest value.
        gradient: whether every pass also goes backward, which costs about as much again, or twice.
    """

    option: str
    fixed: int
    least: int = 1
    gradient: bool = False


# One pass for each unit of the option, but `shapley_sampling`: one for each unit and region.
SCALES = {
    "ablationcam": SampleCount("channels", 4),
    "extremal_perturbation": SampleCount("steps", 27, gradient=True),  # of the usual 25 places
    "gradient_shap": SampleCount("n_samples", 1, gradient=True),
    "integrated_gradients": SampleCount("n_steps", 1, gradient=True),
    "kernel_shap": SampleCount("n_samples", 1),
    "lime": SampleCount("n_samples", 1),
    "meaningful_perturbation": SampleCount("steps", 3, gradient=True),
    "rise": SampleCount("n", 3),
    "scorecam": SampleCount("channels", 4),
    "shapley_sampling": SampleCount("n_samples", 3),
    "smoothgrad": SampleCount("n_samples", 1, gradient=True),
    "smoothgrad_squared": SampleCount("n_samples", 1, gradient=True),
    "vargrad": SampleCount("n_samples", 1, least=2, gradient=True),
}
_WINDOWS = 4  # passes of occlusion beside one per window


@dataclass(frozen=True)
class Budget:
    """How a method spends a number of forward passes per image.

    Attributes:
        options: of its constructor; empty where nothing can be chosen.
        forwards: the most it spends with them; None where the method alone decides.
        gradient: whether each pass also goes backward.
    """

    options: dict[str, Any] = field(default_factory=dict)
    forwards: int | None = None
    gradient: bool = False

    @property
    def scaled(self) -> bool:
        """Whether the method can be brought to a budget at all."""
        return bool(self.options)

    def __str__(self) -> str:
        if not self.scaled:
            return "cannot be scaled"
        told = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{told} ({self.forwards} forward{' and backward' * self.gradient} passes)"


def options_for(method: str, forwards: int, x: Tensor) -> Budget:
    """Choose a method's sample count so that a map costs at most ``forwards`` forward passes.

    Convention:
        - passes are counted in whole images; the clean one, and those that check a replayed model, are among them.
        - occlusion keeps its usual window, an eighth of the shorter side, and moves it in smaller or larger steps;
          where steps of a whole window are too many, the window grows.
        - ``scorecam`` and ``ablationcam`` take that many channels, or all the layer has if these are fewer.
        - ``extremal_perturbation`` compares its usual 25 discs, whose passes go forward only.
        - a gradient's backward pass is not counted, though it costs about as much as its forward pass or twice that:
          equal passes are not equal time.
        - methods without a sample count (one gradient, say) have no options: they cannot be scaled.

    Args:
        method: registry name.
        forwards: passes per image.
        x: the model's input ``(N, C, H, W)``: windows depend on its size, ``shapley_sampling`` on its superpixels.

    Example:
        >>> for name in ("rise", "occlusion", "smoothgrad", "gradcam"):
        ...     print(name, options_for(name, 150, x))
        rise n=147 (150 forward passes)
        occlusion window=1, stride=1 (148 forward passes)
        smoothgrad n_samples=149 (150 forward and backward passes)
        gradcam cannot be scaled
    """
    METHODS[method]
    checks.integer("forwards", forwards, 1)
    if method == "occlusion":
        return _windows(forwards, x)
    if method not in SCALES:
        return Budget()
    scale = SCALES[method]
    each = _regions(x) if method == "shapley_sampling" else 1
    value = (forwards - scale.fixed) // each
    if value < scale.least:
        raise InputError(
            f"forwards must be at least {scale.least * each + scale.fixed} for {method} on this input; got {forwards}."
        )
    return Budget({scale.option: value}, value * each + scale.fixed, scale.gradient)


def at_equal_budget(methods: Sequence[str], forwards: int, x: Tensor) -> dict[str, Budget]:
    """`options_for` for several methods.

    Args:
        methods: registry names.
        forwards: passes per image.
        x: the model's input ``(N, C, H, W)``.

    Example:
        >>> found = at_equal_budget(["rise", "saliency"], 1000, x)
        >>> found["rise"].options, found["saliency"].scaled
        ({'n': 997}, False)
    """
    return {method: options_for(method, forwards, x) for method in methods}


def _regions(x: Tensor) -> int:
    """The most regions that an example is cut into."""
    return int(superpixels(x).max()) + 1


def _windows(forwards: int, x: Tensor) -> Budget:
    """The smallest step of the usual window that is not too much; a larger window where none is."""
    size = tuple(x.shape[2:])
    for window in range(min(Windows.usual(size).window), max(size) + 1):
        for stride in range(1, window + 1):
            spent = _positions(size, window, stride) + _WINDOWS
            if spent <= forwards:
                return Budget({"window": window, "stride": stride}, spent)
    raise InputError(f"forwards must be at least {_WINDOWS + 1} for occlusion; got {forwards}.")


def _positions(size: Sequence[int], window: int, stride: int) -> int:
    """How many windows cover a map, the last one moved back to its edge."""
    count = 1
    for length in size:
        count *= 1 + max(0, -(-(length - window) // stride))
    return count
