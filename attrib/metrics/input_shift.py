"""Input shift: does the map stay when the input moves and the model moves with it?"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core import Query, frozen
from attrib.errors import InputError, LayerError
from attrib.metrics.again import Again, MethodMetric, as_given, length
from attrib.metrics.weights import copy_of, weighted_layers
from attrib.registry import METRICS

_AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@METRICS.add("input_shift")
class InputShift(MethodMetric):
    r"""By how much does the map change when a constant is added to the input, and taken off again by the first layer?

    .. math:: s = \frac{\lVert M(f', x + c) - M(f, x) \rVert}{\lVert M(f, x) \rVert}, \qquad f'(x + c) = f(x)

    Convention:
        - in [0, infinity), a share of the map's Euclidean norm; 0, up to rounding, for methods that look at what the
          model computes and not at where zero is. Above 0.1 the zero of the input's scale is part of the answer, as it
          is by design where a baseline of zero, or the input itself, is a factor. A descriptor.
        - the twin ``f'`` is a copy whose first layer with weights has another bias. Padding with zeros makes the shift
          another one at the border; the difference is taken off there too, so that the twin is exact.
        - whether it is, is checked on the first example. Where a bias cannot absorb the shift (the first layer is not
          affine, or the input goes another way too), the shift is taken off the input itself.
        - the baseline of a method stays as it is: "zero" is another colour to the twin.
        - NaN where the map is zero.

    Cost: one forward pass, one map, and four passes of a single example.

    Args:
        shift: what is added to every value, in the unit of the model's input, not 0.

    Example:
        >>> from attrib.methods import InputXGradient, Saliency
        >>> for method in (Saliency(model), InputXGradient(model)):
        ...     maps = method.attribute(x, target=3)
        ...     print(method.name, bool((InputShift().score(model, x, 3, maps, method=method) < 0.01).all()))
        saliency True
        input_x_gradient False

    References:
        Kindermans, Hooker, Adebayo, Alber, Schuett, Daehne, Erhan, Kim, "The (Un)reliability of Saliency Methods",
        2017 (arXiv 1711.00867).
    """

    higher_is_better = False
    range = (0.0, math.inf)
    descriptor = True

    def __init__(self, *, shift: float = 1.0) -> None:
        self.shift = checks.number("shift", shift)
        if self.shift == 0:
            raise InputError(f"shift must not be 0; got {shift!r}.")

    def measure(self, again: Again, maps: Tensor) -> Tensor:
        """Ask the twin about the shifted input."""
        moved = again.x + self.shift
        twin = again.on(shifted(again, self.shift))
        found = as_given(twin.maps(torch.arange(len(maps)), lambda rows: moved[rows.to(moved.device)]), maps)
        size = length(maps)
        return (length(found - maps) / size).masked_fill(size == 0, float("nan"))


def shifted(again: Again, shift: float) -> nn.Module:
    """Copy the model so that it does for ``x + shift`` what it does for ``x``."""
    model = cast(nn.Module, again.method.model)
    name = weighted_layers(model, *again.first())[0]
    with suppress(LayerError):  # a layer that runs twice
        if (twin := _biased(again, model, name, shift)) is not None:
            return twin
    twin = copy_of(model)
    twin.register_forward_pre_hook(lambda _, args: (args[0] - shift, *args[1:]))
    return twin


def _biased(again: Again, model: nn.Module, name: str, shift: float) -> nn.Module | None:
    """A copy in which layer ``name`` absorbs the shift, if it can."""
    twin, x = copy_of(model), again.first()[0]
    layer = twin.get_submodule(name)
    if not isinstance(layer, _AFFINE):
        return None
    score, out = _run(again, twin, name, x)
    _, moved = _run(again, twin, name, x + shift)
    _absorb(layer, moved - out)
    same, _ = _run(again, twin, name, x + shift)
    return twin if torch.allclose(same, score, rtol=1e-3, atol=1e-3 * max(1.0, float(score.abs().max()))) else None


def _absorb(layer: Any, change: Tensor) -> None:
    """Take ``change (1, ...)`` off what the layer gives: by its bias, and, where it is another one, by a hook."""
    axis = -1 if isinstance(layer, nn.Linear) else 1
    inner = change.movedim(axis, -1).flatten(0, -2)
    middle = inner[len(inner) // 2]
    with torch.no_grad():
        layer.bias = nn.Parameter(-middle if layer.bias is None else layer.bias - middle, requires_grad=False)
    border = change - middle.reshape([-1 if i == axis % change.ndim else 1 for i in range(change.ndim)])
    if border.abs().max() > 1e-4 * change.abs().max():
        layer.register_forward_hook(lambda _, __, out: out - border)


def _run(again: Again, model: nn.Module, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """The score of the first example, moved to ``x``, and what layer ``name`` gives."""
    goal = again.goal.rows(torch.zeros(1, dtype=torch.long))
    query = Query(model, (x,), goal, name, again.first()[1])
    with frozen(model):
        return query.clean.score, query.clean.acts[name]
