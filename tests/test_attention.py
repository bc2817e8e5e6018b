"""Attention weights are recorded however they are spelled; rollout and gradient attention are those of the papers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import AttentionRollout, Attribution, GradientAttention, Neuron
from attrib.core import attending
from attrib.errors import InputError, LayerError, ModelError
from tests import nets, transformers
from tests.oracles import attention as oracle
from tests.oracles.differences import Array
from tests.transformers import HEADS, SPELLINGS

DOUBLE = torch.float64
X = transformers.batch(2, dtype=DOUBLE)
NET = transformers.make(dtype=DOUBLE)
CLASS, PATCHES, BOTH = slice(0, 1), slice(1, None), slice(0, 2)
READ: dict[str, dict[str, Any]] = {
    "class token": {},
    "class and distillation token": {"prefix": 2, "read": BOTH},
    "patches behind a class token": {"read": PATCHES},
    "patches only": {"prefix": 0, "read": slice(None)},
    "class token and registers": {"prefix": 4, "read": CLASS},
}


def recorded(model: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Tensor]:
    with attending() as seen:
        model(*args, **kwargs)
    return seen.weights


def parameters(model: nn.Module) -> dict[str, Array]:
    return {name: p.detach().double().numpy() for name, p in model.named_parameters()}


def literal(model: transformers.ViT, x: Tensor) -> list[list[Array]]:
    """For each image, the weights of each layer."""
    p = parameters(model)
    return [oracle.transformer(p, row.double().numpy(), model.read, HEADS)[1] for row in x]


PLAIN = transformers.make("softmax and matmul", dtype=DOUBLE)  # its parameters have the names that the oracle reads


# --- recording


def test_the_oracle_is_the_tiny_transformer() -> None:
    for options in READ.values():
        model = transformers.make("softmax and matmul", dtype=DOUBLE, **options)
        rows = [oracle.transformer(parameters(model), row.numpy(), model.read, HEADS)[0] for row in X]
        assert_close(model(X).detach(), torch.from_numpy(np.stack(rows)))


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_gives_the_weights_of_the_formula_and_an_unchanged_output(spelling: str, grad: bool) -> None:
    model = transformers.make(spelling, dtype=DOUBLE)
    with torch.set_grad_enabled(grad):
        plain = model(X)
        with attending() as seen:
            out = model(X)
    assert_close(out, plain)
    expected = torch.from_numpy(np.array(literal(PLAIN, X))).transpose(0, 1)
    assert_close(torch.stack(seen.layers(2)).detach(), expected)
    assert all(weights.requires_grad is grad for weights in seen.weights)


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("batched", [True, False])
def test_a_caller_who_wants_the_weights_of_a_multihead_attention_gets_them(batched: bool, average: bool) -> None:
    module = nets.fill(nn.MultiheadAttention(8, 2, batch_first=True)).double()
    x = torch.randn(2, 5, 8, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    x = x if batched else x[0]
    plain = module(x, x, x, average_attn_weights=average)
    with attending() as seen:
        found = module(x, x, x, average_attn_weights=average)
    for one, other in zip(found, plain, strict=True):
        assert_close(one, other)
    assert [weights.shape for weights in seen.weights] == [(2 if batched else 1, 2, 5, 5)]


Q, K = (torch.randn(2, 2, 5, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
LESS = torch.arange(5)[:, None] >= torch.arange(5) - 1
CALLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scale": {"scale": 0.3},
    "causal": {"is_causal": True},
    "a mask": {"attn_mask": LESS},
    "a mask with an empty row": {"attn_mask": LESS & (torch.arange(5) != 2)[:, None]},
    "a bias": {"attn_mask": torch.linspace(-1, 1, 25, dtype=DOUBLE).reshape(5, 5)},
    "a bias with an empty row": {
        "attn_mask": torch.zeros(5, 5, dtype=DOUBLE).index_fill(0, torch.tensor(2), -torch.inf)
    },
}


@pytest.mark.parametrize("name", CALLS)
def test_fused_attention_is_replaced_by_its_formula_with_masks_and_biases(name: str) -> None:
    options = CALLS[name]
    q = Q.clone().requires_grad_(True)
    plain = F.scaled_dot_product_attention(q, K, K, **options)
    with attending() as seen:
        out = F.scaled_dot_product_attention(q, K, K, **options)
    assert_close(out, plain)
    assert_close(*(torch.autograd.grad(one.square().sum(), q)[0] for one in (out, plain)))
    assert_close(seen.weights[0] @ K, plain)
    empty = "empty" in name
    assert_close(seen.weights[0].sum(-1)[..., 2].detach(), torch.full((2, 2), 0.0 if empty else 1.0, dtype=DOUBLE))


def test_groups_of_queries_share_keys() -> None:
    plain = F.scaled_dot_product_attention(Q, K[:, :1], K[:, :1], enable_gqa=True)
    with attending() as seen:
        assert_close(F.scaled_dot_product_attention(Q, K[:, :1], K[:, :1], enable_gqa=True), plain)
    assert seen.weights[0].shape == (2, 2, 5, 5)


def test_weights_are_recorded_before_dropout() -> None:
    with torch.random.fork_rng(), attending() as seen:
        out = F.scaled_dot_product_attention(Q, K, torch.ones_like(K), dropout_p=0.5)
    assert_close(seen.weights[0].sum(-1), torch.ones(2, 2, 5, dtype=DOUBLE))
    assert not torch.allclose(out, torch.ones_like(out))


def test_padding_masks_of_a_multihead_attention_are_kept() -> None:
    module = nets.fill(nn.MultiheadAttention(8, 2, batch_first=True)).double()
    x = torch.randn(2, 5, 8, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    hidden = torch.tensor([[False] * 5, [False, True, False, False, True]])
    plain = module(x, x, x, key_padding_mask=hidden)[0]
    with attending() as seen:
        assert_close(module(x, x, x, key_padding_mask=hidden)[0], plain)
    assert not seen.weights[0][1, ..., [1, 4]].any()
    assert bool((seen.weights[0][0] > 0).all())


def test_encoders_of_torch_take_no_fast_path_past_the_recording() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    encoder = nets.fill(nn.TransformerEncoder(layer, 3, enable_nested_tensor=False))
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = encoder(x)
        with attending() as seen:
            assert_close(encoder(x), plain)
    assert [tuple(weights.shape) for weights in seen.weights] == [(2, 2, 5, 5)] * 3


def test_gradients_lead_to_the_recorded_weights() -> None:
    for spelling in SPELLINGS:
        model = transformers.make(spelling, dtype=DOUBLE).requires_grad_(False)
        with attending() as seen:
            score = model(X.clone().requires_grad_())[:, 2].sum()
        grads = torch.autograd.grad(score, seen.weights)
        assert all(float(grad.abs().max()) > 1e-4 for grad in grads), spelling


def test_attention_of_one_head_without_its_axis_is_recorded_too() -> None:
    q, k = Q[:, 0].clone().requires_grad_(), K[:, 0]
    for meet in (F.scaled_dot_product_attention, lambda q, k, v: torch.bmm((q @ k.mT / 2).softmax(2), v)):
        with attending() as seen:
            out = meet(q, k, k)
        assert seen.weights[0].shape == (2, 1, 5, 5)
        assert torch.autograd.grad(out.sum(), seen.weights)[0].any()
        assert_close(out, F.scaled_dot_product_attention(q, k, k))


def test_a_softmax_that_is_no_attention_is_left_alone() -> None:
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with attending() as seen:
        for other in (x.softmax(1), x[:, 0, 0].softmax(-1), x.softmax(2)):
            other @ torch.ones(other.shape[-1], 2)
        _ = x @ x.softmax(-1)  # weights of the right-hand side: its columns do not sum to 1
    assert seen.weights == []


def test_recording_is_for_one_thread_and_ends_with_the_block() -> None:
    depth = torch._C._len_torch_function_stack()
    elsewhere: list[int] = []
    with attending() as seen:
        thread = threading.Thread(target=lambda: elsewhere.append(torch._C._len_torch_function_stack()))
        thread.start()
        thread.join()
    assert elsewhere == [0]
    NET(X)
    assert seen.weights == []
    with pytest.raises(KeyError), attending():
        raise KeyError
    assert torch._C._len_torch_function_stack() == depth


# --- the papers


def mapped(rows: list[Array], prefix: int) -> Tensor:
    return torch.from_numpy(np.stack([row[prefix:].reshape(1, 3, 2) for row in rows]))


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("options", [{}, {"heads": "max"}, {"heads": "min", "start": 1}], ids=str)
def test_rollout_is_the_product_of_all_layers(kind: str, options: dict[str, Any]) -> None:
    model = transformers.make("softmax and matmul", dtype=DOUBLE, **READ[kind])
    rows = [oracle.rollout(layers, **options)[model.read].mean(0) for layers in literal(model, X)]
    found = AttentionRollout(model, **options).attribute(X, 1)
    assert_close(found, mapped(rows, model.prefix.shape[1]))


@pytest.mark.parametrize("kind", READ)
def test_gradient_attention_follows_what_raises_the_score(kind: str) -> None:
    model = transformers.make("softmax and matmul", dtype=DOUBLE, depth=2, **READ[kind])
    p = parameters(model)
    pairs = [oracle.relevance(p, row.numpy(), model.read, HEADS, t) for row, t in zip(X, (1, 3), strict=True)]
    rows = [(pair - np.eye(len(pair)))[model.read].mean(0) for pair in pairs]
    found = GradientAttention(model).attribute(X, [1, 3])
    assert bool((found.std((1, 2, 3)) > 0.1 * found.mean((1, 2, 3))).all())
    assert_close(found, mapped(rows, model.prefix.shape[1]), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("method", [AttentionRollout, GradientAttention])
def test_the_maps_do_not_depend_on_how_attention_is_spelled(method: type[Attribution], spelling: str) -> None:
    maps = method(transformers.make(spelling, dtype=DOUBLE)).attribute(X, 2)
    assert_close(maps, method(PLAIN).attribute(X, 2))


@pytest.mark.parametrize("method", [AttentionRollout, GradientAttention])
def test_the_map_is_laid_out_as_the_image_is(method: type[Attribution]) -> None:
    """With one layer, moving what a patch shows moves the patch's value, if places are not told apart."""
    model = transformers.make(dtype=DOUBLE, depth=1)
    with torch.no_grad():
        model.place.zero_()
    x = X.clone()
    x[..., :4, 4:], x[..., 8:, :4] = X[..., 8:, :4], X[..., :4, 4:]
    maps, moved = method(model).attribute(X, 2), method(model).attribute(x, 2)
    order = [0, 4, 2, 3, 1, 5]  # in rows of two patches
    assert_close(moved.flatten(1), maps.flatten(1)[:, order])
    assert float((moved - maps).abs().amax()) > 1e-4


