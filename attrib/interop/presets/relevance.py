"""The score handed down layer by layer, in proportion to contributions: LRP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import captum.attr
from captum.attr._core.lrp import SUPPORTED_LAYERS_WITH_RULES, SUPPORTED_NON_LINEAR_LAYERS
from captum.attr._utils.lrp_rules import EpsilonRule, GammaRule, PropagationRule
from torch import Tensor, nn

from attrib import checks
from attrib.core import Query
from attrib.core.network.layers import Address
from attrib.errors import LayerError, RuleError
from attrib.interop.presets.watch import Watch
from attrib.interop.wrapped import FromCaptum
from attrib.registry import METHODS

_ELSEWHERE = "Use integrated_gradients, which takes any model."
# Functions that hand relevance down unchanged, to where it came from; all others need a module with a rule.
_HARMLESS = frozenset({
    "relu", "relu_", "dropout", "max_pool2d", "flatten", "view", "reshape", "permute", "transpose", "contiguous",
    "clone", "squeeze", "unsqueeze", "cat", "concat", "chunk", "split", "__getitem__", "__get__", "__len__", "size",
    "dim", "to",
})  # fmt: skip
# Modules for which Captum has no default, and which its general rule is right for: linear, or the identity.
_ALSO = (
    nn.Conv1d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm3d, nn.AvgPool1d, nn.AvgPool3d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool3d, nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@METHODS.add("lrp")
class LRP(FromCaptum):
    r"""Where the score comes from, handed down layer by layer in proportion to what each input contributed.

    .. math:: R_j = \sum_k \frac{a_j \,(w_{jk} + \gamma w_{jk}^+)}{z_k + \epsilon \operatorname{sign} z_k}\, R_k, \qquad
        z_k = b_k + \sum_j a_j (w_{jk} + \gamma w_{jk}^+)

    Convention:
        - map: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``; signed; unit: score.
        - the rule of convolutions is gamma, but for the first that runs; that of all other layers is epsilon.
        - with ``gamma=0`` the map of a ReLU network is input x gradient.
        - biases take relevance away, so the sum over the map is not the score; gamma does not raise them, as in Captum,
          where Montavon et al. have ``b + gamma * max(b, 0)``.
        - a module's own ``rule`` (Captum's way to choose one) goes before these.
        - a module without a rule, and a function that needs one, are refused with their names.

    Cost: two forward passes and one backward pass, and two forward passes.

    Args:
        model: see `Attribution`; a chain of modules. Sums must be Captum's ``Addition_Module``.
        layer: explain the outputs of this module, which must have a rule, instead of the inputs.
        gamma: how much more positive weights count, >= 0.
        epsilon: what stabilises the denominators, >= 0, in units of activation; it absorbs relevance.
        options: of Captum's class and of `FromCaptum`.

    Example:
        >>> LRP(model).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Bach et al., "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance
        Propagation", PLoS ONE 10(7), 2015; gamma: Montavon et al., "Layer-Wise Relevance Propagation: An Overview",
        2019, section 10.2.
    """

    captum_class = captum.attr.LRP

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        gamma: float = 0.25,
        epsilon: float = 1e-9,
        **options: Any,
    ) -> None:
        super().__init__(model, layer, **options)
        self.gamma = checks.number("gamma", gamma, 0)
        self.epsilon = checks.number("epsilon", epsilon, 0)

    def _attribute(self, query: Query) -> Tensor | tuple[Tensor, ...]:
        self._check_goal(query)
        seen = Watch(query)
        modules = dict(query.model.named_modules())  # type: ignore[attr-defined]  # it has hooks
        self._refuse_modules({name: part for name, part in modules.items() if not any(part.children())}, seen)
        wrong = {name: n for name, n in seen.functions.items() if name not in _HARMLESS}
        if wrong:
            listed = ", ".join(f"{n} {name}" for name, n in sorted(wrong.items()))
            raise RuleError(
                f"whatever computes must be a module for LRP, which has rules for modules; got functions: {listed}. "
                "Make them modules; a sum is captum.attr._utils.custom_modules.Addition_Module. " + _ELSEWHERE
            )
        if query.layer is not None:
            self._check_layer(query.layer, modules)
        first = next((name for name in seen.modules if isinstance(modules[name], _CONVOLUTIONS)), None)
        with self._ruled(modules, first):
            return super()._attribute(query)

    @staticmethod
    def _check_layer(layer: str, modules: dict[str, nn.Module]) -> None:
        """Captum reads the relevance of a layer off its rule."""
        part = modules[Address.parse(layer).name]
        if any(part.children()) or (type(part) in SUPPORTED_NON_LINEAR_LAYERS):
            raise LayerError(
                f"layer must be one module with a rule for LRP, such as a convolution; {layer!r} is "
                f"{type(part).__name__}. Name the convolution, pooling or linear layer before it."
            )

    def _method(self, forward: Callable[..., Any], layer: nn.Module | None) -> Any:
        method = super()._method(forward, layer)
        # Captum loads the weights back in place, which breaks graphs of the user's; `borrowed` puts the old ones back.
        method._restore_state = lambda: None
        return method

    @staticmethod
    def _refuse_modules(leaves: dict[str, nn.Module], seen: Watch) -> None:
        known = (*SUPPORTED_LAYERS_WITH_RULES, *SUPPORTED_NON_LINEAR_LAYERS, *_ALSO)
        for name, part in leaves.items():
            if not isinstance(part, known) and getattr(part, "rule", None) is None:
                raise RuleError(
                    f"every module must have a rule for LRP; {type(part).__name__} at {name!r} has none. Set its "
                    f"attribute 'rule' to one of captum.attr._utils.lrp_rules. {_ELSEWHERE}"
                )
            if seen.modules[name] > 1 and type(part) not in SUPPORTED_NON_LINEAR_LAYERS:
                raise RuleError(
                    f"every module must run once for LRP; {name!r} ran {seen.modules[name]} times in one pass. "
                    f"Give each call a module of its own. {_ELSEWHERE}"
                )

    @contextmanager
    def _ruled(self, modules: dict[str, nn.Module], first: str | None) -> Iterator[None]:
        """Give every module its rule, ``first`` being the convolution that runs first; take the rules away again."""
        given = []
        try:
            for name, part in modules.items():
                settled = type(part) in SUPPORTED_NON_LINEAR_LAYERS or any(part.children()) or hasattr(part, "rule")
                if not settled:
                    part.rule = self._rule(isinstance(part, _CONVOLUTIONS) and name != first)
                    given.append(part)
            yield
        finally:
            for part in given:
                vars(part).pop("rule", None)

    def _rule(self, favours_positive: bool) -> PropagationRule:
        if not (favours_positive and self.gamma):
            return EpsilonRule(self.epsilon)
        rule = GammaRule(self.gamma)
        rule.STABILITY_FACTOR = self.epsilon
        return rule
