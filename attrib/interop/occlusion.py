"""Captum's Occlusion under its own name, through `sweep` wherever that cannot change the result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from inspect import getclosurevars, isclass, isfunction, ismethod, signature
from typing import Any

import captum.attr
import torch
from captum.log import log_usage
from torch import Tensor, nn
from tqdm import tqdm

from attrib import checks
from attrib.core import Query, Windows, as_objective, resolve_baseline, sweep
from attrib.core.masking.masks import Box
from attrib.core.masking.options import auto_rows
from attrib.core.network.frozen import random_state_kept
from attrib.core.reduce import widened
from attrib.errors import AttribError
from attrib.interop.gradients import Maps
from attrib.interop.lent import either_name

# How far a clean row may be from itself in another batch: rounding of other kernels, no more. CUDA's TF32 has 10 bits.
_ROUNDING = {"cpu": 1e-4, "cuda": 1e-2}


class Occlusion(captum.attr.Occlusion):  # type: ignore[misc]  # Captum ships no types
    """`captum.attr.Occlusion`, faster for the standard case.

    The standard case is one batch of images, windows over all channels, one number per example. It runs in batches that
    suit the machine; ``perturbations_per_eval`` above 1 is an upper bound, as in Captum. A model whose rows depend on
    each other (BatchNorm in training mode, an output summed over the batch) is recognised, and it and every other case
    run through Captum's own code.
    """

    @either_name
    def __init__(self, forward_func: Callable[..., Tensor]) -> None:
        super().__init__(forward_func)

    @log_usage(part_of_slo=True)  # type: ignore[untyped-decorator]
    def attribute(  # Captum's order
        self,
        inputs: Maps,
        sliding_window_shapes: Any,
        strides: Any = None,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: object = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Maps:
        """See `captum.attr.Occlusion.attribute`."""
        case = _Case(self.forward_func, inputs, target, additional_forward_args, perturbations_per_eval)
        if case.is_standard:
            bar = f"{self.get_name()} attribution" if show_progress else None
            try:
                with torch.no_grad(), random_state_kept():
                    maps = case.maps(_only(sliding_window_shapes), _only(strides), _only(baselines), bar)
                return (maps,) if isinstance(inputs, tuple) else maps
            except (_NotStandardError, AttribError, RuntimeError):
                pass  # Captum's code below has the result, or its own words for what is wrong
        return super().attribute.__wrapped__(
            self,
            inputs,
            sliding_window_shapes,
            strides,
            baselines,
            target,
            additional_forward_args,
            perturbations_per_eval,
            show_progress,
        )


class _NotStandardError(Exception):
    """Captum's own code must answer."""


def _only(value: Any) -> Any:
    """Unpack what was given for each of one input."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def _modules_behind(function: object, depth: int = 3) -> Iterator[nn.Module]:
    """The modules that a call of ``function`` can be seen to use: what it is, holds, encloses or names."""
    if isinstance(function, nn.Module):
        yield from function.modules()
    elif depth and callable(function) and not isclass(function):
        for part in _held_by(function):
            yield from _modules_behind(part, depth - 1)


def _held_by(function: Any) -> Iterator[object]:
    if isinstance(function, partial):
        yield from (function.func, *function.args, *function.keywords.values())
    elif ismethod(function):
        yield from (function.__self__, function.__func__)
    elif isfunction(function):
        yield from (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        with suppress(ValueError):  # a variable of the enclosing function is not set
            names = getclosurevars(function)
            yield from (*names.nonlocals.values(), *names.globals.values())
    else:
        yield from getattr(function, "__dict__", {}).values()


def _mixes_rows(module: nn.Module) -> bool:
    """Whether a row's result depends on the other rows or on chance."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module.training or not module.track_running_stats
    return isinstance(module, nn.modules.dropout._DropoutNd) and module.training


@dataclass(frozen=True)
class _WithClean:
    """The windows, after one mask that hides nothing: its score tells whether rows keep to themselves."""

    windows: Windows

    def __len__(self) -> int:
        return 1 + len(self.windows)

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        keep = self.windows.batch(max(start - 1, 0), stop - 1, like)
        return torch.cat([torch.ones_like(like[None, :1, :1]), keep]) if start == 0 else keep

    @property
    def boxes(self) -> Sequence[Box]:
        return (0, 1, 0, 1), *self.windows.boxes

    def crop(self, positions: Tensor, y: tuple[Tensor, int], x: tuple[Tensor, int], like: Tensor) -> Tensor | None:
        keep = self.windows.crop((positions - 1).clamp(min=0), y, x, like)
        if keep is None and not (positions == 0).any():
            return None
        keep = like.new_zeros(len(positions), 1, 1, y[1], x[1]) if keep is None else keep
        keep[positions == 0] = 1
        return keep


