"""Each line of the conventions of attention rollout and gradient-weighted attention, and what they cost."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import AttentionRollout, Attribution, Channel, ClassScore, GradientAttention
from attrib.core import count
from tests import transformers
from tests.conventions import pins, section

DOUBLE = torch.float64
X = transformers.batch(2, dtype=DOUBLE)
NET = transformers.make(dtype=DOUBLE)
PLAIN = transformers.make("softmax and matmul", dtype=DOUBLE)


@pins("attention_rollout", "map:")
@pins("gradient_attention", "map:")
def test_convention_map_is_the_grid_of_patches_or_bilinear() -> None:
    for method in (AttentionRollout, GradientAttention):
        maps = method(NET).attribute(X, 2)
        assert maps.shape == (2, 1, 3, 2)
        large = method(NET, upsample=True).attribute(X, 2)
        assert_close(large, F.interpolate(maps, (12, 8), mode="bilinear", align_corners=False))


@pins("attention_rollout", "values are shares")
def test_convention_rollout_values_are_shares_of_one() -> None:
    averaged = transformers.make(dtype=DOUBLE, prefix=0, read=slice(None))
    for heads in ("mean", "max", "min"):
        assert_close(
            AttentionRollout(averaged, heads=heads).attribute(X, 2).sum((1, 2, 3)), torch.ones(2, dtype=DOUBLE)
        )
    maps = AttentionRollout(NET).attribute(X, 2)
    assert float(maps.min()) > 0
    assert bool((maps.sum((1, 2, 3)) < 1).all())  # the rest is the class token's


@pins("attention_rollout", "the class does not matter")
def test_convention_rollout_is_the_same_for_every_class() -> None:
    maps = AttentionRollout(NET).attribute(X, 2)
    for target in (0, "predicted", ClassScore(1, "probability"), ClassScore(0) - ClassScore(3)):
        assert torch.equal(AttentionRollout(NET).attribute(X, target), maps)
    reading_a_patch = lambda target: AttentionRollout(Tokens(NET)).attribute(X, target)  # noqa: E731
    assert not torch.allclose(reading_a_patch(lambda out: out[:, 0, 1]), reading_a_patch(lambda out: out[:, 3, 1]))


class Tokens(nn.Module):
    """Logits of every token."""

    def __init__(self, inner: transformers.ViT) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner
        patches = inner.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([inner.prefix.expand(len(x), -1, -1), patches], 1) + inner.place
        out: Tensor = inner.head(inner.norm(inner.blocks(tokens)))
        return out


@pins("attention_rollout", "of several tokens that are read")
@pins("gradient_attention", "of several tokens that are read")
def test_convention_of_several_tokens_the_mean_is_taken() -> None:
    rollout = AttentionRollout(Tokens(NET))
    each = [rollout.attribute(X, lambda out, t=t: out[:, t, 1]) for t in (0, 3)]
    assert_close(rollout.attribute(X, lambda out: out[:, [0, 3], 1].sum(1)), sum(each) / 2)
    one_layer = GradientAttention(Tokens(transformers.make(dtype=DOUBLE, depth=1)))
    each = [one_layer.attribute(X, lambda out, t=t: out[:, t, 1]) for t in (0, 3)]
    assert_close(one_layer.attribute(X, lambda out: out[:, [0, 3], 1].sum(1)), sum(each) / 2)


@pins("attention_rollout", "attention is all that is looked at")
def test_convention_rollout_of_the_last_layer_ignores_values_and_what_follows() -> None:
    other = transformers.make("softmax and matmul", dtype=DOUBLE)
    block = other.blocks[2]
    with torch.no_grad():
        block.attn.qkv.weight[16:] *= 3  # values
        block.attn.proj.weight.neg_()
        block.mlp[0].weight.zero_()
    assert not torch.allclose(other(X), PLAIN(X))
    assert_close(AttentionRollout(other).attribute(X, 2), AttentionRollout(PLAIN).attribute(X, 2))
    assert not torch.allclose(GradientAttention(other).attribute(X, 2), GradientAttention(PLAIN).attribute(X, 2))


@pins("gradient_attention", "never negative, without a unit")
def test_convention_gradient_attention_adds_powers_of_the_score() -> None:
    def scaled(factor: float) -> Tensor:
        return GradientAttention(NET).attribute(X, ClassScore(2) * factor)

    assert float(scaled(1).min()) >= 0
    steps = torch.stack([scaled(f) for f in (0.0 + 1e-6, 1.0, 2.0, 3.0)])
    assert_close(steps[0], torch.zeros_like(steps[0]), rtol=0, atol=1e-5)
    third = steps[3] - 3 * steps[2] + 3 * steps[1] - steps[0]  # a cubic for three layers, so this is 6 times its x**3
    assert bool((third >= -1e-6).all())
    assert not torch.allclose(2 * steps[1], steps[2])


@pins("gradient_attention", "attention that lowers the score is dropped")
def test_convention_gradient_attention_is_not_the_negative_of_the_opposite_question() -> None:
    up, down = (GradientAttention(NET).attribute(X, ClassScore(2) * sign) for sign in (1, -1))
    assert float(up.min()) >= 0
    assert float(down.min()) >= 0
    assert float(down.max()) > 0


@pins("gradient_attention", "the identity is left out")
def test_convention_gradient_attention_starts_from_nothing() -> None:
    averaged = transformers.make(dtype=DOUBLE, prefix=0, read=slice(None))
    tiny = GradientAttention(averaged).attribute(X, ClassScore(2) * 1e-12)
    assert 0 < float(tiny.max()) < 1e-9  # not 1 / 6, a patch's share of itself
    assert float(tiny.std()) > 0.01 * float(tiny.mean())


@pins("gradient_attention", "layers behind a target inside the model")
def test_convention_gradient_attention_ends_at_the_target() -> None:
    class Short(nn.Module):
        """The model up to what its second block gives for the patches."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = NET

        def forward(self, x: Tensor) -> Tensor:
            patches = NET.embed(x).flatten(2).transpose(1, 2)
            tokens = torch.cat([NET.prefix.expand(len(x), -1, -1), patches], 1) + NET.place
            out: Tensor = NET.blocks[1](NET.blocks[0](tokens))[:, 1:, 0].mean(1)
            return out

    inside = GradientAttention(NET).attribute(X, Channel("blocks.1", 0))
    assert_close(inside, GradientAttention(Short()).attribute(X))
    assert inside.any()


@pytest.mark.parametrize("method", [AttentionRollout, GradientAttention])
def test_attention_costs_one_pass_there_and_back(method: type[Attribution]) -> None:
    with count() as cost:
        method(NET).attribute(X, 2)
    assert "one forward pass, and the backward pass" in section(method.name, "Cost")
    assert (cost.forwards, cost.backwards) == (2, 2)
