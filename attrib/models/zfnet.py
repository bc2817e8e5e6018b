"""The network of Zeiler and Fergus, and all its relatives in their tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from attrib import checks
from attrib.errors import InputError

LAST = 8  # the number of the classifier: layers 1 to 5 are convolutions, 6 and 7 fully connected
REMOVABLE = (3, 4, 5, 6, 7)
HALVED = (2, 4, 5)  # layers whose channels see only half of those before with groups=2, Krizhevsky et al. section 3.2
Norm: TypeAlias = Literal["response", "contrast"]


class ContrastNorm(nn.Module):
    r"""Subtract the local mean over all channels, then divide by the local deviation.

    .. math:: v = x - \sum_{k, p} w_p x_{k, \cdot + p}, \qquad y = \frac{v}{\max(\bar\sigma, \sigma)}, \qquad
        \sigma^2 = \sum_{k, p} w_p v_{k, \cdot + p}^2

    with a Gaussian window w whose sum over channels and places is 1, and the mean over places of sigma.

    Convention:
        - beyond the edge there is nothing: the window is cut there, and its weights sum to 1 again.
        - of a constant example nothing is left: a deviation that is only rounding is not divided by.

    Args:
        window: side, odd.

    Example:
        >>> y = ContrastNorm(3)(torch.rand(2, 4, 6, 6))
        >>> y.shape
        torch.Size([2, 4, 6, 6])

    References:
        Jarrett, Kavukcuoglu, Ranzato, LeCun, "What is the Best Multi-Stage Architecture for Object Recognition?", ICCV
        2009, section 2.1.
    """

    window: Tensor

    def __init__(self, window: int = 9) -> None:
        super().__init__()
        if checks.integer("window", window, 1) % 2 == 0:
            raise InputError(f"window must be odd, so that it has a middle; got {window}.")
        place = torch.arange(window) - window // 2
        line = torch.exp(-0.5 * (place / (window / 4)) ** 2)  # two deviations on either side
        self.register_buffer("window", (line[:, None] * line)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)``."""
        v = x - self._mean(x)
        deviation = self._mean(v.square()).clamp(min=0).sqrt()
        numbers = torch.finfo(x.dtype)
        rounding = numbers.eps**0.5 * x.abs().mean((1, 2, 3), keepdim=True) + numbers.tiny**0.5
        return v / deviation.maximum(deviation.mean((2, 3), keepdim=True)).maximum(rounding)

    def _mean(self, x: Tensor) -> Tensor:
        """Weighted by the window, over all channels: ``(N, 1, H, W)``."""
        window, middle = self.window.to(x.dtype), self.window.shape[2] // 2
        mean = F.conv2d(x.mean(1, keepdim=True), window, padding=middle)
        return mean / F.conv2d(torch.ones_like(x[:1, :1]), window, padding=middle)


def zfnet(  # noqa: PLR0913  the columns of the paper's tables, and what small data need
    classes: int = 1000,
    *,
    widths: Sequence[int] = (96, 256, 384, 384, 256),
    fc: Sequence[int] = (4096, 4096),
    without: Collection[int] = (),
    first_kernel: int = 7,
    first_stride: int = 2,
    second_stride: int = 2,
    padding: tuple[int, int] = (1, 0),
    groups: int = 1,
    norm: Norm | None = "response",
    dropout: float = 0.5,
    scale: float = 1.0,
    image_size: int | tuple[int, int] = 224,
    channels: int = 3,
    std: float | None = None,
    seed: int = 0,
) -> nn.Sequential:
    """Build the network of the paper's figure 3, or one of those that its table 3 compares it with.

    Layers 1 to 5 are convolutions (7x7, 5x5, then 3x3), each with ReLU; after layers 1, 2 and 5 follows max pooling of
    3x3 with stride 2, and after 1 and 2 a normalisation. Layers 6 and 7 are fully connected, with ReLU and dropout, and
    layer 8 gives the scores of the classes. Modules are called ``conv1``, ``relu1``, ``pool1``, ``norm1``, ... ``fc8``.

    Convention:
        - a picture of 224 x 224 becomes 110 (``conv1``), 55, 26 (``conv2``), 13, 13, 13, 13, 6 and 9216 numbers. The
          paper gives no padding; 1 in the first layer, 0 in the second and pooling that keeps an incomplete window at
          the edge lead to its sizes.
        - a layer that is removed takes its ReLU and dropout with it. Without layer 5 its pooling stays.
        - ``norm="response"`` is that of Krizhevsky et al. (5 maps, k = 2, alpha = 0.0001, beta = 0.75), ``"contrast"``
          that of `ContrastNorm`. The paper says "contrast normalized across feature maps", after pooling, and gives no
          constants.
        - biases are zero; weights are drawn with deviation ``std``, or so that activations keep their size if None (He
          et al.). The paper says 0.01 and pixel values of about 100; pictures of about 1 do not learn from that.
        - the network gives scores; the paper's softmax is part of the loss.

    Args:
        classes: of the last layer.
        widths: channels of the five convolutions.
        fc: units of layers 6 and 7.
        without: numbers of layers to remove, of 3 to 7.
        first_kernel: side of the filters of layer 1: 7, or 11 for Krizhevsky et al.
        first_stride: 2, or 4 for Krizhevsky et al.
        second_stride: of layer 2: 2, or 1 for Krizhevsky et al.
        padding: of layers 1 and 2; (2, 2) for Krizhevsky et al.
        groups: 2 cuts layers 2, 4 and 5 in halves, as Krizhevsky et al. did for two GPUs.
        norm: of layers 1 and 2; None for none.
        dropout: share of the units of layers 6 and 7 that training drops.
        scale: times all widths, ``fc`` included, for small data; rounded, to what ``groups`` divides.
        image_size: side of the pictures, or (height, width).
        channels: of the pictures.
        std: of the first weights.
        seed: of the first weights; the global random state is not touched.

    Raises:
        InputError: nothing is left of so small a picture.

    Example:
        >>> net = zfnet(10, scale=1 / 16, image_size=64, without=(3, 4))
        >>> net(torch.rand(2, 3, 64, 64)).shape, net.conv5.weight.shape
        (torch.Size([2, 10]), torch.Size([16, 16, 3, 3]))

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, figure 3 and table 3.
        Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012.
    """
    for number in without:
        checks.choice("layers to remove", number, REMOVABLE)
    checks.integer("groups", groups, 1)
    _many("padding", padding, 2)
    convolutions, full = _widths("widths", widths, 5, scale, groups), _widths("fc", fc, 2, scale)
    builder = _Builder(checks.integer("channels", channels, 1), checks.sides("image_size", image_size, 2), std, seed)
    kernels = (checks.integer("first_kernel", first_kernel, 1), 5, 3, 3, 3)
    strides = (checks.integer("first_stride", first_stride, 1), checks.integer("second_stride", second_stride, 1))
    for number in range(1, 6):
        if number not in without:
            stride = (*strides, 1, 1, 1)[number - 1]
            edge = checks.integer("padding", (*padding, 1, 1, 1)[number - 1], 0)
            halves = groups if number in HALVED else 1
            builder.convolution(number, convolutions[number - 1], (kernels[number - 1], stride, edge), halves)
        if number in (1, 2, 5):
            builder.pooling(number, norm if number < 5 else None)
    builder.add("flatten", nn.Flatten())
    checks.number("dropout", dropout, 0, 1)
    for number in (6, 7):
        if number not in without:
            builder.full(number, full[number - 6], dropout)
    builder.full(LAST, checks.integer("classes", classes, 1), None)
    return builder.net


