"""Objectives for outputs that are not one score per class: labels, pixels, embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from attrib import checks
from attrib.core.objectives.objective import SPACES, Acts, ClassScore, Objective, Space
from attrib.errors import ModelError, TargetError

Whole: TypeAlias = int | Sequence[int] | np.ndarray[Any, Any] | Tensor


def whole(what: str, value: object, *ndims: int) -> Tensor:
    """``value``: whole numbers with as many axes as one of ``ndims``, as a LongTensor."""
    try:
        found = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(0, dtype=torch.bool)
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool or not found.numel():
        raise TargetError(f"{what} must hold whole numbers; got {value!r}.")
    if found.ndim not in ndims:
        raise TargetError(f"{what} must have {' or '.join(map(str, ndims))} axes; got shape {tuple(found.shape)}.")
    return found.detach().long()


def in_range(what: str, values: Tensor, size: int) -> Tensor:
    """``values`` must lie in ``[0, size - 1]``."""
    bad = values[(values < 0) | (values >= size)]
    if len(bad):
        raise TargetError(f"{what} must lie in [0, {size - 1}] for this output; got {int(bad[0])}.")
    return values


def each(what: str, value: Tensor, n: int) -> Tensor:
    """``value`` must have one entry per example, or a single one, along its first axis."""
    if len(value) not in (1, n):
        raise TargetError(
            f"{what} must have one entry per example (N={n}), or one for all; got {len(value)}. "
            "Captum's NoiseTunnel repeats lists of objectives, one per example, but not what an objective holds."
        )
    return value


def chosen(value: Tensor, rows: Tensor) -> Tensor:
    """The entries of ``rows``; a single one stands for all examples."""
    return value[rows.to(value.device)] if len(value) > 1 else value


def dense(output: Any, pattern: str, what: str, hint: str = "Wrap the model in one that picks it.") -> Tensor:
    """``output`` must be one Tensor with the axes of ``pattern``."""
    if not isinstance(output, Tensor):
        keys = f" with keys {sorted(map(str, output))}" if isinstance(output, Mapping) else ""
        raise ModelError(
            f"{what} needs a model that returns one Tensor; it returned a {type(output).__name__}{keys}. {hint}"
        )
    axes = pattern.split()
    if output.ndim != len(axes):
        names = ", ".join(axis.upper() for axis in axes)
        raise TargetError(f"{what} needs outputs of shape ({names}); the model gives {tuple(output.shape)}.")
    return output


def picked(output: Tensor, index: Tensor, space: Space) -> Tensor:
    """Scores ``(N, ...)`` of the classes ``index (N, ...)`` of ``output (N, C, ...)``; C = 1 is a sigmoid's logit."""
    own = index[:, None]
    logit = output.gather(1, own)[:, 0]
    if space == "logit":
        return logit
    if output.shape[1] > 1:  # no cancellation: own logit minus the log-sum-exp of the others
        logit = logit - output.scatter(1, own, float("-inf")).logsumexp(1)
    return from_log_odds(logit, space)


def from_log_odds(log_odds: Tensor, space: Space) -> Tensor:
    """Log-odds in another space; a sigmoid's logit is its log-odds."""
    if space in ("logit", "log_odds"):
        return log_odds
    return log_odds.sigmoid() if space == "probability" else F.logsigmoid(log_odds)


@dataclass(frozen=True, eq=False)
class Label(ClassScore):
    r"""Score of one label where each output has a sigmoid of its own (multi-label models, attributes).

    .. math:: p_c = \sigma(z_c), \qquad \log \frac{p_c}{1 - p_c} = z_c

    Args:
        index: as for `ClassScore`: a label, or one per example; a position for dense outputs.
        space: ``"logit"`` and ``"log_odds"`` are the output itself; ``"probability"`` and ``"log_probability"`` take
            its sigmoid, whatever the other labels are.

    Example:
        >>> out = torch.tensor([[0.0, 3.0]])
        >>> Label(0, "probability")(out, {}), ClassScore(0, "probability")(out, {}).round(decimals=4)
        (tensor([0.5000]), tensor([0.0474]))
    """

    def _in_space(self, output: Tensor, where: tuple[Tensor, ...]) -> Tensor:
        return from_log_odds(output[where], self.space)


