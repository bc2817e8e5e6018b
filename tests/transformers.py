"""Tiny vision transformers: one function, with attention spelled in every way that is seen, and some that are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import nets

HEADS = 2
WIDTH = 8
Heads = Callable[[Tensor, Tensor, Tensor], Tensor]


class Spelled(nn.Module):
    """Self-attention, with ``meet(q, k, v)`` on ``(N, heads, T, d)``."""

    def __init__(self, meet: Heads) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.meet = meet

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, 2))
        out: Tensor = self.proj(self.meet(q, k, v).transpose(1, 2).flatten(2))
        return out


class Multihead(nn.Module):
    """The same by ``nn.MultiheadAttention``, whose weights have the same order."""

    def __init__(self, batch_first: bool = True, **call: Any) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first)
        self.call = call
        self.given: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.inner.batch_first else x.transpose(0, 1)
        out: Tensor
        out, self.given = self.inner(x, x, x, **self.call)
        return out if self.inner.batch_first else out.transpose(0, 1)


def scores(q: Tensor, k: Tensor) -> Tensor:
    return (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)


def with_dropout(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.dropout(F.softmax(scores(q, k), dim=-1, dtype=torch.float64).to(q.dtype), 0.5, training=False) @ v


def with_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bhij,bhjd->bhid", nn.Softmax(-1)(torch.einsum("bhid,bhjd->bhij", q, k) / 2), v)


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def explicit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scores(q, k).softmax(-1).matmul(v)


SPELLINGS: dict[str, Callable[[], nn.Module]] = {
    "softmax and matmul": lambda: Spelled(explicit),
    "F.softmax, a cast, dropout and @": lambda: Spelled(with_dropout),
    "nn.Softmax and einsum": lambda: Spelled(with_einsum),
    "F.scaled_dot_product_attention": lambda: Spelled(fused),
    "sdpa with a scale": lambda: Spelled(lambda q, k, v: F.scaled_dot_product_attention(2 * q, k, v, scale=0.25)),
    "nn.MultiheadAttention": lambda: Multihead(need_weights=False),
    "nn.MultiheadAttention with weights": Multihead,
    "nn.MultiheadAttention with weights of heads": lambda: Multihead(average_attn_weights=False),
    "nn.MultiheadAttention, batch last": lambda: Multihead(batch_first=False, need_weights=False),
}


class Block(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attn = attention
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 12), nn.GELU(), nn.Dropout(0.3), nn.Linear(12, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ViT(nn.Module):
    """Patches of 4 x 4 behind ``prefix`` other tokens, ``depth`` blocks, 5 classes read from ``read`` of the tokens."""

    def __init__(
        self,
        attention: Callable[[], nn.Module] = SPELLINGS["F.scaled_dot_product_attention"],
        *,
        size: tuple[int, int] = (12, 8),
        prefix: int = 1,
        read: slice = slice(0, 1),
        depth: int = 3,
    ) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, WIDTH, 4, 4)
        self.prefix = nn.Parameter(torch.zeros(1, prefix, WIDTH))
        self.place = nn.Parameter(torch.zeros(1, prefix + size[0] * size[1] // 16, WIDTH))
        self.blocks = nn.Sequential(*(Block(attention()) for _ in range(depth)))
        self.norm = nn.LayerNorm(WIDTH)
        self.read = read
        self.head = nn.Linear(WIDTH, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.prefix.expand(len(x), -1, -1), patches], 1) + self.place
        tokens = self.norm(self.blocks(tokens))
        out: Tensor = self.head(tokens[:, self.read].mean(1))
        return out


def make(spelling: str = "F.scaled_dot_product_attention", dtype: Any = torch.float32, **options: Any) -> ViT:
    """A transformer in use; the same weights, and so the same function, in every spelling."""
    model = nets.fill(ViT(SPELLINGS[spelling], **options)).to(dtype)
    assert isinstance(model, ViT)
    return model


def batch(n: int = 3, h: int = 12, w: int = 8, dtype: Any = torch.float32) -> Tensor:
    return nets.batch(n, h, w, dtype=dtype)