def _widths(what: str, given: Sequence[int], many: int, scale: float, groups: int = 1) -> list[int]:
    _many(what, given, many)
    checks.number("scale", scale, 0)
    full = [checks.integer(what, width, 1) for width in given]
    return full if scale == 1 else [groups * max(1, round(scale * width / groups)) for width in full]


def _many(what: str, given: Sequence[int], many: int) -> None:
    if len(given) != many:
        raise InputError(f"{what} must be {many} numbers; got {given!r}.")


class _Builder:
    """Modules one after the other, and what comes out of the last."""

    def __init__(self, channels: int, size: tuple[int, ...], std: float | None, seed: int) -> None:
        self.net = nn.Sequential()
        self.channels, self.size, self.asked = channels, size, size
        self.std = std if std is None else checks.number("std", std, 0)
        self.source = torch.Generator().manual_seed(checks.integer("seed", seed, 0))

    def add(self, name: str, module: nn.Module) -> None:
        self.net.add_module(name, module)

    def convolution(self, number: int, width: int, shape: tuple[int, int, int], groups: int) -> None:
        kernel, stride, padding = shape
        if width % groups or self.channels % groups:
            raise InputError(
                f"widths must be divisible by groups={groups}; layer {number} has {self.channels} to {width}."
            )
        conv = skip_init(nn.Conv2d, self.channels, width, kernel, stride=stride, padding=padding, groups=groups)  # type: ignore[no-untyped-call]
        self._start(conv)
        self.add(f"conv{number}", conv)
        self.add(f"relu{number}", nn.ReLU())
        self.channels = width
        self._resize(number, lambda side: (side + 2 * padding - kernel) // stride + 1)

    def pooling(self, number: int, norm: Norm | None) -> None:
        self.add(f"pool{number}", nn.MaxPool2d(3, 2, ceil_mode=True))
        self._resize(number, lambda side: math.ceil((side - 3) / 2) + 1)
        if norm is not None:
            self.add(f"norm{number}", _norm(norm))

    def full(self, number: int, width: int, dropout: float | None) -> None:
        linear = skip_init(nn.Linear, self.channels * math.prod(self.size), width)  # type: ignore[no-untyped-call]
        self._start(linear)
        self.add(f"fc{number}", linear)
        self.channels, self.size = width, ()
        if dropout is not None:
            self.add(f"relu{number}", nn.ReLU())
            self.add(f"drop{number}", nn.Dropout(dropout))

    @torch.no_grad()
    def _start(self, module: nn.Conv2d | nn.Linear) -> None:
        inputs = module.weight[0].numel()
        std = self.std if self.std is not None else (2 / inputs) ** 0.5  # He et al. 2015, eq. 10
        module.weight.normal_(std=std, generator=self.source)
        if module.bias is not None:
            module.bias.zero_()

    def _resize(self, number: int, rule: Callable[[int], int]) -> None:
        size = tuple(map(rule, self.size))
        if min(size) < 1:
            asked = " x ".join(map(str, self.asked))
            raise InputError(
                f"image_size must leave something to each layer; of {asked} nothing is left in layer {number}."
            )
        self.size = size


def _norm(kind: Norm) -> nn.Module:
    if checks.choice("norm", kind, ("response", "contrast")) == "contrast":
        return ContrastNorm()
    # PyTorch divides alpha by the number of maps, Krizhevsky et al. do not
    return nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2)