@dataclass(frozen=True, eq=False)
class Region(Objective):
    r"""Score of a class over a region of a segmentation ``(N, C, H, W)``.

    .. math:: s = \frac{\sum_p m_p\, s_c(p)}{\sum_p m_p}, \qquad \text{or } \sum_p m_p\, s_c(p)
              \text{ with } \texttt{reduce="sum"}

    A region that is not given is settled once, on the clean input, and does not move when pixels are hidden.

    Args:
        index: the class, or a class per example.
        mask: ``(H, W)`` for all examples or ``(N, H, W)``, of the output's size; booleans, or weights of at least 0.
            None: where the class has the highest score on the clean input (a positive one, if it is the only class).
        key: which entry of a dictionary to read; torchvision's segmentation models call it ``"out"``.
        reduce: ``"mean"`` or ``"sum"`` over the region.
        space: of the score at each pixel, before it is reduced; over the classes, as in `ClassScore`.

    Example:
        >>> out = torch.tensor([[[[3.0, 1.0]], [[0.0, 2.0]]]])  # two classes, one row of two pixels
        >>> Region(0).bind(out, {})(out, {}), Region(0, torch.ones(1, 2))(out, {})
        (tensor([3.]), tensor([2.]))
    """

    index: Whole
    mask: Tensor | np.ndarray[Any, Any] | None = None
    key: str | None = None
    reduce: Literal["mean", "sum"] = "mean"
    space: Space = "logit"

    def __post_init__(self) -> None:
        checks.choice("reduce", self.reduce, ("mean", "sum"))
        checks.choice("score space", self.space, SPACES)
        object.__setattr__(self, "index", whole("class of a region", self.index, 0, 1).reshape(-1))
        if self.mask is not None:
            object.__setattr__(self, "mask", _weights(torch.as_tensor(self.mask)))

    @property
    def entries(self) -> int:
        return max(len(value) for value in (self.index, self.mask) if isinstance(value, Tensor))

    def bind(self, output: Any, acts: Acts) -> Region:
        out = self._read(output)
        index = each("class of a region", torch.as_tensor(self.index, device=out.device), len(out))
        index = in_range("class of a region", index, out.shape[1]).expand(len(out))
        mask = _where(out, index) if self.mask is None else torch.as_tensor(self.mask, device=out.device)
        if mask.shape[1:] != out.shape[2:]:
            raise TargetError(
                f"mask must have the size of the output, {tuple(out.shape[2:])}; got {tuple(mask.shape[1:])}. "
                "Resize it, or the output of the model."
            )
        mask = each("mask", mask, len(out)).expand(len(out), -1, -1)
        for n, some in enumerate(mask.flatten(1).any(1).tolist()):
            if not some:
                why = (
                    "its mask is all zero" if self.mask is not None else f"class {int(index[n])} is the highest nowhere"
                )
                raise TargetError(f"region must have at least one pixel; example {n} has none: {why}. Pass a mask.")
        return replace(self, index=index, mask=mask)

    def rows(self, index: Tensor) -> Region:
        mask = None if self.mask is None else chosen(torch.as_tensor(self.mask), index)
        return replace(self, index=chosen(torch.as_tensor(self.index), index), mask=mask)

    def in_space(self, space: Space) -> Region:
        return replace(self, space=space)

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        bound, out = self.bind(output, acts), self._read(output)
        mask = torch.as_tensor(bound.mask).to(out.dtype)
        index = torch.as_tensor(bound.index)[:, None, None].expand(mask.shape)
        total = (picked(out, index, self.space) * mask).sum((1, 2))
        return total / mask.sum((1, 2)) if self.reduce == "mean" else total

    def _read(self, output: Any) -> Tensor:
        if self.key is None:
            hint = "Say which with key=." if isinstance(output, Mapping) else "Wrap the model in one that picks it."
            return dense(output, "n c h w", "a region", hint)
        if not isinstance(output, Mapping) or self.key not in output:
            known = f"keys {sorted(map(str, output))}" if isinstance(output, Mapping) else f"a {type(output).__name__}"
            raise ModelError(f"a region with key={self.key!r} needs a dictionary that has it; the model gave {known}.")
        return dense(output[self.key], "n c h w", f"a region of {self.key!r}")


