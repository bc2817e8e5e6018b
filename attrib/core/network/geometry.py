"""Where the locations of an activation are: behind the channels, before them, or in a row of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from attrib.errors import LayerError

Reshape: TypeAlias = Callable[[Tensor], Tensor]
_EXTRA_TOKENS = 16  # class, distillation and register tokens; more are something else


@dataclass(frozen=True)
class Layout:
    """How an activation is laid out.

    Attributes:
        kind: ``"channels_first"`` is ``(N, K, h, w)``, ``"channels_last"`` ``(N, h, w, K)``, ``"tokens"``
            ``(N, prefix + h * w, K)``; 1-D and 3-D inputs have channels first.
        size: the locations, ``(h, w)``.
        prefix: tokens without a location, such as the class token, which stand before the others.
    """

    kind: Literal["channels_first", "channels_last", "tokens"]
    size: tuple[int, ...]
    prefix: int = 0

    @property
    def spatial(self) -> bool:
        """Whether there is more than one location."""
        return prod(self.size) > 1

    @property
    def channels(self) -> int:
        """The axis of the channels."""
        return 1 if self.kind == "channels_first" else 1 + len(self.size) if self.kind == "channels_last" else 2

    def maps(self, act: Tensor) -> Tensor:
        """The activation, or its gradient, as ``(N, K, *size)``; tokens without a location are left out."""
        if self.kind == "tokens":
            return act[:, self.prefix :].transpose(1, 2).reshape(len(act), -1, *self.size)
        return act.movedim(-1, 1) if self.kind == "channels_last" else act


def find_layout(shape: Sequence[int], image: Sequence[int], patch: Sequence[int] | None) -> Layout | None:
    """Find the layout of an activation; None where it has no locations or they are unknown.

    Convention:
        - channels come first, unless only with channels last do height and width fit those of the input.
        - tokens are those of the ``patch`` grid, row by row, behind at most 16 tokens without a location.

    Args:
        shape: of the activation, with the batch axis.
        image: shape of the input, with the batch axis.
        patch: height and width of the patches that tokens stand for, see `patch_of`.
    """
    if len(shape) == 3 and len(image) == 4:
        return _tokens(shape, image, patch)
    if len(shape) == len(image) == 4 and _fits(shape[1:3], image[2:]) and not _fits(shape[2:], image[2:]):
        return Layout("channels_last", tuple(shape[1:3]))
    if len(shape) > 2 and (len(shape) in (4, len(image)) or len(image) < 3):
        return Layout("channels_first", tuple(shape[2:]))
    return None


def _tokens(shape: Sequence[int], image: Sequence[int], patch: Sequence[int] | None) -> Layout | None:
    if patch is None or len(patch) != 2:
        return None
    size = (image[2] // patch[0], image[3] // patch[1])
    prefix = shape[1] - prod(size)
    return Layout("tokens", size, prefix) if 0 <= prefix <= _EXTRA_TOKENS else None


def _fits(size: Sequence[int], image: Sequence[int]) -> bool:
    """Whether one stride, give or take one cell, makes ``size`` of the image."""
    low = max((cells - 1) / length for cells, length in zip(size, image, strict=True))
    high = min((cells + 1) / length for cells, length in zip(size, image, strict=True))
    return low <= high


def patch_of(model: Callable[..., Any]) -> tuple[int, ...] | None:
    """The side lengths of the patches that a model cuts its input into, by its first convolution without overlap."""
    for module in model.modules() if isinstance(model, nn.Module) else ():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            same = tuple(module.kernel_size) == tuple(module.stride) and max(module.stride) > 1
            return tuple(module.stride) if same else None
    return None


def located(act: Tensor, inputs: Tensor, model: Callable[..., Any], layer: str, remedy: str = "") -> Tensor:
    """The activation of ``layer`` with its channels first, ``(N, K, *locations)``; ``(N, K)`` as it is.

    Args:
        act: the activation.
        inputs: that it belongs to.
        model: which has the layer.
        layer: its name, for the error.
        remedy: how the error ends.

    Raises:
        LayerError: it has neither that shape nor locations that are known.
    """
    layout = None if act.ndim == 2 else find_layout(act.shape, inputs.shape, patch_of(model))
    if layout is None and act.ndim != 2:
        raise LayerError(f"layer {layer!r} must give (N, K) or have locations; got {tuple(act.shape)}.{remedy}")
    return act if layout is None else layout.maps(act)


def main_input(inputs: Sequence[Tensor]) -> Tensor:
    """The input with locations: the first of those with most axes."""
    return max(inputs, key=lambda x: x.ndim)
