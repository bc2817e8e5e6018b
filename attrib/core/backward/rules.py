"""Backward overrides: inside a with-block, activations get another backward pass, however they are called.

A rule maps ``(grad_out, grad_in)``, the gradient at the activation's output and the true gradient at its input, to
the gradient that is passed on. Overrides act on the *call*, not on the module: ``nn.ReLU`` in place or not, reused or
not, ``F.relu``, ``torch.relu``, ``x.relu_()``, ``x.clamp(min=0)`` and ``torch.maximum(x, 0)`` alike, and only on the
branch of that call when its input is used elsewhere too. The finished graph is then searched for activations that
escaped (scripted or compiled code, foreign kernels), so a result that would silently be the plain gradient is
an error.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from attrib import checks
from attrib.core.backward.activations import (
    CANDIDATES,
    FAMILIES,
    KINDS,
    LAX_AT_ZERO,
    LAYER,
    NATIVE_RELU,
    NORMS,
    RECTIFIERS,
    SMOOTH,
    TORCHS_OWN,
    family_of,
    family_of_node,
    shrinks,
)
from attrib.core.backward.graph import between
from attrib.errors import RuleError

log = logging.getLogger("attrib")
Rule = Callable[[Tensor, Tensor], Tensor]
Op = Callable[[Tensor], Tensor]
Activations = Literal["rectifiers", "all"] | Sequence[str]


def guided(_grad_out: Tensor, grad_in: Tensor) -> Tensor:
    """Pass the positive part of the true gradient."""
    return grad_in.clamp(min=0)


def deconv(grad_out: Tensor, _grad_in: Tensor) -> Tensor:
    """Pass the positive part of what comes from above, whatever the activation did in the forward pass."""
    return grad_out.clamp(min=0)


def skip(grad_out: Tensor, _grad_in: Tensor) -> Tensor:
    """Pass what comes from above, as if the operation were not there."""
    return grad_out


def override(rule: Rule, activations: Activations) -> dict[str, Rule]:
    """Give ``rule`` to ``"rectifiers"``, to ``"all"`` activations, or to the families listed."""
    if isinstance(activations, str):
        checks.choice("activations", activations, ("rectifiers", "all"))
        return dict.fromkeys(RECTIFIERS if activations == "rectifiers" else FAMILIES, rule)
    return dict.fromkeys((checks.choice("activation family", f, FAMILIES) for f in activations), rule)


@dataclass(frozen=True)
class Coverage:
    """How many activations of each family were overridden, and how many were left alone, on the way to a score.

    ``escaped`` are calls of a family that has a rule which did not get it; the gradient would be wrong. ``shrunk``
    counts what made maps smaller on that way: ``"max-pooling"``, ``"average pooling"``, ``"strided convolution"``. A
    rectifier that is written as another operation, such as ``torch.where(x > 0, x, 0)`` or ``x * (x > 0)``, is none
    here: it keeps its gradient and is not counted.
    """

    overrode: Mapping[str, int]
    escaped: Mapping[str, int]
    left: Mapping[str, int]
    shrunk: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [
            f"{self.overrode.get(f, 0)} of {self.overrode.get(f, 0) + self.escaped.get(f, 0)} {KINDS[f]}"
            for f in sorted({*self.overrode, *self.escaped})
        ]
        text = f"overrode {', '.join(parts)}" if parts else "overrode nothing"
        return f"{text}; left {self._listed(self.left)} alone" if self.left else text

    @staticmethod
    def _listed(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{n} {KINDS.get(f, f)}" for f, n in sorted(counts.items()))

    @property
    def _activations(self) -> bool:
        return any(family in FAMILIES for family in self.overrode)

    @property
    def holds(self) -> bool:
        """Whether an activation was overridden and nothing escaped."""
        return self._activations and not self.escaped

    @property
    def switches(self) -> str:
        """Where the way down finds recorded maxima ("switches"), and where it has to do without, in words.

        Looked for are max-pooling, average pooling and strided convolution; maps can be made smaller in other ways
        (slices, resizing), which are not.
        """
        if not self.shrunk:
            return "no pooling and no strided convolution on the way down"
        told = {kind: f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in sorted(self.shrunk.items())}
        with_switches = told.pop("max-pooling", "no max-pooling")
        return f"switches of {with_switches}" + (f"; none for {', '.join(told.values())}" if told else "")

    @property
    def alone(self) -> str:
        """What the model uses that no rule was for, in words."""
        return f"the model uses {self._listed(self.left)}" if self.left else "the model uses no activation"

    def check(self) -> None:
        """Raise unless at least one activation was overridden and none escaped."""
        if self.escaped:
            raise RuleError(
                f"every activation of a family must follow its rule; {self._listed(self.escaped)} did not ({self}). "
                "They run in scripted, compiled or checkpointed code: pass the plain eager module."
            )
        if not self._activations:
            remedy = "Use activations='all' to override these too, or Saliency." if self.left else "Use Saliency."
            raise RuleError(
                f"no activation was overridden ({self.alone}), so the result would be the plain gradient. {remedy}"
            )
        log.info("%s", self)
        if any(family in SMOOTH for family in self.left):
            warnings.warn(
                f"{self}. Their true gradient was used: the rule is not defined for smooth activations. "
                "activations='all' overrides them too.",
                stacklevel=2,
            )
        elif not TORCHS_OWN.union(KINDS).issuperset(self.left):
            warnings.warn(
                f"{self}. Their own gradient was used: no rule reaches custom autograd functions. "
                "Where one is an activation, write it with torch's.",
                stacklevel=2,
            )


class _Ruled(torch.autograd.Function):
    """Any activation: little graphs of its own give the true gradient, and the one that a rule is given."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ops: Sequence[Op], family: str, mode: rules) -> Tensor:
        ctx.graphs = [_Ruled.recorded(op, x) for op in ops]
        ctx.mode, ctx.attrib_family = mode, family
        out: Tensor = ctx.graphs[0][1].detach()
        return out

    @staticmethod
    def recorded(op: Op, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            inner = x.detach().requires_grad_(True)
            return inner, op(inner)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        rule = ctx.mode.active.get(ctx.attrib_family)
        inner, out = ctx.graphs[0 if rule is None else -1]
        (grad_in,) = torch.autograd.grad(out, inner, grads[0], retain_graph=True)
        return grad_in if rule is None else rule(grads[0], grad_in), None, None, None


def _hook(y: Tensor, mode: rules) -> Tensor:
    """Let ``mode`` rule the ReLU node that made ``y``: the quickest way, and on that branch only."""

    def passed(grads_in: Sequence[Tensor | None], grads_out: Sequence[Tensor]) -> tuple[Tensor] | None:
        rule = mode.active.get("relu")
        return None if rule is None or grads_in[0] is None else (rule(grads_out[0], grads_in[0]),)

    node: Any = y.grad_fn
    node.register_hook(passed)
    node.metadata[_Ruled] = "relu"
    return y


class rules(TorchFunctionMode):  # noqa: N801  reads as a verb: with rules(relu=guided)
    """Override the backward pass of activation families inside the block.

    Thread-local and without effect on the model; calls that need no gradient are left alone.

    Args:
        families: family name to rule. Families: ``relu`` (also ``clamp(min=0)``, ``maximum(x, 0)``,
            ``threshold(x, 0, 0)``), ``relu6`` (also ``hardtanh(x, 0, b)``, ``clamp(0, b)``), ``leaky_relu``,
            ``prelu``, ``rrelu``, ``elu``, ``selu``, ``celu``, ``silu``, ``gelu``, ``hardswish``, ``mish``; and
            ``local_response_norm``.

    Example:
        >>> x = torch.tensor([[-1.0, 2.0]], requires_grad=True)
        >>> with rules(relu=guided) as mode:
        ...     score = (torch.relu(x) * torch.tensor([1.0, -3.0])).sum()
        >>> print(mode.coverage(score))
        overrode 1 of 1 ReLU
        >>> torch.autograd.grad(score, x)[0]
        tensor([[0., 0.]])
    """

    fixed = True

    def __init__(self, **families: Rule) -> None:
        super().__init__()
        for name in families:
            checks.choice("activation family", name, (*FAMILIES, *NORMS, LAYER))
        self.families = families
        self.active: Mapping[str, Rule] = families

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in CANDIDATES:  # nearly every call of a network: the quick way out
            return func(*args, **(kwargs or {}))
        kwargs = dict(kwargs or {})
        family = family_of(func, args, kwargs)
        x = args[0] if args else kwargs.get("input")
        if family not in self.families or not (torch.is_grad_enabled() and isinstance(x, Tensor) and x.requires_grad):
            return func(*args, **kwargs)
        if func in NATIVE_RELU and not x._is_view():  # in place on a view the node on top is another one
            return _hook(func(*args, **kwargs), self)
        rest = args[1:]
        kwargs.pop("input", None)
        in_place = func.__name__.endswith("_") or kwargs.get("inplace") or any(a is True for a in rest)

        def true(t: Tensor) -> Tensor:
            out: Tensor = func(t.clone() if in_place else t, *rest, **kwargs)
            return out

        def strict(t: Tensor) -> Tensor:
            return true(torch.relu(t))

        ruled = strict if func in LAX_AT_ZERO else true  # what rules are given the gradient of
        y: Tensor = _Ruled.apply(x, (ruled,) if self.fixed or ruled is true else (true, ruled), family, self)
        return x.copy_(y) if in_place else y

    def coverage(self, score: Tensor, since: Sequence[Tensor] = ()) -> Coverage:
        """Search the graph behind ``score`` for activations: the truth about what was overridden.

        ``since`` stops the search: only activations between these tensors and the score count.
        """
        overrode: Counter[str] = Counter()
        others: Counter[str] = Counter()
        shrunk: Counter[str] = Counter()
        for node in between(score, since):
            if kind := shrinks(node):
                shrunk[kind] += 1
            ruled: str | None = node.metadata.get(_Ruled) or getattr(node, "attrib_family", None)
            if ruled in self.active:
                overrode[str(ruled)] += 1
            elif family := ruled or family_of_node(node):
                others[family] += 1
        escaped = {f: n for f, n in others.items() if f in self.active or f in ("compiled", "checkpointed")}
        left = {f: n for f, n in others.items() if f not in escaped}
        return Coverage(dict(overrode), escaped, left, dict(shrunk))


class Switch(rules):
    """`rules` that are chosen anew for each backward pass; where none are, the true gradient is passed.

    Args:
        overrides: all rules that will be chosen.

    Example:
        >>> x = torch.tensor([[-1.0, 2.0]], requires_grad=True)
        >>> with Switch({"relu": guided}) as switch:
        ...     score = (torch.relu(x) * torch.tensor([1.0, -3.0])).sum()
        >>> with switch.using({"relu": guided}):
        ...     torch.autograd.grad(score, x, retain_graph=True)[0]
        tensor([[0., 0.]])
        >>> torch.autograd.grad(score, x)[0]
        tensor([[ 0., -3.]])
    """

    fixed = False

    def __init__(self, *overrides: Mapping[str, Rule]) -> None:
        super().__init__(**{family: rule for one in overrides for family, rule in one.items()})
        self.active = {}

    @contextmanager
    def using(self, override: Mapping[str, Rule] | None) -> Iterator[None]:
        """Let ``override`` hold for backward passes inside the block."""
        before, self.active = self.active, override or {}
        try:
            yield
        finally:
            self.active = before
