"""Which calls, and which autograd nodes, are activations, and of which family."""

from __future__ import annotations

import re
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules import _functions

KINDS = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "leaky_relu": "LeakyReLU",
    "prelu": "PReLU",
    "rrelu": "RReLU",
    "elu": "ELU",
    "selu": "SELU",
    "celu": "CELU",
    "silu": "SiLU",
    "gelu": "GELU",
    "hardswish": "Hardswish",
    "mish": "Mish",
    "local_response_norm": "LocalResponseNorm",
    "layer": "layer",
    "compiled": "compiled region",
    "checkpointed": "checkpointed region",
}
# Rectifiers are monotone, so "the positive part of the gradient" means what the papers mean. The smooth ones have
# negative slopes of their own: no paper defines the rules there, so they are overridden only on request.
RECTIFIERS = ("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu")
SMOOTH = ("silu", "gelu", "hardswish", "mish")
FAMILIES = (*RECTIFIERS, *SMOOTH)
NORMS = ("local_response_norm",)  # no activation, but it can be given another backward pass in the same way
TORCHS_OWN = frozenset(vars(_functions))  # written as custom functions are; none of them is an activation
LAYER = "layer"  # one that is passed over by name, see `passed_over`


def _spellings() -> dict[Any, str]:
    table: dict[Any, str] = {}
    for family in FAMILIES:
        for owner in (F, torch, Tensor, torch._C._nn):
            for name in (family, f"{family}_"):
                if hasattr(owner, name):
                    table[getattr(owner, name)] = family
    return {**table, F.local_response_norm: "local_response_norm"}


_SPELLINGS = _spellings()
_CLAMPS = {getattr(o, n) for o in (torch, Tensor) for n in ("clamp", "clamp_", "clip", "clip_") if hasattr(o, n)}
_CLAMPS_MIN = {getattr(o, n) for o in (torch, Tensor) for n in ("clamp_min", "clamp_min_") if hasattr(o, n)}
_MAXIMA = {getattr(o, n) for o in (torch, Tensor) for n in ("maximum", "fmax", "max")}
_HARDTANHS = {F.hardtanh, F.hardtanh_, torch._C._nn.hardtanh, torch._C._nn.hardtanh_}
_THRESHOLDS = {F.threshold, torch.threshold, getattr(torch, "threshold_")}  # noqa: B009  missing from the stubs

NATIVE_RELU = frozenset(func for func, family in _SPELLINGS.items() if family == "relu")
# At exactly 0 a clamp passes all of the gradient and a maximum half of it; rectifiers pass nothing.
LAX_AT_ZERO = frozenset({*_CLAMPS, *_CLAMPS_MIN, *_MAXIMA})
CANDIDATES = frozenset({*_SPELLINGS, *_CLAMPS, *_CLAMPS_MIN, *_MAXIMA, *_HARDTANHS, *_THRESHOLDS})


def _is_zero(value: object) -> bool:
    """A bound of zero: a number, or a constant tensor of zeros."""
    if isinstance(value, Tensor):
        return not value.requires_grad and not bool(value.any())
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == 0


def _constant_like(x: object, other: object) -> Tensor | None:
    """``other`` if it broadcasts to ``x`` without changing its shape; torch.max(x, 1) has an axis here."""
    fits = isinstance(x, Tensor) and isinstance(other, Tensor) and (other.numel() == 1 or other.shape == x.shape)
    return other if fits and isinstance(other, Tensor) else None


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, *names: str) -> Any:
    if len(args) > position:
        return args[position]
    return next((kwargs[name] for name in names if name in kwargs), None)


def family_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return the activation family of a call of one of `CANDIDATES`; None for a clamp or maximum that is none."""
    bounds: tuple[object, ...]
    if func in _SPELLINGS:
        return _SPELLINGS[func]
    if func in _CLAMPS or func in _HARDTANHS:
        high = _argument(args, kwargs, 2, "max", "max_val")
        family, bounds = ("relu" if high is None else "relu6"), (_argument(args, kwargs, 1, "min", "min_val"),)
    elif func in _CLAMPS_MIN:
        family, bounds = "relu", (_argument(args, kwargs, 1, "min"),)
    elif func in _MAXIMA:  # torch.max(x, 1) is a reduction over axis 1
        family, bounds = "relu", (_constant_like(args[0] if args else None, _argument(args, kwargs, 1, "other")),)
    else:  # a threshold
        family, bounds = "relu", (_argument(args, kwargs, 1, "threshold"), _argument(args, kwargs, 2, "value"))
    return family if all(map(_is_zero, bounds)) else None


_NODES = {
    "ReluBackward0": "relu",
    "LeakyReluBackward0": "leaky_relu",
    "PreluKernelBackward0": "prelu",
    "RreluWithNoiseBackward0": "rrelu",
    "EluBackward0": "elu",
    "CeluBackward0": "celu",
    "SeluBackward0": "selu",
    "SiluBackward0": "silu",
    "GeluBackward0": "gelu",
    "HardswishBackward0": "hardswish",
    "MishBackward0": "mish",
    "CompiledFunctionBackward": "compiled",
    "CheckpointFunctionBackward": "checkpointed",
}


def family_of_node(node: Any) -> str | None:
    """Return the family of an autograd node that no rule took over; custom functions go by their own name."""
    name = node.name()
    if name in ("HardtanhBackward0", "ThresholdBackward0"):
        low = getattr(node, "_saved_min_val", getattr(node, "_saved_threshold", None))
        return ("relu6" if name == "HardtanhBackward0" else "relu") if _is_zero(low) else None
    if name in _NODES:
        return _NODES[name]
    if "DifferentiableGraph" in name:  # what a scripted part becomes after some runs
        return "compiled"
    is_custom = isinstance(node, torch.autograd.function.BackwardCFunction)
    return name.removesuffix("Backward") if is_custom else None


_POOLING = re.compile(r"(?:Adaptive|Fractional)?(Max|Avg)Pool\d?D")


def shrinks(node: Any) -> str | None:
    """Say how an autograd node makes maps smaller: max-pooling, average pooling, strided convolution, or not at all.

    Max-pooling counts at any stride: it records where its maxima were.
    """
    name = node.name()
    if found := _POOLING.match(name):
        if found[1] == "Max":
            return "max-pooling"
        steps = getattr(node, "_saved_stride", ()) or getattr(node, "_saved_kernel_size", ()) or (2,)  # or adaptive
        return "average pooling" if max(steps) > 1 else None
    if name == "MeanBackward1":  # a global average, unless it is over channels or features
        axes = [axis - 2**64 if axis >= 2**63 else axis for axis in node._saved_dim]  # -1 is kept as 2 ** 64 - 1
        return "average pooling" if all(axis not in (0, 1) for axis in axes) else None
    strided = name == "ConvolutionBackward0" and not node._saved_transposed and max(node._saved_stride) > 1
    return "strided convolution" if strided else None
