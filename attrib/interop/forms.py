"""Our forms of what is put in place of parts of the input, and of its regions, as Captum takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from attrib.core import Baseline, resolve_baseline
from attrib.core.masking.superpixels import superpixels
from attrib.errors import InputError, ShapeError

Regions = Tensor | tuple[Tensor, ...] | Callable[..., Tensor | tuple[Tensor, ...]]
Several = Baseline | Sequence[Baseline] | Callable[..., Tensor | tuple[Tensor, ...]]


def filled(given: Baseline | tuple[Baseline, ...], inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """One baseline for all inputs or one for each, in the shapes of the inputs."""
    each = given if isinstance(given, tuple) else (given,) * len(inputs)
    if len(each) != len(inputs):
        raise InputError(f"baselines must be one for all or one for each of {len(inputs)} inputs; got {len(each)}.")
    return tuple(resolve_baseline(b, x).expand_as(x).contiguous() for b, x in zip(each, inputs, strict=True))


def usual(*inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
    """The baselines of one example: zero, its mean over the locations, and the blurred example.

    The mean is left out where there are no locations, and the blurred example where they have not two axes.
    """
    found = tuple(
        torch.cat([resolve_baseline(kind, x).expand_as(x) for kind in ("zero", "mean", "blur")[: _kinds(x)]])  # type: ignore[arg-type]
        for x in inputs
    )
    return found if len(found) > 1 else found[0]


def _kinds(x: Tensor) -> int:
    return 3 if x.ndim == 4 else 2 if x.ndim > 2 else 1


def distribution(given: Several, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Several baselines for one example, ``(B, C, H, W)`` for each of its inputs.

    A form of `resolve_baseline`, or a list of them, is for all inputs; a Tensor with the axes of the input holds one
    baseline in each row, and a function gives such Tensors, one for each input.
    """
    if callable(given):
        given = given(*inputs)
        if isinstance(given, tuple) and len(given) != len(inputs):
            raise InputError(f"baselines must give one Tensor for each of {len(inputs)} inputs; got {len(given)}.")
        return tuple(map(_rows_of, given if isinstance(given, tuple) else (given,) * len(inputs), inputs))
    if isinstance(given, (str, int, float, Tensor)):
        return tuple(_rows_of(given, x) for x in inputs)
    if not given:
        raise InputError("baselines must be at least one; got none.")
    return tuple(torch.cat([_rows_of(one, x) for one in given]) for x in inputs)


def _rows_of(given: Baseline, x: Tensor) -> Tensor:
    """The rows that one form gives for the example ``x (1, ...)``."""
    found = given(x) if callable(given) else given
    if not isinstance(found, Tensor) or found.ndim < x.ndim:
        return resolve_baseline(found, x).expand_as(x)
    if found.shape[1:] != x.shape[1:] or not len(found):
        raise ShapeError(f"baselines must be (B, {', '.join(map(str, x.shape[1:]))}); got {tuple(found.shape)}.")
    return torch.cat([resolve_baseline(row, x) for row in torch.split(found, 1)])


def labels(given: Regions, inputs: tuple[Tensor, ...], rows: Tensor) -> tuple[Tensor, ...]:
    """The regions of each input, for the examples ``rows``."""
    parts = tuple(x[rows] for x in inputs)
    if getattr(given, "func", given) is superpixels and (len(inputs) > 1 or inputs[0].ndim != 4):
        raise InputError(
            "feature_mask must be given for inputs that are not one image (N, C, H, W), which has superpixels; got "
            f"{', '.join(str(tuple(x.shape)) for x in inputs)}. Pass integer labels that broadcast to each input, or a "
            "function of the inputs that gives them."
        )
    found = given(*parts) if callable(given) else given
    each = found if isinstance(found, tuple) else (found,)
    if len(each) != len(inputs):
        got = len(found) if isinstance(found, tuple) else type(found).__name__
        raise InputError(f"feature_mask must be one Tensor for each of {len(inputs)} inputs; got {got}.")
    seen = parts if callable(given) else inputs
    return tuple(_of(_checked(mask, x), rows, len(inputs[0])) for mask, x in zip(each, seen, strict=True))


def _checked(mask: object, x: Tensor) -> Tensor:
    """Whole numbers that broadcast to ``x``, with all its axes; the first is 1 where all examples share regions."""
    if not isinstance(mask, Tensor):
        hint = " Convert it with torch.from_numpy." if type(mask).__module__ == "numpy" else ""
        raise InputError(f"feature_mask must be a Tensor for each input; got {type(mask).__name__}.{hint}")
    if mask.is_floating_point() or mask.is_complex() or mask.dtype == torch.bool:
        raise InputError(f"feature_mask must hold whole numbers; got {mask.dtype}. Convert it with mask.long().")
    padded = mask.reshape((1,) * (x.ndim - mask.ndim) + tuple(mask.shape))
    if padded.ndim != x.ndim or any(size not in (1, full) for size, full in zip(padded.shape, x.shape, strict=True)):
        raise ShapeError(
            f"feature_mask must broadcast to the input {tuple(x.shape)}; got {tuple(mask.shape)}. Enlarge a coarse one "
            "with torch.nn.functional.interpolate, mode='nearest'."
        )
    return padded


def regions(given: Regions | None, inputs: tuple[Tensor, ...], row: Tensor) -> int:
    """How many regions the example ``row (1,)`` has; without labels every value is one, as in Captum."""
    if given is None:
        return sum(x[0].numel() for x in inputs)
    return len(torch.unique(torch.cat([mask.flatten() for mask in labels(given, inputs, row)])))


def _of(mask: Tensor, rows: Tensor, n: int) -> Tensor:
    """The part of a mask for the examples ``rows``, in one piece: ShapleyValueSampling takes views of it."""
    each = len(mask) == n > len(rows)
    return (mask[rows] if each else mask).contiguous()
