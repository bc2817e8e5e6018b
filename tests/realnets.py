"""Trained networks for tests, by name: ``realnets.load("resnet18")`` gives a model, its preprocessing and pictures.

The files are described in :mod:`tests.data`; architectures that torchvision does not have are written here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import Tensor, nn

from attrib.io import LoadedModel, Preprocess, load_weights
from tests import data

HALF = ((0.5,) * 3, (0.5,) * 3)  # mean, std
UNIT = ((0.0,) * 3, (1.0,) * 3)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class RealNet:
    """A trained network with pictures that it should get right.

    ``images`` are RGB pictures, ``labels`` their classes; ``least`` is how many it must get right: one fewer than
    it does, so that a wrong layout, padding or normalisation shows.
    """

    name: str
    loaded: LoadedModel
    images: tuple[Image.Image, ...]
    labels: tuple[int, ...]
    least: int

    @property
    def model(self) -> nn.Module:
        return self.loaded.model

    def batch(self, count: int = 2) -> tuple[Tensor, Tensor]:
        """The first ``count`` pictures as inputs ``(N, C, H, W)``, and their labels ``(N,)``."""
        return self.loaded.inputs(self.images[:count]), torch.tensor(self.labels[:count])


class TinyDarknet(nn.Module):
    """3x3 and 1x1 convolutions, BatchNorm, LeakyReLU; a 1x1 classifier and a global mean: CAM is exact here."""

    # (channels, kernel); "pool" halves
    LAYERS = ((16, 3), "pool", (32, 3), "pool", (16, 1), (128, 3), (16, 1), (128, 3), "pool", (32, 1), (256, 3),
              (32, 1), (256, 3), "pool", (64, 1), (512, 3), (64, 1), (512, 3), (128, 1))  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        width = 3
        for layer in self.LAYERS:
            if isinstance(layer, str):
                self.features.append(nn.MaxPool2d(2))
                continue
            self.features.append(nn.Conv2d(width, layer[0], layer[1], padding=layer[1] // 2, bias=False))
            self.features.append(nn.BatchNorm2d(layer[0]))
            self.features.append(nn.LeakyReLU(0.1))
            width = layer[0]
        self.classifier = nn.Conv2d(width, 1000, 1)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.features(x))
        return scores.mean((2, 3))


class MobileNetV1(nn.Module):
    """A chain of depthwise and 1x1 convolutions with ReLU6, BatchNorm folded; TensorFlow's padding."""

    STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    WIDTHS = (16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256)

    def __init__(self) -> None:
        super().__init__()
        self.conv0, width = nn.Conv2d(3, 8, 3, stride=2), 8
        for i, (stride, wider) in enumerate(zip(self.STRIDES, self.WIDTHS, strict=True)):
            self.add_module(f"conv{2 * i + 1}", nn.Conv2d(width, width, 3, stride=stride, groups=width))
            self.add_module(f"conv{2 * i + 2}", nn.Conv2d(width, wider, 1))
            width = wider
        self.classifier = nn.Conv2d(width, 1000, 1)
        self.relu = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        for i in range(27):
            conv = self.get_submodule(f"conv{i}")
            x = self.relu(conv(same_padded(x, conv)))
        scores: Tensor = self.classifier(x.mean((2, 3), keepdim=True))
        return scores.flatten(1)


def same_padded(x: Tensor, conv: nn.Module) -> Tensor:
    """Pad as TensorFlow's "SAME" does for a 3x3 kernel: with stride 2 and an even size, below and right only."""
    if conv.kernel_size == (1, 1):
        return x
    return F.pad(x, (1, 1, 1, 1) if conv.stride == (1, 1) else (0, 1, 0, 1))


class CifarBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without weights: every second pixel, zeros for the new channels."""

    def __init__(self, width: int, wider: int) -> None:
        super().__init__()
        self.more = wider - width
        self.conv1 = nn.Conv2d(width, wider, 3, stride=2 if self.more else 1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(wider)
        self.conv2 = nn.Conv2d(wider, wider, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(wider)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.more:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more // 2, self.more // 2))
        return F.relu(x + y)


class CifarResNet(nn.Module):
    """He et al. 2016, section 4.2, option A; ReLU is called as a function, never as a module."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for stage, (width, wider) in enumerate(((16, 16), (16, 32), (32, 64)), start=1):
            chain = [CifarBlock(width, wider)] + [CifarBlock(wider, wider) for _ in range(blocks - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(*chain))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in (1, 2, 3):
            x = self.get_submodule(f"layer{stage}")(x)
        scores: Tensor = self.linear(x.mean((2, 3)))
        return scores


class MnistCNN(nn.Module):
    """Three convolutions with ReLU and pooling, two linear layers; one input channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_layers = nn.Sequential()
        for width, wider in ((1, 32), (32, 64), (64, 128)):
            self.conv_layers.extend([nn.Conv2d(width, wider, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)])
        self.fc_layers = nn.Sequential(nn.Linear(1152, 256), nn.ReLU(), nn.Linear(256, 10))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc_layers(self.conv_layers(x).flatten(1))
        return scores


class SamePaddedConv2d(nn.Conv2d):
    """A 3x3 convolution of stride 2 that pads as TensorFlow does: below and right only."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


def mobilenet_v2() -> nn.Module:
    """torchvision's, with TensorFlow's padding in the five stride-2 convolutions; the names stay the same."""
    net: nn.Module = torchvision.models.mobilenet_v2(weights=None)
    strided = [conv for conv in net.modules() if isinstance(conv, nn.Conv2d) and conv.stride == (2, 2)]
    for conv in strided:
        conv.padding = (0, 0)
        conv.__class__ = SamePaddedConv2d
    return net


@dataclass(frozen=True)
class Recipe:
    """How to make one net: its file, architecture, preprocessing and pictures."""

    file: str
    build: Callable[[], nn.Module]
    preprocess: Preprocess
    pictures: Callable[[], list[data.Labelled]]
    least: int


@cache
def _photos() -> list[data.Labelled]:
    return [(photo.image, photo.target) for photo in data.photos()] + data.samples("imagenet")


def _cifar10() -> list[data.Labelled]:
    return data.samples("cifar10") + data.cifar10(80)


RECIPES = {
    "squeezenet1_0": Recipe(
        "squeezenet1_0_imagenet",
        partial(torchvision.models.squeezenet1_0, weights=None),
        Preprocess(256, 227),
        _photos,
        56,
    ),
    "tiny_darknet": Recipe("tiny_darknet_imagenet", TinyDarknet, Preprocess(256, 224, *UNIT), _photos, 57),
    "mobilenet_v2": Recipe("mobilenet_v2_imagenet_tf", mobilenet_v2, Preprocess(256, 224, *HALF), _photos, 64),
    "resnet18": Recipe(
        "resnet18_imagenet_ktb",
        partial(torchvision.models.resnet18, weights=None),
        Preprocess(256, 224),
        _photos,
        64,
    ),
    "mobilenet_v1_025_128": Recipe("mobilenet_v1_025_128", MobileNetV1, Preprocess(146, 128, *HALF), _photos, 39),
    "resnet20_cifar10": Recipe("resnet20_cifar10", partial(CifarResNet, 3), Preprocess(32, 32), _cifar10, 99),
    "resnet56_cifar10": Recipe("resnet56_cifar10", partial(CifarResNet, 9), Preprocess(32, 32), _cifar10, 99),
    "mnist_cnn": Recipe(
        "mnist_cnn", MnistCNN, Preprocess(28, 28, mean=(0.1307,), std=(0.3081,)), lambda: data.mnist(100), 99
    ),
}
NAMES = tuple(RECIPES)


def categories(name: str) -> tuple[str, ...]:
    """The class names of the net ``name``."""
    if name == "mnist_cnn":
        return tuple("0123456789")
    if name.endswith("cifar10"):
        return CIFAR10
    return tuple(torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"])


@cache
def load(name: str) -> RealNet:
    """The net ``name``, one of ``NAMES``, in evaluation mode; made once. Skips the test without the data folder."""
    recipe = RECIPES[name]
    file = data.path("nets", f"{recipe.file}.npz")
    with torch.random.fork_rng(devices=[]):
        model = recipe.build().eval()
    load_weights(model, file)
    loaded = LoadedModel(model, recipe.preprocess, categories(name), name=name, weights=file.name)
    images, labels = zip(*recipe.pictures(), strict=True)
    return RealNet(name, loaded, images, labels, recipe.least)
