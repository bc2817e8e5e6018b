"""Rules for calls that only move numbers about: views, transpositions, slices, padding, concatenation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attrib.core.incremental.compiler import Compiler, Rules, ruler
from attrib.core.incremental.record import Call, NotReplayableError
from attrib.core.incremental.steps import Form, Kind, Local, Run, Site, overload, replay

_Weights = Mapping[int, Tensor]
RULES: Rules = {}
rule = ruler(RULES)


def _moved(function: Callable[[Tensor], Tensor]) -> Run:
    def run(xs: Sequence[Tensor], _weights: _Weights, _site: Site) -> Tensor:
        return function(xs[0])

    return run


@rule("clone", "alias", "detach", "contiguous", "lift_fresh")
def _same(compiler: Compiler, call: Call) -> None:
    compiler.alias(call, compiler.only(call))


@rule("as_strided")
def _strided(compiler: Compiler, call: Call) -> None:
    """Torch marks a pooled ``(N, C, 1, 1)`` as channels-last in this way; the numbers stay where they are."""
    number, (size, stride) = compiler.only(call), call.args[1:3]
    shape = compiler.shape(number)
    if tuple(size) != shape or any(one != 1 for one in shape[2:]) or tuple(stride[:2]) != (shape[1], 1):
        raise NotReplayableError("it reads memory by strides (as_strided)")
    compiler.alias(call, number)


@rule("view", "_unsafe_view", "reshape")
def _view(compiler: Compiler, call: Call) -> None:
    number = compiler.only(call)
    form, old, new = compiler.forms[number], compiler.shape(number), compiler.shape(call.outs[0])
    if call.op == "view.dtype":
        raise NotReplayableError("it reads memory as another dtype (view)")
    if old == new:
        compiler.alias(call, number)
        return
    found = _viewed(form, old, new, compiler.rows)
    kept = found or form  # what the runtime size is computed from

    def run(xs: Sequence[Tensor], _weights: _Weights, site: Site) -> Tensor:
        size = kept.size(new, site.rows, site.h, site.w) if found and kept else [site.rows, *new[1:]]
        return xs[0].reshape(size)

    compiler.emit(call, Kind.POINT if found else Kind.WHOLE, run, found, fresh=False)


def _viewed(form: Form | None, old: tuple[int, ...], new: tuple[int, ...], rows: int) -> Form | None:
    """The form after a view that keeps the places of the map apart; None for any other view."""
    if form is None:
        return None
    map_ = (rows, form.h, form.w)
    if form.axes is None:  # rows: back to a map with the channels last
        return Form(form.h, form.w, (1, 2)) if new == (*map_, old[-1]) else None
    if form.axes == (1, 2) and len(old) == 4 and new == (rows * form.h * form.w, old[-1]):
        return Form(form.h, form.w, None)
    last = (len(old) - 2, len(old) - 1)
    if form.axes == last and len(new) >= 3 and new[0] == rows and new[-2:] == (form.h, form.w):
        return Form(form.h, form.w, (len(new) - 2, len(new) - 1))
    return None


@rule("permute", "transpose.int")
def _permute(compiler: Compiler, call: Call) -> None:
    number = compiler.only(call)
    form, ndim = compiler.forms[number], len(compiler.shape(number))
    order = list(range(ndim))
    if call.op == "permute.default":
        order = [axis % ndim for axis in call.args[1]]
    else:
        a, b = (axis % ndim for axis in call.args[1:3])
        order[a], order[b] = b, a
    if order[0] != 0:
        raise NotReplayableError(f"{call.op} moves the batch axis")
    axes = None if form is None or form.axes is None else (order.index(form.axes[0]), order.index(form.axes[1]))
    new = Form(form.h, form.w, axes) if form and axes and axes[0] < axes[1] else None
    kind = Kind.POINT if new else Kind.WHOLE
    if axes == (3, 2) and ndim == 4:
        new = compiler.map_form(call.outs[0])
    compiler.emit(call, kind, _moved(lambda x: x.permute(order)), new, fresh=False)


def _along(
    compiler: Compiler, call: Call, out: int, axis: int, function: Callable[[Tensor], Tensor], *, drops: int = 0
) -> None:
    """Compile what acts along one axis that is not the map's; ``drops`` axes vanish there (negative: appear)."""
    number = compiler.only(call)
    form = compiler.forms[number]
    if axis == 0:
        raise NotReplayableError(f"{call.op} takes examples out of the batch")
    kept = None
    if form is not None and form.axes is not None and (drops < 0 or axis not in form.axes):
        a, b = (place - drops if place > axis or (drops < 0 and place >= axis) else place for place in form.axes)
        kept = Form(form.h, form.w, (a, b))
    kind = Kind.POINT if kept else Kind.WHOLE
    if kept is None and form is not None and form.axes == (2, 3) and drops == 0:
        kept = compiler.map_form(out)  # places taken out of a map leave a map
    compiler.add(call.op, kind, out, _moved(function), kept, inputs=(number,), fresh=False)


