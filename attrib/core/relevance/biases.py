"""What a score owes to constants: each bias of a network, where it is added, times the gradient there.

A network of linear layers, rectifiers and max-pooling is linear around its input, so that its score is what the input
contributes plus what the biases do: ``S = x . dS/dx + sum of b . dS/db``. BatchNorm with statistics of its own adds a
bias, and any other activation ``f`` one that depends on its input: ``f(z) - f'(z) z``, the intercept of its tangent.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

from attrib.core.backward.graph import between, gradients, unreached
from attrib.core.network import cost
from attrib.core.network.capture import capture
from attrib.core.network.passes import forward
from attrib.core.query import Query
from attrib.core.relevance.in_sight import behind, check_in_sight, made
from attrib.core.shared import checked_score

log = logging.getLogger("attrib")

# Activations of one number that are not straight through the origin; those that are (ReLU, LeakyReLU) have no bias.
_CURVED = frozenset({
    "relu6", "hardtanh", "hardsigmoid", "hardswish", "clamp", "clamp_min", "clamp_max", "clip", "threshold", "elu",
    "selu", "celu", "silu", "gelu", "mish", "sigmoid", "tanh", "softplus", "logsigmoid", "softsign", "tanhshrink",
    "hardshrink", "softshrink",
})  # fmt: skip
_BIASED = frozenset({"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"})
_PRODUCTS = frozenset({"addmm", "addbmm", "baddbmm", "addmv"})
_TURNING = frozenset({"permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims"})
_CHANNELS = "_attrib_channels"


@dataclass(frozen=True, eq=False)
class Bias:
    """A constant that is added somewhere in the network.

    Attributes:
        name: the operation and which call of it, such as ``"conv2d#0"``.
        value: what is added, in a shape that broadcasts to the output there.
        edge: where, in the graph.
        channels: the axis of the channels there, 1 or the last, where the other axes are locations; else None.
    """

    name: str
    value: Tensor
    edge: GradientEdge
    channels: int | None


class biases(TorchFunctionMode):  # noqa: N801  reads as a verb, like rules
    """Inside the block, note every bias that is added on the way from a tensor that needs a gradient.

    Example:
        >>> x = torch.tensor([[1.0, 2.0]], requires_grad=True)
        >>> with biases() as seen:
        ...     y = torch.nn.functional.linear(x, torch.ones(1, 2), torch.tensor([5.0]))
        >>> [(bias.name, bias.value.tolist()) for bias in seen.found]
        [('linear#0', [5.0])]
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Bias] = []
        self.in_sight: set[Any] = set()  # nodes that calls have left
        self._calls: Counter[str] = Counter()

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name, exported, _ = str(getattr(func, "__name__", func)).partition(".")  # "conv2d.default"
        read = _READERS.get(name if name.startswith("__") else name.strip("_"))
        before = behind((args, kwargs))
        out = self._called(func, name, read, args, kwargs)
        if read or not exported:  # what functions of torch do inside, such as attention, is theirs
            self.in_sight.update(made(out, before | self.in_sight))
        return out

    def _called(self, func: Any, name: str, read: _Reader | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x = args[0] if args else kwargs.get("input")
        if name in _TURNING and isinstance(x, Tensor):
            return _turned(func, x, args[1:], kwargs)
        if read is None or not (torch.is_grad_enabled() and isinstance(x, Tensor)):
            return func(*args, **kwargs)
        value = read(func, name, args or (x,), {k: v for k, v in kwargs.items() if k != "input" or args})
        out = func(*args, **kwargs)
        if isinstance(out, Tensor) and out.requires_grad:
            self._note(name, value, out, args or (x,))
        return out

    def _note(self, name: str, value: Tensor | None, out: Tensor, args: tuple[Any, ...]) -> None:
        plain = name.strip("_")
        known = {getattr(x, _CHANNELS, None) for x in args[:2] if isinstance(x, Tensor) and x.ndim == out.ndim} - {None}
        channels = known.pop() if len(known) == 1 else None
        if plain in _BIASED or plain in ("batch_norm", "group_norm"):
            channels = 1 if out.ndim > 2 else None
        elif plain in {"linear", *_PRODUCTS} and channels != out.ndim - 1:
            channels = None
        setattr(out, _CHANNELS, channels)
        if value is not None:
            label = f"{plain}#{self._calls[plain]}"
            self._calls[plain] += 1
            self.found.append(Bias(label, value.detach(), get_gradient_edge(out), channels))


def _turned(func: Any, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Turn the axes of ``x``, and remember where its channels are now: first behind the examples, or last."""
    out, channels = func(x, *args, **kwargs), getattr(x, _CHANNELS, None)
    if channels is not None:
        order = func(torch.empty(tuple(range(1, x.ndim + 1))), *args, **kwargs).shape  # an axis is known by its length
        place = order.index(channels + 1)
        setattr(out, _CHANNELS, place if order[0] == 1 and place in (1, x.ndim - 1) else None)
    return out


Arguments = tuple[Any, ...]
_Reader = Callable[[Any, str, Arguments, dict[str, Any]], Tensor | None]


def _named(args: Arguments, kwargs: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**dict.fromkeys(names), **dict(zip(names, args, strict=False)), **kwargs}


def _second(value: Tensor | None, x: Tensor) -> Tensor | None:
    """One number per channel, for an output whose channels come second."""
    return None if value is None else value.reshape(1, -1, *(1,) * (x.ndim - 2))


def _of_convolution(_func: Any, _name: str, args: Arguments, kwargs: dict[str, Any]) -> Tensor | None:
    return _second(_named(args, kwargs, "input", "weight", "bias")["bias"], args[0])


def _of_linear(_func: Any, _name: str, args: Arguments, kwargs: dict[str, Any]) -> Tensor | None:
    bias: Tensor | None = _named(args, kwargs, "input", "weight", "bias")["bias"]
    return bias


def _of_product(_func: Any, _name: str, args: Arguments, kwargs: dict[str, Any]) -> Tensor | None:
    """What a product of matrices is added to, where that does not depend on the inputs."""
    added: Tensor = args[0]
    return None if added.requires_grad else kwargs.get("beta", 1) * added


def _statistics_and_weights(func: Any) -> tuple[str, ...]:
    """Their order, which torch's own functions turn round."""
    statistics, weights = ("running_mean", "running_var"), ("weight", "bias")
    return (*statistics, *weights) if func in (F.batch_norm, F.instance_norm) else (*weights, *statistics)


def _of_batch_norm(func: Any, _name: str, args: Arguments, kwargs: dict[str, Any]) -> Tensor | None:
    names = ("input", *_statistics_and_weights(func), "training", "momentum", "eps")
    named = {"eps": 1e-5, **_named(args, kwargs, *names)}
    if named["training"] or named["running_var"] is None:  # then mean and variance are no constants
        return _second(named["bias"], args[0])
    scale = (named["running_var"] + (named["eps"] or 1e-5)).rsqrt()
    shift = -named["running_mean"] * (scale if named["weight"] is None else scale * named["weight"])
    return _second(shift if named["bias"] is None else shift + named["bias"], args[0])


def _of_norm(func: Any, name: str, args: Arguments, kwargs: dict[str, Any]) -> Tensor | None:
    known = {"group_norm": ("num_groups", "weight", "bias"), "layer_norm": ("normalized_shape", "weight", "bias")}
    names = known.get(name, _statistics_and_weights(func))
    bias: Tensor | None = _named(args, kwargs, "input", *names)["bias"]
    return bias if name == "layer_norm" else _second(bias, args[0])


def _of_tangent(func: Any, _name: str, args: Arguments, kwargs: dict[str, Any]) -> Tensor | None:
    x: Tensor = args[0]
    if not x.requires_grad:
        return None
    with torch.enable_grad():
        z = x.detach().clone().requires_grad_(True)
        y = func(z.clone(), *args[1:], **kwargs)  # a copy: it may be in place
        (slope,) = torch.autograd.grad(y.sum(), z)
    intercept = y.detach() - slope * z.detach()
    return intercept if bool(intercept.any()) else None


def _of_sum(_func: Any, name: str, args: Arguments, kwargs: dict[str, Any]) -> Tensor | None:
    """The operand of ``left + weight * right`` that does not depend on the inputs, with its weight."""
    left, right = args[0], args[1] if len(args) > 1 else kwargs["other"]
    if name in ("__rsub__", "rsub"):  # rsub(a, b) is b - a
        left, right = right, left
    moving = [isinstance(v, Tensor) and v.requires_grad for v in (left, right)]
    if moving[0] == moving[1]:
        return None
    weight = kwargs.get("alpha", 1) * (1 if "add" in name else -1)
    constant, like = (weight * right, left) if moving[0] else (left, right)
    return torch.as_tensor(constant, dtype=like.dtype, device=like.device)


_READERS: dict[str, _Reader] = {
    **dict.fromkeys(_BIASED, _of_convolution),
    **dict.fromkeys(_CURVED, _of_tangent),
    **dict.fromkeys(("group_norm", "layer_norm", "instance_norm"), _of_norm),
    **dict.fromkeys(
        ("add", "sub", "rsub", "__add__", "__radd__", "__iadd__", "__sub__", "__rsub__", "__isub__"), _of_sum
    ),
    **dict.fromkeys(_PRODUCTS, _of_product),
    "linear": _of_linear,
    "batch_norm": _of_batch_norm,
}


@dataclass(frozen=True, eq=False)
class FullGradient:
    """What a score ``(N,)`` is made of: inputs times gradients, and biases times gradients.

    Attributes:
        score: of each example.
        inputs: ``x * dS/dx``, one Tensor for each input.
        biases: by name, ``b * dS/db`` in the shape of the output that ``b`` is added to.
        located: of biases whose outputs have locations, the axis of the channels: 1 or the last.
    """

    score: Tensor
    inputs: tuple[Tensor, ...]
    biases: dict[str, Tensor]
    located: dict[str, int]

    @property
    def total(self) -> Tensor:
        """All of them added up for each example ``(N,)``: the score, where the network is linear around its input."""
        parts = [part.reshape(len(self.score), -1).sum(1) for part in (*self.inputs, *self.biases.values())]
        return torch.stack(parts).sum(0)


def full_gradient(query: Query) -> FullGradient:
    """Take a score apart, with one forward and one backward pass."""
    leaves = [x.detach().requires_grad_(True) for x in query.inputs]
    with capture(query.model, *query.objective.layers) as acts, biases() as seen:
        output = forward(query.model, tuple(x.clone() for x in leaves), query.extra)
    goal = query.objective.bind(output, acts)
    with biases() as asked:
        score = checked_score(goal(output, acts), len(leaves[0]))
    grads: tuple[Tensor | None, ...] = (None,) * len(leaves)
    if score.requires_grad:
        check_in_sight(between(score, leaves), seen.in_sight | asked.in_sight)
        cost.add(backwards=len(score))
        ends = [*map(get_gradient_edge, leaves), *(bias.edge for bias in seen.found)]
        grads = gradients(score.sum(), ends)
    if all(grad is None for grad in grads[: len(leaves)]):
        raise unreached("the inputs")
    at_inputs = [torch.zeros_like(x) if grad is None else x.detach() * grad for x, grad in zip(leaves, grads)]  # noqa: B905
    at_biases = {bias.name: bias.value * g for bias, g in zip(seen.found, grads[len(leaves) :]) if g is not None}  # noqa: B905
    located = {bias.name: bias.channels for bias in seen.found if bias.channels is not None and bias.name in at_biases}
    found = FullGradient(score.detach(), tuple(at_inputs), at_biases, located)
    rest = float((found.total - found.score).abs().max())
    log.info("inputs and %d biases add up to the score but for %.2g", len(at_biases), rest)
    return found
