"""Small networks put together from blocks, each of which is awkward for windows in one way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import nets

CHANNELS = 4
Body = Callable[[Any, Tensor], Tensor]


class Block(nn.Module):
    """``body(self, x)`` with the layers it uses."""

    def __init__(self, body: Body, **layers: nn.Module) -> None:
        super().__init__()
        self.body = body
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def conv(kernel: Any = 3, out: int = CHANNELS, into: int = CHANNELS, **how: Any) -> nn.Conv2d:
    return nn.Conv2d(into, out, kernel, **how)


def through(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers)


def block(body: Body, **layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: Block(body, **{name: make() for name, make in layers.items()})


def act(function: Callable[[Tensor], Tensor]) -> Callable[[], nn.Module]:
    return block(lambda s, x: function(s.conv(x)), conv=partial(conv, padding=1))


def module(kind: Callable[..., nn.Module], *args: Any, **how: Any) -> Callable[[], nn.Module]:
    return lambda: kind(*args, **how)


same = partial(conv, padding=1)
bn = module(nn.BatchNorm2d, CHANNELS)


def _residual_in_place(s: Any, x: Tensor) -> Tensor:
    out: Tensor = s.conv(x)
    out += x
    return out.relu_()


def _normed_beside(s: Any, x: Tensor) -> Tensor:
    x = s.conv(x)
    return x + s.bn(x)


def _shuffle(s: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def _chunk(s: Any, x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return torch.cat([a, s.conv(b)], 1)


def _dense(s: Any, x: Tensor) -> Tensor:
    y = s.a(torch.cat([x], 1)).relu()
    return s.b(torch.cat([x, y, s.c(torch.cat([x, y], 1)).relu()], 1))


def _convnext(s: Any, x: Tensor) -> Tensor:
    y = s.norm(s.conv(x).permute(0, 2, 3, 1))
    return x + s.scale * s.b(F.gelu(s.a(y))).permute(0, 3, 1, 2)


def _plane(s: Any, x: Tensor) -> Tensor:
    """Maps without a channel axis, with windows of two sizes."""
    return x * (s.conv(x)[:, 0] + s.point(x)[:, 1]).unsqueeze(1)


def _passed_on(s: Any, x: Tensor) -> Tensor:
    """What is padded is needed again, after what is padded has been rectified."""
    x = s.point(x)
    return x + s.conv(F.relu(F.pad(x, (1, 1, 1, 1))))


def _convnext_block() -> nn.Module:
    layers = {"conv": conv(3, padding=1, groups=CHANNELS), "norm": nn.LayerNorm(CHANNELS)}
    found = Block(_convnext, **layers, a=nn.Linear(CHANNELS, 6), b=nn.Linear(6, CHANNELS))
    found.scale = nn.Parameter(torch.ones(CHANNELS, 1, 1))
    return found


def _weight_standardised(s: Any, x: Tensor) -> Tensor:
    w = s.conv.weight
    return F.conv2d(x, (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True), padding=1)


# What keeps changes local: windows must be used behind it.
LOCAL: dict[str, Callable[[], nn.Module]] = {
    "convolution": same,
    "grouped": partial(same, groups=2),
    "depthwise": partial(same, groups=CHANNELS),
    "dilated": partial(conv, padding=2, dilation=2),
    "strided": partial(same, stride=2),
    "strided past pixels": partial(conv, 1, stride=(3, 2)),
    "strides of their own": partial(conv, (3, 5), stride=(1, 2), padding=(0, 3), dilation=(2, 1)),
    "without padding, without bias": partial(conv, bias=False),
    "wide": partial(conv, (1, 5), padding=(0, 2)),
    "tall": partial(conv, (4, 1)),
    "same, even": partial(conv, (2, 4), padding="same"),
    "same, dilated": partial(conv, (3, 2), padding="same", dilation=2),
    "padded on one side": block(lambda s, x: s.conv(F.pad(x, (2, 0, 0, 1))), conv=conv),
    "padded with a number": block(lambda s, x: s.conv(F.pad(x, (1, 2, 2, 0), value=0.7)), conv=conv),
    "passed on": block(_passed_on, conv=conv, point=partial(conv, 1)),
    "BatchNorm behind": lambda: nn.Sequential(same(bias=False), bn(), nn.ReLU(inplace=True)),
    "BatchNorm before": lambda: nn.Sequential(bn(), nn.ReLU(inplace=True), same()),
    "BatchNorm without weights": lambda: nn.Sequential(same(), nn.BatchNorm2d(CHANNELS, affine=False)),
    "BatchNorm and a skip": block(_normed_beside, conv=same, bn=bn),
    "two BatchNorms": lambda: nn.Sequential(same(), bn(), bn()),
    "LayerNorm, channels last": _convnext_block,
    "local response": module(nn.LocalResponseNorm, 3),
    "max-pooling": module(nn.MaxPool2d, 3, 2, 1),
    "max-pooling, ceil": module(nn.MaxPool2d, 2, 2, ceil_mode=True),
    "max-pooling, dilated": module(nn.MaxPool2d, (2, 3), 1, 1, dilation=2),
    "mean-pooling": module(nn.AvgPool2d, 3, 2, 1),
    "mean-pooling, ceil": module(nn.AvgPool2d, 3, 2, 1, ceil_mode=True),
    "mean-pooling without padding": module(nn.AvgPool2d, 3, 2, 1, count_include_pad=False),
    "mean-pooling, both": module(nn.AvgPool2d, (2, 4), (2, 3), (1, 2), ceil_mode=True, count_include_pad=False),
    "sum-pooling": module(nn.AvgPool2d, 2, 1, divisor_override=1, ceil_mode=True),
    "norm-pooling": module(nn.LPPool2d, 2, 2),
    "residual": block(lambda s, x: F.relu(x + s.conv(x)), conv=same),
    "residual in place": block(_residual_in_place, conv=same),
    "pre-activation": block(lambda s, x: x + s.conv(F.relu(s.bn(x))), conv=same, bn=bn),
    "concatenation": block(
        lambda s, x: s.c(torch.cat([s.a(x), s.b(x), x], 1)),
        a=same,
        b=partial(conv, 5, padding=2),
        c=partial(conv, 1, into=12),
    ),
    "dense block": block(_dense, a=same, c=partial(same, into=8), b=partial(conv, 1, into=12)),
    "channel shuffle": block(_shuffle),
    "chunks": block(_chunk, conv=partial(same, into=2, out=2)),
    "split": block(lambda s, x: torch.cat(x.split([1, 3], 1)[::-1], 1)),
    "every other channel": block(lambda s, x: torch.cat([x[:, ::2], x[:, 1::2]], 1)),
    "product": block(lambda s, x: s.a(x) * s.b(x).sigmoid(), a=same, b=partial(conv, 1)),
    "largest of two": block(lambda s, x: torch.maximum(s.a(x), s.b(x)), a=same, b=partial(conv, 1)),
    "pooled to its own size": block(lambda s, x: F.adaptive_avg_pool2d(x, x.shape[2:])),
    "dropout": lambda: nn.Sequential(nn.Dropout2d(), same(), nn.Dropout(0.9, inplace=True)),
    "called twice": block(lambda s, x: s.conv(s.relu(s.conv(x))), conv=same, relu=module(nn.ReLU, inplace=True)),
    "weights made on the fly": block(_weight_standardised, conv=partial(same, bias=False)),
    "numbers": block(lambda s, x: (2 - x * 0.5) / 3 + x**2 - 1 + x.square().clamp(0.1, 2).sqrt()),
    "softmax over channels": block(lambda s, x: x.softmax(1)),
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    **{kind.__name__: module(kind) for kind in (nn.GELU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.Tanhshrink)},
    **{
        kind.__name__: module(kind, inplace=True)
        for kind in (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.SiLU, nn.Mish)
    },
    "Hardswish": module(nn.Hardswish),
    "Hardsigmoid": module(nn.Hardsigmoid, inplace=True),
    "Hardtanh": module(nn.Hardtanh, inplace=True),
    "PReLU": module(nn.PReLU, CHANNELS),
    "Threshold": module(nn.Threshold, 0.1, 0.2, inplace=True),
    "Softshrink": module(nn.Softshrink),
    "swish by hand": block(lambda s, x: x * torch.sigmoid(x)),
    "F.relu_": block(lambda s, x: F.relu_(x.clone())),
}

# What spreads a change over the whole map: replayed, dense from there.
GLOBAL: dict[str, Callable[[], nn.Module]] = {
    "plane without channels": block(_plane, conv=same, point=partial(conv, 1)),
    "GroupNorm": module(nn.GroupNorm, 2, CHANNELS),
    "LayerNorm over maps": block(lambda s, x: F.layer_norm(x, x.shape[1:])),
    "squeeze and excite": block(
        lambda s, x: x * s.b(F.silu(s.a(F.adaptive_avg_pool2d(x, 1)))).sigmoid(),
        a=partial(conv, 1, out=2),
        b=partial(conv, 1, into=2),
    ),
    "spatial attention": block(lambda s, x: x * s.conv(x.amax(1, keepdim=True)).sigmoid(), conv=partial(same, into=1)),
    "pooled to another size": module(nn.AdaptiveAvgPool2d, (5, 3)),
    "largest of regions": module(nn.AdaptiveMaxPool2d, (4, 5)),
    "reflected": partial(conv, padding=2, padding_mode="reflect"),
    "repeated at the border": partial(conv, padding=(1, 2), padding_mode="replicate"),
    "half as large": block(lambda s, x: F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)),
    "twice as large": module(nn.Upsample, scale_factor=2),
    "transposed convolution": module(nn.ConvTranspose2d, CHANNELS, CHANNELS, 3, stride=2, padding=1),
    "pixel shuffle": lambda: nn.Sequential(nn.PixelShuffle(2), conv(1, into=1)),
    "every other pixel": block(lambda s, x: s.conv(x[..., ::2, 1:]), conv=same),
    "a map of numbers": block(lambda s, x: x + torch.linspace(0, 1, x.shape[3], dtype=x.dtype)),
    "softmax over a row": block(lambda s, x: x.softmax(3)),
    "cropped": block(lambda s, x: F.pad(x, (-1, 2, 0, -1))),
    "height and width swapped": block(lambda s, x: x.transpose(2, 3)),
}


class Net(nn.Module):
    """Convolution, blocks, convolution, head."""

    def __init__(self, blocks: list[nn.Module], head: str = "mean", pack: Callable[[Tensor], Any] = lambda out: out):
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.blocks = nn.ModuleList(blocks)
        self.last = same()
        self.fc = nn.Linear(CHANNELS * (6 if head == "flat" else 1), nets.CLASSES)
        self.head = head
        self.pack = pack

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        for part in self.blocks:
            x = part(x)
        return self.pack(self.fc(HEADS[self.head](self.last(x).relu())))


HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean((2, 3)),
    "pooled mean": lambda x: torch.flatten(F.adaptive_avg_pool2d(x, 1), 1),
    "largest": lambda x: x.amax((-2, -1)),
    "flat": lambda x: F.dropout(F.adaptive_avg_pool2d(x, (2, 3)).flatten(1), training=False),
    "spread": lambda x: x.flatten(2).norm(dim=2),
    "sum": lambda x: x.sum((2, 3)) / 9,
}


def build(*blocks: str, head: str = "mean", seed: int = 0, dtype: Any = torch.float64, **how: Any) -> Any:
    """A filled net of named blocks."""
    known = LOCAL | ACTIVATIONS | GLOBAL
    return nets.fill(Net([known[name]() for name in blocks], head, **how), seed).to(dtype)