@rule("slice")
def _slice(compiler: Compiler, call: Call) -> None:
    number = compiler.only(call)
    if compiler.shape(number) == compiler.shape(call.outs[0]) and call.args[4:5] in ((), (1,)):
        compiler.alias(call, number)
        return
    defaults: list[Any] = [0, None, None, 1]
    dim, start, end, step = [*call.args[1:], *defaults[len(call.args) - 1 :]]
    axis = dim % len(compiler.shape(number))
    cut = (slice(None),) * axis + (slice(start, None if end == sys.maxsize else end, step),)
    _along(compiler, call, call.outs[0], axis, lambda x: x[cut])


@rule("split", "split_with_sizes")
def _split(compiler: Compiler, call: Call) -> None:
    dim = call.args[2] if len(call.args) > 2 else call.kwargs.get("dim", 0)
    axis = dim % len(compiler.shape(call.outs[0]))
    start = 0
    for out in call.outs:
        length = compiler.shape(out)[axis]
        cut = (slice(None),) * axis + (slice(start, start + length),)
        _along(compiler, call, out, axis, lambda x, cut=cut: x[cut])  # type: ignore[misc]
        start += length


@rule("select.int")
def _select(compiler: Compiler, call: Call) -> None:
    axis, index = call.args[1] % len(compiler.shape(compiler.only(call))), call.args[2]
    _along(compiler, call, call.outs[0], axis, lambda x: x.select(axis, index), drops=1)


@rule("unsqueeze")
def _unsqueeze(compiler: Compiler, call: Call) -> None:
    axis = call.args[1] % len(compiler.shape(call.outs[0]))
    _along(compiler, call, call.outs[0], axis, lambda x: x.unsqueeze(axis), drops=-1)


@rule("squeeze.dim")
def _squeeze(compiler: Compiler, call: Call) -> None:
    number = compiler.only(call)
    axis = call.args[1] % len(compiler.shape(number))
    drops = len(compiler.shape(number)) - len(compiler.shape(call.outs[0]))
    _along(compiler, call, call.outs[0], axis, lambda x: x.squeeze(axis), drops=drops)


@rule("squeeze.dims")
def _squeeze_many(compiler: Compiler, call: Call) -> None:
    number = compiler.only(call)
    axes = [axis % len(compiler.shape(number)) for axis in call.args[1]]
    if 0 in axes:
        raise NotReplayableError("squeeze takes examples out of the batch")
    compiler.whole(call, None, _moved(lambda x: x.squeeze(axes)), fresh=False)


@rule("constant_pad_nd")
def _pad(compiler: Compiler, call: Call) -> None:
    number, pads = compiler.only(call), list(call.args[1])
    value = float(call.args[2]) if len(call.args) > 2 else 0.0
    form, ndim = compiler.forms[number], len(compiler.shape(number))
    sides = {ndim - 1 - i: tuple(pads[2 * i : 2 * i + 2]) for i in range(len(pads) // 2)}
    padded = {axis for axis, side in sides.items() if side != (0, 0)}
    run = replay(overload(call.op), call, (number,))
    if form is not None and form.axes and not padded & {0, *form.axes}:
        compiler.emit(call, Kind.POINT, run, form)
    elif form is not None and form.axes == (2, 3) and ndim == 4 and padded <= {2, 3} and min(pads) >= 0:

        def run_map(xs: Sequence[Tensor], _weights: _Weights, site: Site) -> Tensor:
            return xs[0] if site.gathered else F.pad(xs[0], pads, value=value)

        y, x = (Local(before=sides.get(axis, (0, 0))[0], after=sides.get(axis, (0, 0))[1]) for axis in (2, 3))
        new = compiler.map_form(call.outs[0])
        # Not fresh: a window comes with what surrounds it, so the window itself is passed on.
        compiler.emit(call, Kind.LOCAL, run_map, new, local=(y, x), fill=value, fresh=False)
    else:
        compiler.whole(call, compiler.map_form(call.outs[0]) if form and form.axes == (2, 3) else None, run)


@rule("cat")
def _cat(compiler: Compiler, call: Call) -> None:
    parts, dim = call.args[0], call.args[1] if len(call.args) > 1 else 0
    operands = compiler.operands(call)
    axis = dim % len(compiler.shape(call.outs[0]))
    if axis == 0 or any(compiler.is_constant(part.id) for part in parts):
        raise NotReplayableError("it joins activations with constants, or examples with each other (cat)")
    order = [operands.index(part.id) for part in parts]
    forms = {compiler.forms[number] for number in operands}
    form = next(iter(forms))
    joined = len(forms) == 1 and form is not None and form.axes is not None and axis not in form.axes

    def run(xs: Sequence[Tensor], _weights: _Weights, _site: Site) -> Tensor:
        return torch.cat([xs[i] for i in order], axis)

    ndims = {len(compiler.shape(number)) for number in operands}
    compiler.emit(call, Kind.JOIN if joined and len(ndims) == 1 else Kind.WHOLE, run, form if joined else None)
