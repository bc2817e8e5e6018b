"""Where the locations of an activation are: behind the channels, before them, or in a row of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from attrib.core.network.order import channels_last, patch_convolution
from attrib.errors import LayerError

Reshape: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Layout:
    """How an activation is laid out.

    Attributes:
        kind: ``"channels_first"`` is ``(N, K, h, w)``, ``"channels_last"`` ``(N, h, w, K)``, ``"tokens"``
            ``(N, prefix + h * w, K)``; of signals and volumes with one place axis, or three.
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


def layout_of(model: Callable[..., Any], layer: str, shape: Sequence[int], image: Sequence[int]) -> Layout | None:
    """Find the layout of the activation of ``layer``; None where it has no places, or they are not known for sure.

    Convention:
        - whether channels come first or last say the modules that make the activation, see `channels_last`; where they
          do not, only one of the two may have places that fit the input; what has its shape has its axes.
        - tokens are those of the patches, row by row, behind a class token and those that the model has learned.
        - the first axis holds the examples: as many as of the inputs.

    Args:
        model: that has the layer.
        layer: its address.
        shape: of the activation, with the batch axis.
        image: shape of the input, with the batch axis, see `main_input`.
    """
    name, _, side = layer.partition("@")
    last = None
    if isinstance(model, nn.Module) and len(shape) > 2:
        last = channels_last(model, name.partition("#")[0], side or "output", shape)
        if len(shape) == 3 and shape[0] == shape[1] and _sequence_first(model):
            return None  # (N, T, K) or (T, N, K)
    return find_layout(shape, image, patch_of(model), last, learned_tokens(model))


def find_layout(
    shape: Sequence[int],
    image: Sequence[int],
    patch: Sequence[int] | None,
    last: bool | None = None,
    learned: Sequence[int] = (),
) -> Layout | None:
    """Find the layout from shapes alone, as `layout_of` does for a layer.

    Args:
        shape: of the activation, with the batch axis.
        image: shape of the input, with the batch axis.
        patch: lengths of the patches that tokens stand for, see `patch_of`.
        last: whether channels stand last; None decides by which places fit the input.
        learned: how many tokens the model has learned, see `learned_tokens`.
    """
    if len(shape) < 3 or shape[0] != image[0]:
        return None
    if len(image) < 3:
        return Layout("channels_first", tuple(shape[2:]))
    if len(shape) == 3 and (len(image) > 3 or (last and patch)):
        return _tokens(shape, image, patch, learned)
    if len(shape) not in (4, len(image)) or (len(shape) == 3 and last and learned):
        return None
    if last is None and len(shape) == len(image):
        fits = _fits(shape[2:], image[2:]), _fits(shape[1:-1], image[2:])
        if all(fits) and tuple(shape) != tuple(image):
            return None
        last = fits[1] and not fits[0]
    return Layout("channels_last", tuple(shape[1:-1])) if last else Layout("channels_first", tuple(shape[2:]))


def _tokens(
    shape: Sequence[int], image: Sequence[int], patch: Sequence[int] | None, learned: Sequence[int]
) -> Layout | None:
    """Tokens of a grid of patches, at whose sides what is no whole patch was cut off or filled up."""
    if patch is None or len(patch) != len(image) - 2:
        return None
    sides = list(zip(image[2:], patch, strict=True))
    sizes = {tuple(side // cell for side, cell in sides), tuple(-(-side // cell) for side, cell in sides)}
    others = {0, 1}  # none, or a class token
    for some in learned:
        others |= {number + some for number in others if number + some <= shape[1]}
    fitting = [size for size in sizes if shape[1] - prod(size) in others]
    return Layout("tokens", fitting[0], shape[1] - prod(fitting[0])) if len(fitting) == 1 else None


def _fits(size: Sequence[int], image: Sequence[int]) -> bool:
    """Whether one stride, give or take one cell, makes ``size`` of the image."""
    low = max((cells - 1) / length for cells, length in zip(size, image, strict=True))
    high = min((cells + 1) / length for cells, length in zip(size, image, strict=True))
    return low <= high


def patch_of(model: Callable[..., Any]) -> tuple[int, ...] | None:
    """The side lengths of the patches that a model cuts its input into, by its first convolution without overlap."""
    cut: Any = patch_convolution(model)
    return None if cut is None else tuple(cut.stride)


def learned_tokens(model: Callable[..., Any]) -> tuple[int, ...]:
    """How many tokens each parameter ``(1, T, K)`` of the model holds: class and register tokens, prompts."""
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    return tuple(p.shape[1] for p in parameters if p.ndim == 3 and len(p) == 1)


def _sequence_first(model: nn.Module) -> bool:
    kinds = (nn.MultiheadAttention, nn.RNNBase)
    return any(isinstance(part, kinds) and not part.batch_first for part in model.modules())


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
    layout = None if act.ndim == 2 else layout_of(model, layer, act.shape, inputs.shape)
    if layout is None and act.ndim != 2:
        raise LayerError(f"layer {layer!r} must give (N, K) or have locations; got {tuple(act.shape)}.{remedy}")
    return act if layout is None else layout.maps(act)


def main_input(inputs: Sequence[Tensor]) -> Tensor:
    """The input with locations: the first of those with most axes."""
    return max(inputs, key=lambda x: x.ndim)
