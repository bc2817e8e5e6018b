"""Objective for detectors: how surely a box is found again."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from attrib import checks
from attrib.core.objectives.objective import Acts, Objective
from attrib.core.objectives.outputs import Whole, chosen, each, whole
from attrib.errors import ModelError, TargetError

Corners: TypeAlias = Tensor | np.ndarray[Any, Any] | Sequence[float] | Sequence[Sequence[float]]


@dataclass(frozen=True, eq=False)
class Box(Objective):
    r"""How surely a detector finds a box: the best product of overlap and score among detections of its label.

    .. math:: s = \max_{j:\, l_j = l} \mathrm{IoU}(b, b_j)\, p_j

    For outputs as torchvision's detectors give them in evaluation mode: per example a dictionary with ``"boxes"
    (M, 4)``, ``"labels" (M,)`` and ``"scores" (M,)``. It is differentiable in boxes and scores. Where no detection
    matches, the score is 0 and so is its gradient, and maps are empty; on the clean input a warning says so. Detectors
    drop detections of low score themselves (torchvision: ``box_score_thresh``).

    Args:
        box: ``(x1, y1, x2, y2)`` in pixels for all examples, or ``(N, 4)``, such as ``model(x)[0]["boxes"][0]``.
        label: of the box, or one per example.
        iou: detections that overlap less do not count, in [0, 1].

    Example:
        >>> found = {"boxes": torch.tensor([[0.0, 0, 4, 2], [0, 0, 4, 4]]), "labels": torch.tensor([7, 8])}
        >>> Box((0, 0, 4, 4), label=7)([{**found, "scores": torch.tensor([0.8, 0.9])}], {})
        tensor([0.4000])

    References:
        Petsiuk et al., "Black-box Explanation of Object Detectors via Saliency Maps", CVPR 2021, section 3: the
        pairwise similarity of D-RISE, without objectness and with the score of the detected class in place of the
        cosine of class probabilities, which torchvision's detectors do not return.
    """

    box: Corners
    label: Whole
    iou: float = 0.0

    def __post_init__(self) -> None:
        checks.number("iou", self.iou, 0, 1)
        object.__setattr__(self, "box", _corners(self.box))
        object.__setattr__(self, "label", whole("label of a box", self.label, 0, 1).reshape(-1))

    @property
    def entries(self) -> int:
        return max(len(value) for value in (self.box, self.label) if isinstance(value, Tensor))

    def bind(self, output: Any, acts: Acts) -> Box:
        found = self(output, acts)
        missed = (found == 0).nonzero().flatten().tolist()
        if missed:
            warnings.warn(
                f"no detection on the clean input matches the box of example {', '.join(map(str, missed))}: its score "
                "and gradient are 0. Take box and label from the model's own detections, or lower its score threshold.",
                stacklevel=2,
            )
        return self

    def rows(self, index: Tensor) -> Box:
        return replace(
            self, box=chosen(torch.as_tensor(self.box), index), label=chosen(torch.as_tensor(self.label), index)
        )

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        found = [_detections(one) for one in _examples(output)]
        device = found[0][0].device
        boxes = each("box", torch.as_tensor(self.box, device=device), len(found)).expand(len(found), 4)
        labels = each("label of a box", torch.as_tensor(self.label, device=device), len(found)).expand(len(found))
        return torch.stack([self._best(*one) for one in zip(boxes, labels, found, strict=True)])

    def _best(self, box: Tensor, label: Tensor, found: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        boxes, labels, scores = found
        overlap = overlaps(box.to(boxes.dtype), boxes)
        matching = (labels == label) & (overlap >= self.iou)
        if not bool(matching.any()):
            return boxes.sum() * 0 + scores.sum() * 0  # in the graph, so that its gradient is 0 and not missing
        return (overlap * scores)[matching].amax()


def overlaps(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of ``box (4,)`` with each of ``boxes (M, 4)``."""
    low, high = torch.maximum(boxes[:, :2], box[:2]), torch.minimum(boxes[:, 2:], box[2:])
    inside = (high - low).clamp(min=0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return inside / (areas + (box[2:] - box[:2]).prod() - inside)


def _corners(box: object) -> Tensor:
    try:
        corners = torch.as_tensor(box, dtype=torch.get_default_dtype() if not isinstance(box, Tensor) else None)
    except (TypeError, ValueError, RuntimeError):
        corners = torch.empty(0)
    corners = corners.detach()
    if corners.ndim not in (1, 2) or corners.shape[-1] != 4 or not len(corners):
        raise TargetError(f"box must have shape (4,) or (N, 4): x1, y1, x2, y2; got {box!r}.")
    sides = corners[..., 2:] - corners[..., :2]
    if not bool(torch.isfinite(sides).all()) or not bool((sides > 0).all()):
        empty = bool((sides >= 0).all())
        why = "One without an area overlaps nothing: take another detection" if empty else "Convert xywh boxes"
        raise TargetError(f"box must have x1 < x2 and y1 < y2, in pixels; got {corners.tolist()}. {why}.")
    return corners.reshape(-1, 4)


def _examples(output: Any) -> Sequence[Mapping[str, Tensor]]:
    if not isinstance(output, (list, tuple)) or not output or not all(isinstance(one, Mapping) for one in output):
        raise ModelError(
            "a box needs a detector that returns a list with a dictionary per example; it returned a "
            f"{type(output).__name__}. Wrap the model in one that gives boxes, labels and scores."
        )
    return output


def _detections(found: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    missing = [key for key in ("boxes", "labels", "scores") if key not in found]
    if missing:
        raise ModelError(f"a detection must have boxes, labels and scores; got {sorted(map(str, found))}.")
    boxes, labels, scores = found["boxes"], found["labels"], found["scores"]
    if boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1] or scores.shape != boxes.shape[:1]:
        raise ModelError(
            "detections must have boxes (M, 4), labels (M,) and scores (M,); got "
            f"{tuple(boxes.shape)}, {tuple(labels.shape)} and {tuple(scores.shape)}."
        )
    return boxes, labels, scores