# --- what is refused


class Refused(nn.Module):
    """A transformer with another ``meet``."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, transformers.WIDTH, 4, 4)
        self.attention = attention
        self.head = nn.Linear(transformers.WIDTH, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.attention(self.embed(x).flatten(2).transpose(1, 2))
        out: Tensor = self.head(tokens.mean(1))
        return out


class Pooled(nn.Module):
    """Attention, then half of the tokens, then attention; or one query."""

    def __init__(self, kept: int, query: bool = False) -> None:
        super().__init__()
        self.first, self.second = (transformers.Spelled(transformers.fused) for _ in range(2))
        self.query = nn.Parameter(torch.zeros(1, 1, transformers.WIDTH)) if query else None
        self.kept = kept

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)[:, : self.kept]
        if self.query is None:
            out: Tensor = self.second(x)
            return out
        return F.scaled_dot_product_attention(self.query.expand(len(x), -1, -1), x, x)


def talking(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return transformers.scores(q, k).softmax(-1).flip(1) @ v


def windows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    parts = [part.unflatten(2, (2, 3)).transpose(1, 2).flatten(0, 1) for part in (q, k, v)]
    return F.scaled_dot_product_attention(*parts).unflatten(0, (-1, 2)).transpose(1, 2).flatten(2, 3)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "no attention": (lambda: nn.Linear(8, 8), r"must use attention; none was seen.*use Grad-CAM"),
    "windows": (
        lambda: transformers.Spelled(windows),
        r"\(N=2, heads, T, T\); got \(4, 2, 3, 3\): attention in windows",
    ),
    "talking heads": (lambda: transformers.Spelled(talking), r"1 of shape \(2, 2, 6, 6\) are changed in between"),
    "one query": (lambda: Pooled(6, query=True), r"self-attention.*got \(2, 1, 1, 6\): queries and keys are different"),
    "fewer tokens": (lambda: Pooled(3), "the first has 6, a later one 3: tokens are merged or dropped"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("method", [AttentionRollout, GradientAttention])
def test_attention_without_a_map_of_the_image_is_refused_with_the_reason(method: type[Attribution], kind: str) -> None:
    make, message = REFUSED[kind]
    model = nets.fill(Refused(make())).double()
    with pytest.raises(ModelError, match=message):
        method(model).attribute(X, 2)


def test_what_is_changed_but_never_multiplied_is_no_attention() -> None:
    shown: list[Tensor] = []

    def shows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shown.append(torch.randn(2, 1, 4, 3).softmax(-1).mean(1))  # no tokens: not square
        return transformers.fused(q, k, v)

    model = nets.fill(Refused(transformers.Spelled(shows))).double()
    assert AttentionRollout(model).attribute(X, 2).any()
    assert shown


def test_a_grid_that_cannot_be_found_is_refused_or_given() -> None:
    model = transformers.make(dtype=DOUBLE)
    model.embed = nn.Sequential(nn.Conv2d(3, 3, 1), model.embed).double()  # type: ignore[assignment]
    with torch.no_grad():
        model.embed[0].weight.copy_(torch.eye(3)[..., None, None])  # type: ignore[index]
        model.embed[0].bias.zero_()  # type: ignore[index]
    with pytest.raises(ModelError, match=r"7 tokens for an input of \(2, 3, 12, 8\) and no patches.*reshape= makes"):
        AttentionRollout(model).attribute(X, 2)
    for method in (AttentionRollout, GradientAttention):
        given = method(model, reshape=lambda tokens: tokens[:, 1:].mT.reshape(len(tokens), -1, 3, 2))
        assert_close(given.attribute(X, 2), method(NET).attribute(X, 2))


@pytest.mark.parametrize("method", [AttentionRollout, GradientAttention])
def test_a_score_that_does_not_depend_on_attention_is_refused(method: type[Attribution]) -> None:
    with pytest.raises(ModelError, match="depend differentiably on the attention weights; no graph leads there"):
        method(NET).attribute(X, lambda out: out[:, 2].detach())
    with pytest.raises(ModelError, match="no graph leads there"):
        method(NET).attribute(X, Neuron("embed", 2, 1, 1))
    with pytest.raises(ModelError, match=r"zero for examples \[1\]. Is the head untrained"):
        method(NET).attribute(X, lambda out: out[:, 2] * torch.tensor([1.0, 0.0]))


def test_arguments_are_checked() -> None:
    with pytest.raises(InputError, match="heads must be one of 'mean', 'max', 'min'; got 'sum'"):
        AttentionRollout(NET, heads="sum")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="start must be below 3, the layers of attention; got 3"):
        AttentionRollout(NET, start=3).attribute(X, 2)
    with pytest.raises(InputError, match="start must be an integer >= 0"):
        AttentionRollout(NET, start=-1)
    for method in (AttentionRollout, GradientAttention):
        with pytest.raises(LayerError, match="explains the inputs only"):
            method(NET, "blocks.0")
