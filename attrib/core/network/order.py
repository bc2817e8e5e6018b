"""Whether the channels of an activation stand before or behind its places, as the modules that make it tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.nn.modules import activation, batchnorm, conv, dropout, instancenorm, pooling

# What these do is defined: the channels are the second axis, or the last.
_FIRST: tuple[type[nn.Module], ...] = (
    *(conv._ConvNd, batchnorm._BatchNorm, instancenorm._InstanceNorm, nn.GroupNorm, nn.LocalResponseNorm),
    *(pooling._MaxPoolNd, pooling._AvgPoolNd, pooling._LPPoolNd, pooling._AdaptiveAvgPoolNd),
    *(pooling._AdaptiveMaxPoolNd, nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle),
)
_LAST: tuple[type[nn.Module], ...] = (nn.Linear, nn.Bilinear, nn.Embedding, nn.MultiheadAttention, nn.RMSNorm)
_ELEMENTWISE = {activation.__name__, dropout.__name__}
_WIDTHS = ("out_channels", "num_features", "num_channels", "out_features", "embed_dim", "embedding_dim")


def channels_last(model: Callable[..., Any], name: str, side: str, shape: Sequence[int]) -> bool | None:
    """Whether the channels of what a module gives stand last; None where the modules do not tell.

    A convolution, pooling or batch norm has them first, a linear layer, attention or layer norm last; a Sequential
    has those of its last module, an activation or dropout those of what goes before; a module with an attribute
    ``data_format``, ``"channels_first"`` or ``"channels_last"``, says it itself. Of other modules the last layer
    inside tells how many channels there are; where both axes are as long, the kinds of all layers inside count. An
    activation that is registered once and used behind several layers has the axes of the layer whose width it has.

    Args:
        model: that has the module.
        name: of the module.
        side: ``"output"`` or ``"input"``, what goes in instead.
        shape: of the activation, with the batch axis.
    """
    module, sure = _source(model, name, side)
    if module is None:
        return _of_that_width(model, shape)
    if sure and (known := _kind(module)) is not None:
        return known
    if side == "input":
        return None
    knowing = [part for part in module.modules() if _width(part)]
    width = _width(knowing[-1]) if knowing else None
    if width not in (shape[1], shape[-1]):  # another layer gives it
        return None if sure else _of_that_width(model, shape)
    if (shape[1] == width) != (shape[-1] == width):
        return shape[-1] == width
    cut = patch_convolution(model)  # what becomes of the patches it does not tell
    kinds = {_kind(part) for part in knowing if part is not cut}
    return kinds.pop() if len(kinds) == 1 else None


def _of_that_width(model: Callable[..., Any], shape: Sequence[int]) -> bool | None:
    """Where the layers of the model have their channels that give as many as one of both axes is long."""
    parts = model.modules() if isinstance(model, nn.Module) else ()
    kinds = {kind for part in parts if (kind := _kind(part)) is not None and _width(part) == shape[-1 if kind else 1]}
    return kinds.pop() if len(kinds) == 1 else None


def patch_convolution(model: Callable[..., Any]) -> nn.Module | None:
    """The first convolution, if it cuts the input into patches that do not overlap."""
    for module in model.modules() if isinstance(model, nn.Module) else ():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            same = tuple(module.kernel_size) == tuple(module.stride) and max(module.stride) > 1
            return module if same else None
    return None


def _source(model: Callable[..., Any], name: str, side: str) -> tuple[nn.Module | None, bool]:
    """The module that makes an activation, and whether that is sure rather than likely."""
    if not isinstance(model, nn.Module):
        return None, False
    module, sure = model.get_submodule(name), True
    while True:
        if type(module) is nn.Sequential and len(module):
            name = f"{name}.{list(module._modules)[0 if side == 'input' else -1]}"
        elif _elementwise(module):
            outer, _, own = name.rpartition(".")
            around = model.get_submodule(outer) if outer else model
            names = list(around._modules)
            if not names.index(own):
                return None, False
            name, side = f"{outer}.{names[names.index(own) - 1]}".lstrip("."), "output"
            sure = sure and type(around) is nn.Sequential
        else:
            return module, sure
        module = model.get_submodule(name)


def _elementwise(module: nn.Module) -> bool:
    known = type(module).__module__ in _ELEMENTWISE and not isinstance(module, nn.MultiheadAttention)
    return known or type(module) is nn.Identity


def _kind(module: nn.Module) -> bool | None:
    """Whether a layer has its channels last; None for those that are not defined by torch and do not say it."""
    said = getattr(module, "data_format", None)
    if said in ("channels_first", "channels_last"):
        return bool(said == "channels_last")
    if isinstance(module, _FIRST):
        return False
    exact = type(module).forward is nn.LayerNorm.forward  # others permute, and are layer norms all the same
    return True if exact or isinstance(module, _LAST) else None


def _width(module: nn.Module) -> int | None:
    """How many channels a layer gives."""
    if isinstance(module, nn.LayerNorm):
        return int(module.normalized_shape[-1])
    known = _kind(module) is not None
    return next((int(getattr(module, name)) for name in _WIDTHS if known and hasattr(module, name)), None)
