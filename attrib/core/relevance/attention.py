"""Attention weights, recorded in the graph while the model runs, however it computes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from attrib.core.backward.graph import gradients, unreached
from attrib.core.layer_map import LayerMap
from attrib.core.network import cost
from attrib.core.network.geometry import find_layout, learned_tokens, main_input, patch_of
from attrib.core.query import Query
from attrib.core.shared import checked_score
from attrib.errors import ModelError

_SOFTMAX = {torch.softmax, torch.Tensor.softmax, F.softmax}
_PRODUCTS = {torch.matmul, torch.Tensor.matmul, torch.bmm, torch.Tensor.bmm}
_CASTS = {torch.Tensor.to, torch.Tensor.type_as, torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16}
_SEEN = "nn.MultiheadAttention, F.scaled_dot_product_attention, and a softmax followed by matmul or einsum"


def _unguarded(function: Any) -> Callable[..., Any]:
    """The same Python code, which does not hand itself over to function modes: only the calls inside it do."""
    names = {**function.__globals__, "has_torch_function": lambda _: False}
    return FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)


_multi_head = _unguarded(F.multi_head_attention_forward)


class attending(TorchFunctionMode):  # noqa: N801  reads as a verb, like `rules`
    """Record the attention weights of every layer inside the block, in the order in which they are used.

    Convention:
        - weights are ``(N, heads, T, S)`` for T queries and S keys, after the softmax and before any dropout; rows sum
          to 1. They are the tensors that the model goes on with, so gradients with respect to them can be taken.
        - seen are ``nn.MultiheadAttention``, ``F.scaled_dot_product_attention``, and a softmax over the last axis whose
          result is multiplied with the values by ``matmul``, ``bmm`` or ``einsum``. Foreign kernels are not seen.
        - fused kernels are replaced by their formula: the output is the model's own but for rounding.
        - thread-local and without effect on the model.

    Example:
        >>> tokens = torch.randn(2, 5, 8)
        >>> with attending() as seen:
        ...     _ = F.scaled_dot_product_attention(tokens, tokens, tokens)
        >>> [weights.shape for weights in seen.weights]
        [torch.Size([2, 1, 5, 5])]
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []
        self._unused: list[Tensor] = []

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return self._multi_head(args, kwargs)
        if func in _SOFTMAX:
            return self._softmax(func, args, kwargs)
        if self._unused and func in _CASTS:
            return self._cast(args[0], func(*args, **kwargs))
        if self._unused and func in _PRODUCTS and args:  # a factor on the right is not weights: columns do not sum to 1
            args = (self._used(args[0]), *args[1:])
        elif self._unused and func is torch.einsum:
            args = tuple([self._used(a) for a in arg] if isinstance(arg, list) else self._used(arg) for arg in args)
        return func(*args, **kwargs)

    def _record(self, weights: Tensor) -> Tensor:
        """Keep ``(..., T, S)`` as ``(N, heads, T, S)``; return what the model goes on with."""
        kept = weights.unsqueeze(1) if weights.ndim == 3 else weights.flatten(0, weights.ndim - 4)
        self.weights.append(kept)
        return kept.reshape(weights.shape)

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """`F.scaled_dot_product_attention` by its formula."""
        if enable_gqa:
            heads = query.shape[-3] // key.shape[-3]
            key, value = (x.repeat_interleave(heads, -3) for x in (key, value))
        scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        weights = self._record(_masked_softmax(scores, attn_mask))
        return F.dropout(weights, dropout_p).to(value.dtype) @ value

    def _multi_head(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        """`F.multi_head_attention_forward`, whose own call of the fused kernel is then seen like any other."""
        with self:
            out, _ = _multi_head(*args, **{**kwargs, "need_weights": False})
        if not kwargs.get("need_weights", True):
            return out, None
        weights = self.weights[-1].mean(1) if kwargs.get("average_attn_weights", True) else self.weights[-1]
        return out, weights[0] if args[0].ndim == 2 else weights

    def _softmax(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = func(*args, **kwargs)
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if isinstance(out, Tensor) and out.ndim > 2 and dim in (-1, out.ndim - 1):
            self._unused.append(out)
        return out

    def _cast(self, before: Tensor, after: Tensor) -> Tensor:
        """Weights in another dtype, on another device, are still weights."""
        self._unused = [after if weights is before else weights for weights in self._unused]
        return after

    def _used(self, value: Any) -> Any:
        """Record ``value`` if it is the result of a softmax: it is being multiplied, so it was attention."""
        for i, weights in enumerate(self._unused):
            if value is weights:
                del self._unused[i]
                return self._record(weights)
        return value

    def layers(self, n: int) -> list[Tensor]:
        """The weights ``(N, heads, T, T)`` of ``n`` examples, which must be self-attention among the same tokens.

        Where some depend on an input that requires a gradient and others do not, only those count: attention among
        the words of a second tower says nothing of the image.
        """
        square = [weights for weights in self._unused if weights.ndim > 3 and weights.shape[-1] == weights.shape[-2]]
        fed = [weights for weights in self.weights if weights.requires_grad]
        changed = [weights for weights in square if weights.requires_grad or not fed]
        if changed:
            raise ModelError(
                f"attention weights must meet the values as the softmax leaves them; {len(changed)} of shape "
                f"{tuple(changed[0].shape)} are changed in between, as in talking heads. Use Grad-CAM."
            )
        if not self.weights:
            raise ModelError(
                f"the model must use attention; none was seen in its forward pass. Seen are {_SEEN}; a transformer "
                "that runs other kernels can be told to use these. For networks without attention use Grad-CAM."
            )
        found = fed or self.weights
        for weights in found:
            _check(weights, found[0], n)
        return found


def _masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over keys; ``mask`` is True where attention is allowed, or is added. Rows without any key are zero."""
    if mask is None:
        return scores.softmax(-1)
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, float("-inf"))
    empty = mask.isneginf().all(-1, keepdim=True)
    return (scores + mask).masked_fill(empty, 0).softmax(-1).masked_fill(empty, 0)


def _check(weights: Tensor, first: Tensor, n: int) -> None:
    """Weights of one layer must relate all tokens of each example, the same in every layer."""
    shape = tuple(weights.shape)
    if len(weights) != n:
        raise ModelError(
            f"attention must relate all tokens of an example, weights (N={n}, heads, T, T); got {shape}: attention in "
            "windows (Swin) or with heads in the batch axis, which has no map of the image. Use Grad-CAM."
        )
    if weights.shape[2] != weights.shape[3]:
        raise ModelError(
            f"attention must be self-attention, weights (N, heads, T, T); got {shape}: queries and keys are different "
            "tokens (cross-attention, attention pooling). Use Grad-CAM."
        )
    if weights.shape[2] != first.shape[2]:
        raise ModelError(
            f"every layer must attend to the same tokens; the first has {first.shape[2]}, a later one "
            f"{weights.shape[2]}: tokens are merged or dropped on the way. Use Grad-CAM."
        )


@dataclass(frozen=True)
class Attended:
    """Attention weights of one forward pass, and gradients of the score with respect to them.

    Attributes:
        weights: ``(N, heads, T, T)`` of each layer.
        grads: the same of the gradient; `attend` says of which layers.
    """

    weights: tuple[Tensor, ...]
    grads: tuple[Tensor, ...]

    def reading(self) -> Tensor:
        """From which tokens the score is read, in equal shares: ``(N, 1, T)``.

        These are the rows of the last layer that the score depends on: the class token, the class and the distillation
        token, all patches where they are averaged.
        """
        read = (self.grads[-1] != 0).any(3).any(1)
        silent = (~read.any(1)).nonzero().flatten().tolist()
        if silent:
            raise ModelError(
                "the score must depend on the attention of the last layer; its gradient is zero for examples "
                f"{silent}. Is the head untrained, or a probability saturated (explain the logit then)?"
            )
        shares: Tensor = (read / read.sum(1, keepdim=True)).to(self.weights[0].dtype)
        return shares[:, None]


def attend(query: Query, everywhere: bool) -> Attended:
    """Run the model once and differentiate the score to its attention weights.

    Cost: one forward pass, and the backward pass to the last layer of attention, or to all of them (``everywhere``).
    """
    n, main = len(query.inputs[0]), main_input(query.inputs)
    inputs = tuple(x.detach().requires_grad_(x is main) for x in query.inputs)
    with attending() as seen:
        output, acts = query.run(tuple(x.clone() for x in inputs), *query.objective.layers)
    goal = query.objective.bind(output, acts)
    score = checked_score(goal(output, acts), n)
    weights = seen.layers(n)
    ends = weights if everywhere else weights[-1:]
    found: dict[Tensor, Tensor] = {}
    if score.requires_grad:
        cost.add(backwards=n)
        grads = gradients(score.sum(), ends)
        # layers behind a target inside the model have none
        found = {end: grad for end, grad in zip(ends, grads, strict=True) if grad is not None}
    if not found:
        raise unreached("the attention weights", ", or is the target before the attention")
    return Attended(tuple(w.detach() for w in (found if everywhere else weights)), tuple(found.values()))


def on_grid(query: Query, row: Tensor, at: LayerMap) -> Tensor:
    """Values of tokens ``(N, 1, T)`` as maps ``(N, 1, h, w)`` of the patches, finished as ``at`` says."""
    tokens = row.mT
    image, patch = main_input(query.inputs).shape, patch_of(query.model)
    layout = None if at.reshape else find_layout(tokens.shape, image, patch, True, learned_tokens(query.model))
    if layout is None and not at.reshape:
        cut = f"patches of {tuple(patch)}" if patch else "no patches that could be found"
        raise ModelError(
            f"tokens must be the patches of the image, behind a few others; got {tokens.shape[1]} tokens for an input "
            f"of {tuple(image)} and {cut}. reshape= makes (N, K, h, w) of tokens (N, T, K)."
        )
    return at.finish(query, at.maps(query, layout, tokens))
