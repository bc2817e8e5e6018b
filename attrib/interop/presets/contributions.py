"""Contributions to the difference from a baseline: DeepLIFT, against one and against several."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import captum.attr
import torch
from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR
from torch import Tensor, nn

from attrib import checks
from attrib.core import Baseline, ClassScore, Objective, Query
from attrib.core.objectives.objective import Sum
from attrib.errors import RuleError
from attrib.interop.forms import Several, distribution, usual
from attrib.interop.presets.paths import scores_at, scores_at_baselines
from attrib.interop.presets.watch import Watch
from attrib.interop.wrapped import FromCaptum
from attrib.registry import METHODS

_ELSEWHERE = "Use integrated_gradients, which takes any model."
_WHY = (
    "Its rules reach modules of ReLU, LeakyReLU, ELU, Sigmoid, Tanh, Softplus and max pooling whose windows do not "
    "overlap, and nothing else: no F.relu, no other activation, no product of two activations."
)


def _linear(goal: Objective) -> bool:
    """Whether the score is linear in the model's output, so that differences add up."""
    return all(map(_linear, goal.parts)) if isinstance(goal, Sum) else (
        isinstance(goal, ClassScore) and goal.space == "logit"
    )  # fmt: skip


class _Differences(FromCaptum):
    """DeepLIFT's promise is that contributions add up to the difference of scores; it is checked."""

    tolerance: float | None

    def _attribute(self, query: Query) -> Tensor | tuple[Tensor, ...]:
        seen = Watch(query)
        modules = dict(query.model.named_modules())  # type: ignore[attr-defined]  # it has hooks
        twice = [f"{name!r} ran {n} times" for name, n in seen.modules.items()
                 if n > 1 and type(modules[name]) in SUPPORTED_NON_LINEAR]  # fmt: skip
        if twice:
            raise RuleError(
                f"every activation module must run once for Captum's DeepLift; {twice[0]} in one pass"
                f"{f', and {len(twice) - 1} others too' * (len(twice) > 1)}. Give each call a module of its own. "
                + _ELSEWHERE
            )
        return super()._attribute(query)

    def _maps(self, query: Query, rows: Tensor) -> tuple[Tensor, ...]:
        with _separated(query.model):
            return super()._maps(query, rows)

    def _verify(self, query: Query, maps: tuple[Tensor, ...]) -> None:
        if self.tolerance is None or not _linear(query.clean.goal):
            return
        due = (query.clean.score - self._baseline_scores(query)).double()
        off, _, known = _missing(due, maps)
        if query.layer is not None and (off > self.tolerance * known).any():
            # Past this layer may lead other ways; what the rules do not reach shows at the inputs too.
            whole = replace(query, layer=None)
            maps = self._maps(whole, torch.arange(len(due), device=due.device))
        off, found, known = _missing(due, maps)
        worst = int((off / known).argmax())
        if off[worst] > self.tolerance * known[worst]:
            raise RuleError(
                f"contributions must add up to the difference of scores, {float(due[worst]):.4g}, give or take "
                f"{self.tolerance * float(known[worst]):.2g}; Captum's DeepLift gives {float(found[worst]):.4g} for "
                f"example {worst}. {_WHY} {_ELSEWHERE} tolerance=None takes the map as it is."
            )
        self._warn_of_zeros(due, maps)

    def _warn_of_zeros(self, due: Tensor, maps: tuple[Tensor, ...]) -> None:
        """Zero adds up to zero, whatever the rules reach."""
        nothing = (due == 0) & torch.stack([(m == 0).flatten(1).all(1) for m in maps]).all(0)
        if nothing.any():
            warnings.warn(
                f"{type(self).__name__}'s map is zero, and the score that of the baseline, for examples "
                f"{nothing.nonzero().flatten().tolist()}. Is the head untrained, or the example its own baseline?",
                stacklevel=2,
            )

    def due(self, query: Query) -> Tensor | None:
        """See `Attribution.due`: the score less the mean of those of the baselines, for class scores at the inputs."""
        whole = self.adds_up and query.layer is None and _linear(query.clean.goal)
        return query.clean.score - self._baseline_scores(query) if whole else None

    def _baseline_scores(self, query: Query) -> Tensor:
        raise NotImplementedError