@dataclass(frozen=True)
class _Case:
    """One call of ``attribute``."""

    forward: Callable[..., Any]
    inputs: object
    target: Any
    given: object
    per_eval: Any

    @property
    def x(self) -> Any:
        """The only input."""
        return _only(self.inputs)

    @property
    def extra(self) -> tuple[Any, ...]:
        """Further arguments of the model."""
        return checks.arguments(self.given)

    @property
    def is_standard(self) -> bool:
        """One batch of images, arguments that repeat in one way only, a model whose rows keep to themselves."""
        x = self.x
        if not (isinstance(x, Tensor) and x.ndim == 4 and len(x) and x.is_floating_point()):
            return False
        if not isinstance(self.per_eval, int) or self.per_eval < 1 or self._has_shared_rows():
            return False
        try:
            takes = signature(self.forward).parameters
        except ValueError:  # Captum fails on it too
            return False
        return len(takes) > 0 and not any(map(_mixes_rows, _modules_behind(self.forward)))

    def _has_shared_rows(self) -> bool:
        """Whether an argument with N rows may belong to the call rather than to the examples: Captum then keeps it."""
        same = any(isinstance(a, Tensor) and a.ndim > 0 and len(a) == len(self.x) for a in self.extra)
        return same and self.per_eval == 1

    def maps(self, window: Any, stride: Any, baseline: Any, bar: str | None) -> Tensor:
        """Average over the windows that cover each pixel, ``(N, C, H, W)``."""
        query = Query(self.forward, (self.x.detach().clone(),), as_objective(self.target), None, self.extra)
        masks = _WithClean(self._windows(window, stride))
        base = self._baseline(baseline)
        clean = query.clean.score
        if not clean.is_floating_point():
            raise _NotStandardError
        total = widened(clean).new_zeros(len(clean), 1, *masks.windows.size)
        cover = torch.zeros(masks.windows.size)
        with tqdm(total=len(masks), desc=bar, file=sys.stderr, disable=bar is None) as progress:
            for positions, score in sweep(query, masks, baseline=base, batch_size=self._rows()):
                for position, values in zip(positions.tolist(), score, strict=True):
                    if position == 0:  # hides nothing
                        self._check_rows(clean, values)
                        continue
                    top, bottom, left, right = masks.windows.boxes[position - 1]
                    total[..., top:bottom, left:right] += (clean - values)[:, None, None, None]
                    cover[top:bottom, left:right] += 1
                progress.update(len(score))
        return (total.float() / cover.to(total.device)).expand(self.x.shape).contiguous()  # float32, as Captum's

    def _rows(self) -> int:
        best = auto_rows(self.x)
        rows: int = best if self.per_eval == 1 else min(best, self.per_eval * len(self.x))
        return rows

    def _windows(self, window: Any, stride: Any) -> Windows:
        stride = (1 if stride is None else stride,) * 3 if isinstance(stride, int | None) else stride
        if not all(isinstance(v, tuple) and len(v) == 3 for v in (window, stride)) or window[0] != self.x.shape[1]:
            raise _NotStandardError
        size = (self.x.shape[2], self.x.shape[3])
        if window[1] > size[0] or window[2] > size[1]:
            raise _NotStandardError
        return Windows(size, window[1:], stride[1:], "cut")

    def _baseline(self, baseline: Any) -> Tensor:
        if baseline is not None and not isinstance(baseline, (Tensor, int, float)):
            raise _NotStandardError
        if isinstance(baseline, Tensor) and baseline.dtype != self.x.dtype:
            raise _NotStandardError  # Captum would promote the input
        return resolve_baseline(0 if baseline is None else baseline, self.x)

    def _check_rows(self, clean: Tensor, again: Tensor) -> None:
        limit = _ROUNDING.get(clean.device.type, 1e-2) if clean.dtype in (torch.float32, torch.float64) else 5e-2
        if not bool(((clean - again).abs() <= limit * clean.abs().max()).all()):
            raise _NotStandardError
