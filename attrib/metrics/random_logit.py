"""Random logit: is the map one of this class, or of any?"""

from __future__ import annotations

import torch
from torch import Tensor

from attrib import checks
from attrib.core import ClassScore
from attrib.errors import TargetError
from attrib.metrics.again import Again, MethodMetric, as_given, drawn_for, similarity
from attrib.registry import METRICS


@METRICS.add("random_logit")
class RandomLogit(MethodMetric):
    r"""How similar is the map to those of other classes? Spearman's correlation.

    .. math:: s = \frac{1}{K} \sum_{k=1}^{K} \rho\bigl(M_{c},\, M_{c_k}\bigr), \qquad c_k \ne c

    Convention:
        - in [-1, 1]; lower is better: a map that is the same for every class explains none. Values above 0.9 are a
          warning; methods that ignore the target have 1, as all controls do.
        - the other classes are drawn without replacement, as many as there are if those are fewer than ``classes``.
        - ``absolute=True`` compares the sizes of values. With two classes, the map of one is often minus that of the
          other: -1 without, 1 with it.
        - the target must be one class; similar classes rightly have similar maps, so numbers of different models do not
          compare.
        - a constant map of another class counts as 0; NaN where the map itself is constant.

    Cost: one forward pass, and ``classes`` maps.

    Args:
        classes: other classes for each example, >= 1.
        absolute: drop the signs of maps first.
        seed: same seed and input, same classes.

    Example:
        >>> from attrib.methods import Saliency
        >>> method = Saliency(model)
        >>> maps = method.attribute(x, target=3)
        >>> RandomLogit(classes=2).score(model, x, 3, maps, method=method).shape
        torch.Size([2])

    References:
        Sixt, Granz, Landgraf, "When Explanations Lie: Why Many Modified BP Attributions Fail", ICML 2020.
    """

    higher_is_better = False
    range = (-1.0, 1.0)

    def __init__(self, *, classes: int = 3, absolute: bool = False, seed: int = 0) -> None:
        self.classes = checks.integer("classes", classes, 1)
        self.absolute = absolute
        self.seed = checks.integer("seed", seed, 0)

    def measure(self, again: Again, maps: Tensor) -> Tensor:
        """Mean over the other classes."""
        others = self._others(again)
        example = torch.arange(len(maps)).repeat_interleave(others.shape[1])
        goal = ClassScore(others.flatten(), again.goal.space)  # type: ignore[attr-defined]  # it is a ClassScore
        found = torch.empty(len(example), dtype=torch.float64)
        for rows, drawn in again.ask(example, lambda rows: again.x[example[rows].to(again.x.device)], goal):
            found[rows] = similarity(as_given(drawn, maps), maps[example[rows]], self.absolute)
        constant = similarity(maps, maps, self.absolute).isnan()
        return found.nan_to_num(0.0).reshape(len(maps), -1).mean(1).masked_fill(constant, float("nan"))

    def _others(self, again: Again) -> Tensor:
        """Classes ``(N, K)``, none of them the explained one."""
        goal = again.goal
        own = goal.index if isinstance(goal, ClassScore) and isinstance(goal.index, Tensor) else None
        count = again.output.shape[1] if own is not None and again.output.ndim == 2 else 1
        if own is None or count < 2:
            raise TargetError(
                f"target must be one of at least two classes to be compared with another; got {goal!r}. "
                "Leave random_logit out."
            )
        lots = [torch.randperm(count - 1, generator=drawn_for(image, self.seed))[: self.classes] for image in again.x]
        drawn, own = torch.stack(lots), own.reshape(-1, 1).cpu().expand(len(again.x), 1)
        return drawn + (drawn >= own)
