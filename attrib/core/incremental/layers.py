"""Rules for convolutions, pooling, normalisation and linear layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attrib.core.incremental.compiler import Compiler, Rules, compile_pointwise, ruler
from attrib.core.incremental.conv import Convolution, Norm
from attrib.core.incremental.record import Call, NotReplayableError, Ref
from attrib.core.incremental.steps import Form, Kind, Layout, Local, Site, overload, replay

Weights = Mapping[int, Tensor]
_POINTWISE = """
hardtanh leaky_relu elu celu silu gelu mish softplus hardswish hardsigmoid sigmoid tanh exp expm1 log log1p neg abs
sqrt rsqrt square pow.Tensor_Scalar clamp clamp_min clamp_max threshold sin cos erf sign reciprocal softshrink
hardshrink rsub.Scalar add sub mul div maximum minimum _prelu_kernel masked_fill.Scalar _to_copy
"""
RULES: Rules = dict.fromkeys(_POINTWISE.split(), compile_pointwise)
rule = ruler(RULES)


def _pair(value: Any) -> tuple[int, int]:
    pair = [value] if isinstance(value, int) else list(value)
    return (pair[0], pair[-1])


def _geometry(
    compiler: Compiler, call: Call, x: int, kernel: Any, stride: Any, pad: Any, dilation: Any
) -> tuple[Local, Local]:
    """The sliding window along y and x; ``after`` is what the last output cell reads beyond the map."""
    size, out = compiler.shape(x)[2:], compiler.shape(call.outs[0])[2:]
    found = []
    for k, s, p, d, length, cells in zip(
        _pair(kernel), _pair(stride), _pair(pad), _pair(dilation), size, out, strict=True
    ):
        reach = (cells - 1) * s + d * (k - 1) + 1
        found.append(Local(k, s, p, max(0, reach - length - p), d))
    return found[0], found[1]


def _form(compiler: Compiler, call: Call) -> Form:
    h, w = compiler.shape(call.outs[0])[2:]
    return Form(h, w)


def _is_map(compiler: Compiler, number: int) -> bool:
    form = compiler.forms[number]
    return form is not None and form.axes == (2, 3) and len(compiler.shape(number)) == 4


@rule("convolution")
def _convolution(compiler: Compiler, call: Call) -> None:
    x, weight, bias, stride, pad, dilation, transposed, _, groups = call.args
    number = compiler.only(call)
    if x != Ref(number):
        raise NotReplayableError("the weight of a convolution depends on the input")
    name = compiler.layer(weight.id) or "convolution"
    shape = compiler.shape(weight.id)
    macs = prod(shape)
    if transposed or not _is_map(compiler, number):
        form = _form(compiler, call) if len(compiler.shape(call.outs[0])) == 4 and not transposed else None
        form = compiler.map_form(call.outs[0]) if transposed else form
        cells = prod(compiler.shape(call.outs[0])[2:])
        compiler.whole(call, form if _is_map(compiler, number) else None, name=name, macs=macs * (1 if form else cells))
        return

    ready = compiler.fresh(()), compiler.fresh(())
    number_of_bias = bias.id if bias else None
    conv = Convolution(weight.id, number_of_bias, ready, stride, pad, dilation, groups, compiler.shape(number))
    local = _geometry(compiler, call, number, shape[2:], stride, pad, dilation)
    step = compiler.emit(call, Kind.LOCAL, conv.run, _form(compiler, call), local=local, macs=macs, name=name)
    compiler.swap(step, replace(step, conv=conv, prepare=conv.prepare))


def _fold(compiler: Compiler, call: Call, change: Callable[[Convolution], Convolution | None]) -> bool:
    """Make the call part of the convolution in front of it, if nothing else reads what that gives."""
    number = compiler.only(call)
    step = next((step for step in compiler.steps if step.out == number), None)
    if step is None or step.conv is None or compiler.uses[number] != 1 or (conv := change(step.conv)) is None:
        return False
    compiler.swap(step, replace(step, out=call.outs[0], conv=conv, run=conv.run, prepare=conv.prepare))
    return True


@rule("relu")
def _relu(compiler: Compiler, call: Call) -> None:
    if not _fold(compiler, call, lambda conv: None if conv.relu else conv.with_relu()):
        compile_pointwise(compiler, call)


@rule("max_pool2d_with_indices")
def _max_pool(compiler: Compiler, call: Call) -> None:
    number, kernel, stride, pad, dilation, ceil = _arguments(call, ([], 0, 1, False))
    stride = stride or kernel

    def run(xs: Sequence[Tensor], _weights: Weights, site: Site) -> Tensor:
        if site.gathered:
            return torch.max_pool2d(xs[0], kernel, stride, 0, dilation)
        return torch.max_pool2d(xs[0], kernel, stride, pad, dilation, ceil)

    if not _is_map(compiler, number):
        compiler.whole(call, None, run)
        return
    local = _geometry(compiler, call, number, kernel, stride, pad, dilation)
    compiler.emit(call, Kind.LOCAL, run, _form(compiler, call), local=local, fill=float("-inf"))


def _arguments(call: Call, defaults: tuple[Any, ...]) -> tuple[Any, ...]:
    """Operand, kernel and the rest, with defaults for what was left out."""
    given = call.args[2:]
    return (call.args[0].id, call.args[1], *given, *defaults[len(given) :])


@rule("avg_pool2d")
def _avg_pool(compiler: Compiler, call: Call) -> None:
    number, kernel, stride, pad, ceil, count_pad, divisor = _arguments(call, ([], 0, False, True, None))
    stride = stride or kernel
    if not _is_map(compiler, number):
        compiler.whole(call, None)
        return
    # A divisor that varies along the border is a map of its own: the sum, times the inverse of the divisor.
    sized = divisor is None and (ceil or (not count_pad and _pair(pad) != (0, 0)))
    fixed = 1 if sized else divisor

    def run(xs: Sequence[Tensor], _weights: Weights, site: Site) -> Tensor:
        if site.gathered:
            return F.avg_pool2d(xs[0], kernel, stride, 0, divisor_override=fixed)
        return F.avg_pool2d(xs[0], kernel, stride, pad, ceil, True, fixed)

    local = _geometry(compiler, call, number, kernel, stride, pad, 1)
    form = _form(compiler, call)
    if not sized:
        compiler.emit(call, Kind.LOCAL, run, form, local=local)
        return
    shape = compiler.shape(call.outs[0])
    total = compiler.fresh(shape)
    compiler.add(call.op, Kind.LOCAL, total, run, form, inputs=(number,), local=local)
    ones = torch.ones(1, 1, *compiler.shape(number)[2:], dtype=torch.float64)
    mean = F.avg_pool2d(ones, kernel, stride, pad, ceil, count_pad)
    inverse = mean / F.avg_pool2d(ones, kernel, stride, pad, ceil, True, 1)
    share = compiler.fresh(tuple(inverse.shape), inverse)
    compiler.add(
        "mul.Tensor", Kind.JOIN, call.outs[0], lambda xs, _, __: xs[0] * xs[1].to(xs[0]), form, inputs=(total, share)
    )


@rule("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_native_batch_norm_legit_no_training")
def _batch_norm(compiler: Compiler, call: Call) -> None:
    _, weight, bias, mean, variance = call.args[:5]
    if "no_training" not in call.op and call.args[5]:
        raise NotReplayableError("BatchNorm takes its statistics from the batch")
    number = compiler.only(call)
    eps = call.args[7 if "cudnn" in call.op else -1]
    norm = Norm(weight and weight.id, bias and bias.id, mean.id, variance.id, eps)
    if _fold(compiler, call, lambda conv: None if conv.relu or conv.norm else conv.with_norm(norm)):
        return
    form, ndim = compiler.forms[number], len(compiler.shape(number))
    scale, shift = compiler.fresh(()), compiler.fresh(())

    def prepare(values: dict[int, Tensor], layout: Layout) -> None:
        for at, value in zip((scale, shift), norm.affine(values), strict=True):
            values[at] = value.to(layout.dtype or values[norm.mean].dtype).reshape(-1, *(1,) * (ndim - 2))

    def run(xs: Sequence[Tensor], weights: Weights, _site: Site) -> Tensor:
        return torch.addcmul(weights[shift], xs[0], weights[scale])

    even = form is not None and form.axes is not None and 1 not in form.axes
    name = compiler.layer(mean.id) or "batch_norm"
    compiler.emit(call, Kind.POINT if even else Kind.WHOLE, run, form, prepare=prepare, name=name)


@rule("native_layer_norm")
def _layer_norm(compiler: Compiler, call: Call) -> None:
    number, form = compiler.only(call), compiler.forms[compiler.only(call)]
    first = len(compiler.shape(number)) - len(call.args[1])
    run = replay(overload(call.op), call, (number,), first=0)
    local = form is not None and (form.axes is None or max(form.axes) < first)
    compiler.emit(call, Kind.POINT if local else Kind.WHOLE, run, form, name=_named(compiler, call, 2, "layer_norm"))


def _named(compiler: Compiler, call: Call, position: int, otherwise: str) -> str:
    weight = call.args[position]
    return compiler.layer(weight.id if isinstance(weight, Ref) else None) or otherwise


@rule("native_group_norm")
def _group_norm(compiler: Compiler, call: Call) -> None:
    number = compiler.only(call)
    _, weight, bias, _, _, _, groups, eps = call.args

    def run(xs: Sequence[Tensor], weights: Weights, _site: Site) -> Tensor:
        w, b = (None if one is None else weights[one.id] for one in (weight, bias))
        return F.group_norm(xs[0], groups, w, b, eps)

    compiler.whole(call, compiler.forms[number], run, name=_named(compiler, call, 1, "group_norm"))


@rule("addmm", "mm")
def _linear(compiler: Compiler, call: Call) -> None:
    x = call.args[-2]
    number = compiler.only(call)
    if x != Ref(number):
        raise NotReplayableError(f"{call.op} multiplies by something that depends on the input")
    if call.op.startswith("addmm") and len(compiler.shape(call.args[0].id)) > 1:
        raise NotReplayableError(f"{call.op} may add a constant that was made for this number of examples")
    form = compiler.forms[number]
    shape = compiler.shape(call.args[-1].id)
    rows = form is not None and form.axes is None
    run = replay(overload(call.op), call, (number,))
    name = _named(compiler, call, 0, "linear") if call.op.startswith("addmm") else "linear"
    kind, form = (Kind.POINT, form) if rows else (Kind.WHOLE, None)
    compiler.emit(call, kind, run, form, macs=shape[0] * shape[1], name=name)


@rule("mean.dim", "sum.dim_IntList", "amax", "amin", "linalg_vector_norm")
def _reduce(compiler: Compiler, call: Call) -> None:
    number = compiler.only(call)
    ndim = len(compiler.shape(number))
    position = 2 if call.op.startswith("linalg") else 1
    dims = call.args[position] if len(call.args) > position else None
    axes = {axis % ndim for axis in ([dims] if isinstance(dims, int) else dims or range(ndim))}
    if 0 in axes:
        raise NotReplayableError(f"{call.op} mixes the examples of a batch")
    form = compiler.forms[number]
    if call.op == "mean.dim" and form is not None and form.axes and axes == set(form.axes):
        compiler.emit(call, Kind.MEAN, replay(overload(call.op), call, (number,)), None)
        return
    compiler.whole(call, None)


@rule("_adaptive_avg_pool2d", "adaptive_max_pool2d", "upsample_bilinear2d", "upsample_nearest2d", "upsample_bicubic2d")
@rule("_adaptive_avg_pool3d", "adaptive_max_pool3d", "max_pool3d_with_indices")
def _resize(compiler: Compiler, call: Call) -> None:
    number = compiler.only(call)
    if "avg" in call.op and compiler.shape(number) == compiler.shape(call.outs[0]):
        compiler.alias(call, number)
        return
    first = 0 if "max" in call.op else None
    compiler.whole(call, compiler.map_form(call.outs[0]), replay(overload(call.op), call, (number,), first=first))


@rule("reflection_pad2d", "replication_pad2d", "pixel_shuffle", "pixel_unshuffle")
def _moved_about(compiler: Compiler, call: Call) -> None:
    compiler.only(call)
    compiler.whole(call, compiler.map_form(call.outs[0]))


@rule("_softmax", "_log_softmax")
def _softmax(compiler: Compiler, call: Call) -> None:
    number, form = compiler.only(call), compiler.forms[compiler.only(call)]
    axis = call.args[1] % len(compiler.shape(number))
    if axis == 0:
        raise NotReplayableError(f"{call.op} mixes the examples of a batch")
    local = form is not None and (form.axes is None or axis not in form.axes)
    compiler.emit(call, Kind.POINT if local else Kind.WHOLE, replay(overload(call.op), call, (number,)), form)


@rule("avg_pool3d")
def _across_channels(compiler: Compiler, call: Call) -> None:
    """An average along channels only, as local response normalisation asks for."""
    number, form = compiler.only(call), compiler.forms[compiler.only(call)]
    kernel = list(call.args[1])
    if form is None or form.axes != (3, 4) or kernel[1:] != [1, 1] or any(call.args[3] if len(call.args) > 3 else []):
        compiler.whole(call, None)
        return
    compiler.emit(call, Kind.POINT, replay(overload(call.op), call, (number,)), form)
