"""Top-down signals: every unit hands what it gets to the units that excited it, in proportion to how much they did.

A unit that is excited by activations ``a_i >= 0`` through weights ``w_i`` gives ``a_i w_i+ / sum_k a_k w_k+`` of its
signal to unit ``i``. Signals are shared out, so that their sum stays what it was; only a unit that nothing excites
hands nothing down. What an operation hands down is decided where it is called, as in `attrib.core.backward.rules`. An
operation that is not known here is refused: its gradient would be no share of anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from attrib.core.relevance.drives import Pooled, Same, Source, Summed, Weighted, handed, note, refused, sum_behind

# One input for one output: whatever excited the unit, it was that input.
_ONE_TO_ONE = frozenset({
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "silu", "gelu", "hardswish", "mish",
    "hardtanh", "hardsigmoid", "sigmoid", "tanh", "softplus", "threshold", "clamp", "clamp_min", "clamp_max", "clip",
    "softmax", "log_softmax", "local_response_norm",
})  # fmt: skip
# The same values: what excited them did.
_UNCHANGED = frozenset({
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "clone", "contiguous", "to", "type", "type_as",
    "float", "double", "half", "bfloat16",
})  # fmt: skip
# Values only move, or one of them wins: the gradient is the way back.
_MOVING = frozenset({
    "view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose",
    "swapaxes", "movedim", "t", "__getitem__", "__get__", "narrow", "select", "chunk", "split", "unbind", "cat",
    "concat", "stack", "expand", "expand_as", "repeat", "roll", "flip", "pad", "channel_shuffle", "pixel_shuffle",
    "max", "amax", "maximum", *(f"{kind}max_pool{axes}d{more}" for kind in ("", "adaptive_") for axes in (1, 2, 3)
                                for more in ("", "_with_indices")),
})  # fmt: skip
# Sums with weights that are never negative.
_POOLING = frozenset({
    "mean", "sum", "interpolate", *(f"{kind}avg_pool{axes}d" for kind in ("", "adaptive_") for axes in (1, 2, 3)),
})  # fmt: skip
_WEIGHTED = frozenset({"conv1d", "conv2d", "conv3d", "linear"})
_OPERATORS = {"__add__": "add", "__radd__": "add", "__iadd__": "add_", "__sub__": "sub", "__isub__": "sub_",
              "__mul__": "mul", "__rmul__": "mul", "__imul__": "mul_", "__truediv__": "div", "__itruediv__": "div_",
              "__rdiv__": "div", "__rtruediv__": "div", "true_divide": "div", "multiply": "mul",
              "divide": "div"}  # fmt: skip


def _followed(values: Sequence[object]) -> list[Tensor]:
    """The tensors among arguments, also in lists, that a signal can come down to."""
    return [value for value in tree_leaves(list(values)) if isinstance(value, Tensor) and value.requires_grad]


class excitation(TorchFunctionMode):  # noqa: N801  reads as a verb, like rules
    """Inside the block, operations on tensors that need a gradient hand signals down in shares of excitation.

    Example:
        >>> x = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
        >>> with excitation():
        ...     y = torch.nn.functional.linear(x, torch.tensor([[2.0, -1.0, 1.0]]))
        >>> torch.autograd.grad(y, x, torch.ones(1, 1))[0]
        tensor([[0.4000, 0.0000, 0.6000]])
    """

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if not (torch.is_grad_enabled() and _followed((*args, *kwargs.values()))):
            return func(*args, **kwargs)
        if not args and "input" in kwargs:
            args = (kwargs.pop("input"),)
        name = str(getattr(func, "__name__", func))
        name = _OPERATORS.get(name, name)
        call = _HANDLERS.get(_plain(name))
        if call is None or not isinstance(args[0], Tensor):
            return _native(func, name, args, kwargs)
        if not _in_place(name, args, kwargs):
            return call(func, args, kwargs)
        x: Tensor = args[0]
        before = note(x.clone(), sum_behind(x))  # what is written over must still be known on the way down
        out: Tensor = call(func, (before, *args[1:]), kwargs)
        return note(x.copy_(out), sum_behind(out))


def _plain(name: str) -> str:
    """Without the underscores of in-place and hidden functions."""
    return name if name.startswith("__") else name.strip("_")


def _in_place(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    asked = name in _ONE_TO_ONE and (bool(kwargs.get("inplace")) or any(a is True for a in args[1:]))
    return asked or (name.endswith("_") and not name.endswith("__"))


def _native(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run what only moves values, or gives none that a signal could come down from; the rest lets none pass."""
    out = func(*args, **kwargs)
    if _plain(name) in _MOVING:
        return out
    return refused(
        out,
        f"every operation must be known to share signals; {name!r} is not. Convolutions, linear layers, pooling, "
        "BatchNorm, activations, sums and concatenation are: use Grad-CAM, or a layer behind this operation.",
    )