def _weights(mask: Tensor) -> Tensor:
    """``mask`` as ``(1 or N, H, W)``."""
    if mask.ndim not in (2, 3) or 0 in mask.shape:
        raise TargetError(f"mask must have shape (H, W) or (N, H, W); got {tuple(mask.shape)}.")
    if mask.is_complex() or not checks.finite(mask) or bool((mask < 0).any()):
        raise TargetError(
            f"mask must hold booleans or finite weights of at least 0; got dtype {mask.dtype}, or others."
        )
    return mask.detach().reshape(-1, *mask.shape[-2:])


def _where(out: Tensor, index: Tensor) -> Tensor:
    """The pixels ``(N, H, W)`` whose class is ``index (N,)``; with a single class, those that have it at all."""
    return out[:, 0] > 0 if out.shape[1] == 1 else out.argmax(1) == index[:, None, None]


@dataclass(frozen=True, eq=False)
class Similarity(Objective):
    r"""How near the model's embedding ``(N, D)`` is to a reference.

    .. math:: s = \frac{\langle f(x), r \rangle}{\lVert f(x) \rVert \, \lVert r \rVert}, \qquad
              \text{or } \langle f(x), r \rangle \text{ with } \texttt{kind="dot"}

    Args:
        reference: ``(D,)`` for all examples or ``(N, D)``: what the model says of another picture, or of a text. No
            gradient flows into it.
        kind: ``"cosine"``, in [-1, 1], or ``"dot"``.

    Example:
        >>> out = torch.tensor([[3.0, 4.0]])
        >>> Similarity(torch.tensor([1.0, 0.0]))(out, {}), Similarity(torch.tensor([1.0, 0.0]), kind="dot")(out, {})
        (tensor([0.6000]), tensor([3.]))
    """

    reference: Tensor | np.ndarray[Any, Any]
    kind: Literal["cosine", "dot"] = "cosine"

    def __post_init__(self) -> None:
        checks.choice("kind", self.kind, ("cosine", "dot"))
        reference = torch.as_tensor(self.reference).detach()
        if reference.ndim not in (1, 2) or 0 in reference.shape or not reference.is_floating_point():
            raise TargetError(
                f"reference must hold floats of shape (D,) or (N, D); got {tuple(reference.shape)} {reference.dtype}. "
                "Pass what the model says of the reference: model(other), not the picture."
            )
        if not checks.finite(reference) or (self.kind == "cosine" and not bool(reference.any(-1).all())):
            raise TargetError("reference must be finite, and have a direction; got NaN, infinite or only zeros.")
        object.__setattr__(self, "reference", reference.reshape(-1, reference.shape[-1]))

    @property
    def entries(self) -> int:
        return len(self.reference)

    def bind(self, output: Any, acts: Acts) -> Similarity:
        return replace(self, reference=self._fitting(dense(output, "n d", "a similarity")))

    def _fitting(self, out: Tensor) -> Tensor:
        reference = torch.as_tensor(self.reference, device=out.device, dtype=out.dtype)
        if reference.shape[1] != out.shape[1]:
            raise TargetError(
                f"reference must have the {out.shape[1]} dimensions of the output; got {reference.shape[1]}. "
                "Are both made by one model, or by two towers with one embedding?"
            )
        return each("reference", reference, len(out))

    def rows(self, index: Tensor) -> Similarity:
        return replace(self, reference=chosen(torch.as_tensor(self.reference), index))

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        out = dense(output, "n d", "a similarity")
        reference = self._fitting(out)
        return F.cosine_similarity(out, reference) if self.kind == "cosine" else (out * reference).sum(1)