def _cloned(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copies that a hook can be hung on, even where they depend on weights alone (the position biases of Swin v2)."""
    return tuple(
        arg.clone().requires_grad_(arg.is_floating_point()) if isinstance(arg, Tensor) else arg for arg in args
    )


@contextmanager
def _separated(model: Any) -> Iterator[None]:
    """Give each activation an input of its own.

    Captum hooks both ends of an activation. Where one feeds another (ReLU, then max pooling), both hook one tensor, the
    first is called first, and hands on the plain gradient of the second.
    """
    parts = [part for part in model.modules() if type(part) in SUPPORTED_NON_LINEAR]
    handles = [part.register_forward_pre_hook(_cloned) for part in parts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _missing(due: Tensor, maps: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """What the sums of ``maps`` miss of ``due``, these sums, and what the miss is measured against."""
    parts = [m.double().flatten(1) for m in maps]
    found = torch.stack([m.sum(1) for m in parts]).sum(0)
    size = torch.stack([m.abs().sum(1) for m in parts]).sum(0)
    # a difference that is small beside what cancels in it is not known to that accuracy
    return (found - due).abs(), found, due.abs().maximum(1e-3 * size).clamp(min=1e-12)


@METHODS.add("deeplift")
class DeepLift(_Differences):
    r"""What each pixel contributes to the difference between the score and that of a baseline.

    .. math:: M_{hw} = \sum_c (x_{chw} - b_{chw})\, m_{chw}, \qquad
        \text{with } \frac{\Delta f(z)}{\Delta z} \text{ in place of } f'(z) \text{ in the chain rule for } m

    Convention:
        - map: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``; signed; unit: score.
        - the sum over the map is ``S(x) - S(b)``: checked to ``tolerance`` for class scores, a miss is an error.
        - the rule is Rescale; RevealCancel is not in Captum.
        - the baseline is zero in the model's space: the mean colour after normalisation.
        - an activation module that runs twice is refused.

    Cost: one forward and one backward pass of two rows, and three forward passes.

    Args:
        model: see `Attribution`; activations must be modules, each used once.
        layer: explain this layer's activations instead of the inputs. Where they do not add up (other ways lead past
            it), the model is checked at its inputs.
        baselines: see `resolve_baseline`.
        tolerance: largest share of the difference that may be missing, >= 0, or of a thousandth of all contributions
            where these cancel; None leaves it unchecked.
        options: of Captum's class and of `FromCaptum`.

    Example:
        >>> DeepLift(model).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Shrikumar, Greenside, Kundaje, "Learning Important Features Through Propagating Activation Differences", ICML
        2017, section 3.5.1; the form of the chain rule is that of Ancona et al., ICLR 2018, proposition 2.
    """

    captum_class = captum.attr.DeepLift

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        baselines: Baseline | tuple[Baseline, ...] = "zero",
        tolerance: float | None = 0.01,
        **options: Any,
    ) -> None:
        super().__init__(model, layer, baselines=baselines, **options)
        self.tolerance = None if tolerance is None else checks.number("tolerance", tolerance, 0)

    def _baseline_scores(self, query: Query) -> Tensor:
        return scores_at_baselines(query, self.given["baselines"])


@METHODS.add("deeplift_shap")
class DeepLiftShap(_Differences):
    r"""What each pixel contributes to the score, compared with several baselines: DeepLIFT's mean over them.

    .. math:: M = \frac{1}{B} \sum_{b} M^{\mathrm{DeepLIFT}}(x, b)

    Convention:
        - map: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``; signed; unit: score.
        - the baselines are zero, the example's mean colour and the blurred example.
        - the sum over the map is ``S(x)`` minus the mean score of the baselines: checked as in `DeepLift`.

    Cost: one forward and one backward pass of two rows, and two forward passes, for each baseline; one more pass.

    Args:
        model: see `Attribution`; activations must be modules, each used once.
        layer: explain this layer's activations instead of the inputs. Where they do not add up (other ways lead past
            it), the model is checked at its inputs.
        baselines: one of `resolve_baseline`'s forms or a list of them, a Tensor ``(B, C, H, W)`` such as a batch of
            other images, or a function of the input that gives one. Without two axes of locations nothing is blurred.
        tolerance: largest share of the difference that may be missing, >= 0, or of a thousandth of all contributions
            where these cancel; None leaves it unchecked.
        options: of Captum's class and of `FromCaptum`.

    Example:
        >>> DeepLiftShap(model).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Lundberg, Lee, "A Unified Approach to Interpreting Model Predictions", NeurIPS 2017, section 4.2.
    """

    captum_class = captum.attr.DeepLiftShap
    together = 1

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        baselines: Several = usual,
        tolerance: float | None = 0.01,
        **options: Any,
    ) -> None:
        super().__init__(model, layer, baselines=baselines, **options)
        self.tolerance = None if tolerance is None else checks.number("tolerance", tolerance, 0)

    def _options(self, query: Query, rows: Tensor) -> dict[str, Any]:
        found = self._baselines(query, rows)
        # Captum takes no single baseline: the mean of two that are the same
        found = tuple(b.expand(2, *b.shape[1:]) if len(b) == 1 else b for b in found)
        return {**super()._options(query, rows), "baselines": found if len(found) > 1 else found[0]}

    def _baselines(self, query: Query, row: Tensor) -> tuple[Tensor, ...]:
        return distribution(self.given["baselines"], tuple(x[row] for x in query.inputs))

    def _baseline_scores(self, query: Query) -> Tensor:
        means = []
        for row in torch.arange(len(query.inputs[0]), device=query.inputs[0].device)[:, None]:
            found = self._baselines(query, row)
            means.append(scores_at(query, tuple(b.clone() for b in found), row.expand(len(found[0]))).mean())
        return torch.stack(means)
