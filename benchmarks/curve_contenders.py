"""Who measures curves: attrib, RISE's own loop, torch-cam and Quantus, asked for the same areas."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from attrib import METHODS
from attrib.io import Preprocess, demo_images
from attrib.metrics import Protocol
from attrib.metrics.curves import curves
from benchmarks import contenders as c
from benchmarks import rise_loop

NETS = ("resnet18", "squeezenet1_0")  # of which there are trained weights
RISE, TORCHCAM, QUANTUS = "RISE's loop", "torch-cam", "Quantus"
ROWS_PER_STEP = 8  # image rows of pixels, in the batch variant of RISE


@dataclass(frozen=True)
class Asked(c.Task):
    """One network, several photos, the class of each, and the maps that all contenders are given.

    Attributes:
        targets: ``(N,)``, the predicted classes.
        maps: ``(N, 1, H, W)``, saliency.
        photos: where they come from.
        weights: ``"trained"`` or ``"random"``.
    """

    targets: Tensor
    maps: Tensor
    photos: str
    weights: str

    @property
    def step(self) -> int:
        """Pixels per step of the batch variant."""
        return ROWS_PER_STEP * self.x.shape[-1]

    @property
    def points(self) -> int:
        """Points of a curve of such steps."""
        return self.maps[0].numel() // self.step + 1


Call = Callable[[], Tensor]  # areas (curves, N), or (curves,) where a peer tells only means


@dataclass(frozen=True)
class Setting:
    """One way to ask for curves, and who can be asked so.

    Attributes:
        what: in words.
        names: the curves.
        protocol: ours.
        peers: how each peer is asked.
        single: whether only the first photo is measured.
    """

    what: str
    names: tuple[str, ...]
    protocol: Callable[[Asked], Protocol]
    peers: Mapping[str, Callable[[Asked], Call]]
    single: bool = False


def _ours(setting: Setting, asked: Asked) -> Call:
    protocol = setting.protocol(asked)

    def call() -> Tensor:
        found = curves(asked.model, asked.x, asked.targets, asked.maps, protocol, which=setting.names)
        return torch.stack([found.auc(name) for name in setting.names])

    return call


def _rise_rows(asked: Asked) -> Call:
    return partial(rise_loop.one_by_one, asked.model, asked.x, asked.maps, asked.x.shape[-1])


def _rise_batch(asked: Asked) -> Call:
    return partial(rise_loop.deletion_and_insertion, asked.model, asked.x, asked.maps, asked.step)


class Given:
    """What torch-cam's metric asks of a CAM extractor, with maps that are there already."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model = model
        self.maps = maps[:, 0]

    def __call__(self, *_: object, **__: object) -> list[Tensor]:
        """The maps, whatever the class."""
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        """There is one."""
        return cams[0]

    @contextmanager
    def _hooks_off(self) -> Iterator[None]:
        yield


def _torchcam(asked: Asked) -> Call:
    from torchcam.metrics import DeletionInsertionMetric

    def call() -> Tensor:
        extractor = Given(asked.model, asked.maps)
        metric = DeletionInsertionMetric(extractor, partial(torch.softmax, dim=-1), steps=asked.points - 1)
        metric.update(asked.x, asked.targets.tolist())
        found = metric.summary()
        return torch.tensor([found["deletion_auc"], found["insertion_auc"]])

    return call


def _quantus(asked: Asked) -> Call:
    """Its step counts values of channels, and must divide the pixels: three of its steps are one of ours."""
    from quantus import PixelFlipping

    options = {"features_in_step": asked.step, "perturb_baseline": 0.0, "normalise": False, "abs": False}
    x, classes, maps = (value.cpu().numpy() for value in (asked.x, asked.targets, asked.maps))
    batch = {"x_batch": x, "y_batch": classes, "a_batch": maps, "batch_size": len(x), "channel_first": True}

    def call() -> Tensor:
        flipping = PixelFlipping(**options, disable_warnings=True)
        after = torch.tensor(flipping(model=asked.model, **batch, softmax=True, device=str(asked.x.device)))
        with torch.no_grad():  # it leaves out the clean image
            clean = asked.model(asked.x).softmax(1).gather(1, asked.targets[:, None]).cpu()
        return rise_loop.area(torch.cat([clean, after[:, asked.x.shape[1] - 1 :: asked.x.shape[1]]], 1))[None]

    return call


def _zeros(asked: Asked) -> Protocol:
    return Protocol(baseline="zero", steps=asked.points)


BOTH = ("deletion", "insertion")
SETTINGS: dict[str, Setting] = {
    "rows": Setting(
        "RISE: one photo, a row per step", BOTH, lambda _: Protocol.named("rise"), {RISE: _rise_rows}, True
    ),
    "batch": Setting(
        "RISE: a batch, 8 rows per step",
        BOTH,
        lambda asked: replace(Protocol.named("rise"), steps=asked.points),
        {RISE: _rise_batch},
    ),
    "zeros": Setting("both from zeros, 8 rows per step", BOTH, _zeros, {TORCHCAM: _torchcam}),
    "deletion": Setting("deletion, 8 rows per step", ("deletion",), _zeros, {QUANTUS: _quantus}),
}
NEEDS = {RISE: "scipy", TORCHCAM: "torchcam", QUANTUS: "quantus"}


def asked(net: str, images: int, size: int, device: str) -> Asked:
    """The network, the photos and their maps."""
    from tests import data

    trained = data.DATA is not None and net in NETS
    if trained:
        from tests import realnets

        loaded = realnets.load(net).loaded
        model, x = loaded.model, loaded.inputs([photo.image for photo in data.photos(images)])[..., :size, :size]
    else:
        model, see = c.task(net, size, "cpu", target=0).model, Preprocess(size * 8 // 7, size)
        x = torch.stack([see(photo) for photo in list(demo_images().values())[:images]])
    model, x = model.to(device).eval(), x.to(device)
    with torch.no_grad():
        targets = model(x).argmax(1)
    maps = METHODS["saliency"](model).attribute(x, target=targets).detach()
    told = ("ImageNet photos", "trained") if trained else ("demo photos", "random")
    return Asked(net, model, "", x, int(targets[0]), targets, maps, *told)


def first(asked: Asked) -> Asked:
    """The same with one photo."""
    return replace(asked, x=asked.x[:1], targets=asked.targets[:1], maps=asked.maps[:1])


def makers(setting: Setting) -> dict[str, Callable[[Asked], Call]]:
    """Everyone who is asked, ourselves first."""
    return {c.OURS: partial(_ours, setting), **setting.peers}