def _value(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What the operation gives, on its own."""
    name = str(getattr(func, "__name__", ""))
    in_place = _in_place(_OPERATORS.get(name, name), args, kwargs)
    with torch.no_grad():
        out: Tensor = func(args[0].clone() if in_place else args[0], *args[1:], **kwargs)
        return out


def _one_to_one(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return handed(_value(func, args, kwargs), Same(), args[0])


def _unchanged(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return note(func(*args, **kwargs), sum_behind(args[0]))


def _maximum(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A rectifier where the other operand is a constant; else the larger one wins."""
    other = args[1] if len(args) > 1 else kwargs.get("other")
    constant = isinstance(other, Tensor) and not other.requires_grad
    return _one_to_one(func, args, kwargs) if constant else func(*args, **kwargs)


def _pooled(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if "bicubic" in (kwargs.get("mode"), *args[3:4]):
        reason = "interpolation must have no negative weights to share signals; got mode 'bicubic'."
        return refused(func(*args, **kwargs), reason)
    x, rest = args[0], args[1:]
    drive = Pooled(Source(x), sum_behind(x), lambda v: func(v, *rest, **kwargs))
    return handed(_value(func, args, kwargs), drive, x)


def _weighted(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    named = dict(zip(("input", "weight", "bias", "stride", "padding", "dilation", "groups"), args, strict=False))
    named |= kwargs
    x, weight = named.pop("input"), named.pop("weight")
    rest = {key: value for key, value in named.items() if key != "bias"}
    drive = Weighted(x, weight.detach(), lambda v, w: func(v, w, **rest))
    return handed(_value(func, args, kwargs), drive, x)


def _batch_norm(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    named: dict[str, Any] = {"weight": None, "training": False, "eps": 1e-5, **dict(zip(names, args, strict=False))}
    named |= kwargs
    if named["training"] or named["running_var"] is None:
        reason = "BatchNorm must have statistics of its own to share signals; this one takes the batch's."
        return refused(func(*args, **kwargs), reason)
    scale = (named["running_var"] + named["eps"]).rsqrt()
    scale = scale if named["weight"] is None else scale * named["weight"]
    axes = (1, -1) + (1,) * (args[0].ndim - 2)
    return _scaled(_value(func, args, kwargs), args[0], scale.reshape(axes))


def _scaled(value: Tensor, x: Tensor, scale: Tensor) -> Tensor:
    """``value`` is ``x`` times ``scale``, plus a constant; it is folded into the weights that ``x`` comes from."""
    below, scale = sum_behind(x), scale.detach()
    for_each_channel = scale.numel() == 1 or (scale.ndim >= x.ndim - 1 and scale.numel() == scale.shape[1 - x.ndim])
    if isinstance(below, Weighted) and below.folds and for_each_channel and below.weight.ndim == x.ndim:
        return handed(value, below.scaled(scale), below.x)
    out = handed(value, Same(scale), x)
    return note(out, below) if scale.numel() == 1 and float(scale) > 0 else out


def _product(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, other = _operands(args, kwargs)
    turned = not _followed([x])
    divides = "div" in func.__name__
    if len(_followed([x, other])) == 2 or (divides and (turned or func.__name__.startswith("__r"))):
        reason = (
            "a product or quotient of two activations must not lie on the way of signals: it is no sum that could be "
            "shared out. Attention, gates and squeeze-and-excitation are such: use Grad-CAM, or a layer behind them."
        )
        return refused(func(*args, **kwargs), reason)
    value = _value(func, args, kwargs)
    x, other = (other, x) if turned else (x, other)
    scale = torch.as_tensor(other, dtype=x.dtype, device=x.device)
    return _scaled(value, x, 1 / scale if divides else scale)


def _added(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, other = _operands(args, kwargs)
    turned = not _followed([x])
    is_sum = "add" in func.__name__ and kwargs.get("alpha", 1) == 1
    if not is_sum and (turned or _followed([other])):
        reason = (
            "a difference of two activations must not lie on the way of signals: only sums are shared out. "
            "Use Grad-CAM, or a layer behind it."
        )
        return refused(func(*args, **kwargs), reason)
    value = _value(func, args, kwargs)
    if len(_followed([x, other])) == 2:
        both = Summed((Source(x), Source(other)), (sum_behind(x), sum_behind(other)))
        return handed(value, both, x, other)
    x = other if turned else x
    return note(handed(value, Same(), x), sum_behind(x)) if value.shape == x.shape else handed(value, Same(), x)


def _operands(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    return args[0], args[1] if len(args) > 1 else kwargs["other"]


_HANDLERS: dict[str, Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]] = {
    **dict.fromkeys(_ONE_TO_ONE, _one_to_one),
    **dict.fromkeys(_UNCHANGED, _unchanged),
    **dict.fromkeys(_POOLING, _pooled),
    **dict.fromkeys(_WEIGHTED, _weighted),
    **dict.fromkeys(("max", "maximum", "fmax"), _maximum),
    **dict.fromkeys(("mul", "div"), _product),
    **dict.fromkeys(("add", "sub"), _added),
    "batch_norm": _batch_norm,
}
