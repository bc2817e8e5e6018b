"""Who competes: the networks, and how each library is asked for the same numbers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attrib import METHODS
from attrib.core.masking.options import auto_rows
from attrib.core.reduce import upsample

OURS, CAPTUM, PGC = "attrib", "captum", "grad-cam"
WINDOWS = 7  # along each side: 49 positions, so that VGG16 ends in seconds


@dataclass(frozen=True)
class Task:
    """One network and one input; every contender gets the same weights.

    Attributes:
        net: name of the network.
        model: with random weights, in evaluation mode.
        layer: for Grad-CAM.
        x: ``(1, 3, size, size)``.
        target: the first class whose Grad-CAM is not zero everywhere, so that agreement means something.
    """

    net: str
    model: nn.Module
    layer: str
    x: Tensor
    target: int

    @property
    def window(self) -> int:
        """Side of the occluding window, which is also its step."""
        return max(1, self.x.shape[-1] // WINDOWS)


Call = Callable[[], Any]
Make = Callable[[Task], Call]


def _tiny() -> nn.Module:
    conv = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(nn.Sequential(*conv), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def _torchvision(name: str) -> nn.Module:
    import torchvision

    options = {"init_weights": True} if name == "googlenet" else {}  # without, its activations are denormal numbers
    return torchvision.models.get_model(name, weights=None, **options)  # type: ignore[no-any-return]


NETS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "alexnet": (partial(_torchvision, "alexnet"), "features"),
    "vgg16": (partial(_torchvision, "vgg16"), "features"),
    "resnet18": (partial(_torchvision, "resnet18"), "layer4"),
    "resnet50": (partial(_torchvision, "resnet50"), "layer4"),
    "googlenet": (partial(_torchvision, "googlenet"), "inception5b"),
    "mobilenet_v3_large": (partial(_torchvision, "mobilenet_v3_large"), "features"),
    "squeezenet1_0": (partial(_torchvision, "squeezenet1_0"), "features"),
    "vit_b_16": (partial(_torchvision, "vit_b_16"), "conv_proj"),
    "tiny": (_tiny, "0"),  # to try the script with
}
DEFAULT_NETS = ("alexnet", "vgg16", "resnet18", "resnet50")


def task(net: str, size: int, device: str, target: int | None = None, seed: int = 0) -> Task:
    """The network with random weights and a random input, both from ``seed``; None chooses the target."""
    make, layer = NETS[net]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, x = make().to(device).eval(), torch.randn(1, 3, size, size).to(device)
    if target is None:
        cam = METHODS["gradcam"](model, layer)
        target = next((index for index in range(10) if cam.attribute(x, target=index).any()), 0)
    return Task(net, model, layer, x, target)


def _ours(key: str, **options: Any) -> Make:
    def make(task: Task) -> Call:
        options_ = options | ({"layer": task.layer} if METHODS[key].needs_layer else {})
        return partial(METHODS[key](task.model, **options_).attribute, task.x, target=task.target)

    return make


def _our_occlusion(task: Task) -> Call:
    method = METHODS["occlusion"](task.model, window=task.window, stride=task.window, edge="cut")
    return partial(method.attribute, task.x, target=task.target)


def _captum(name: str, *, at_layer: bool = False, **options: Any) -> Make:
    def make(task: Task) -> Call:
        from captum import attr

        place = (task.model.get_submodule(task.layer),) if at_layer else ()
        method = getattr(attr, name)(task.model, *place)
        return partial(method.attribute, task.x, target=task.target, **options)

    return make


def _captum_occlusion(task: Task) -> Call:
    from captum.attr import Occlusion

    shape = (3, task.window, task.window)
    options = {"sliding_window_shapes": shape, "strides": shape, "perturbations_per_eval": auto_rows(task.x)}
    return partial(Occlusion(task.model).attribute, task.x, target=task.target, **options)


def _pgc_gradcam(task: Task) -> Call:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = copy.deepcopy(task.model)  # its hooks stay on the model
    method = GradCAM(model=model, target_layers=[model.get_submodule(task.layer)])
    return partial(method, input_tensor=task.x, targets=[ClassifierOutputTarget(task.target)])


def _pgc_guided(task: Task) -> Call:
    from pytorch_grad_cam import GuidedBackpropReLUModel

    method = GuidedBackpropReLUModel(copy.deepcopy(task.model), task.x.device)  # it exchanges modules
    return lambda: method(task.x.clone(), target_category=task.target)  # it switches on gradients of its input


# For each method the contenders, all asked for one value per channel and pixel, signed, or one per place of the layer.
CONTENDERS: dict[str, dict[str, Make]] = {
    "saliency": {OURS: _ours("saliency", channels="none"), CAPTUM: _captum("Saliency")},
    "input_x_gradient": {OURS: _ours("input_x_gradient", channels="none"), CAPTUM: _captum("InputXGradient")},
    "guided": {
        OURS: _ours("guided", channels="none", absolute=False),
        CAPTUM: _captum("GuidedBackprop"),
        PGC: _pgc_guided,
    },
    "deconvnet": {OURS: _ours("deconvnet", channels="none", absolute=False), CAPTUM: _captum("Deconvolution")},
    "gradcam": {
        OURS: _ours("gradcam"),
        CAPTUM: _captum("LayerGradCam", at_layer=True, relu_attributions=True),
        PGC: _pgc_gradcam,
    },
    "guided_gradcam": {
        OURS: _ours("guided_gradcam", channels="none", absolute=False),
        CAPTUM: _captum("GuidedGradCam", at_layer=True, interpolate_mode="bilinear"),
    },
    "occlusion": {OURS: _our_occlusion, CAPTUM: _captum_occlusion},
}


def contenders(method: str) -> dict[str, Make]:
    """The contenders that are installed."""
    here = find_spec("pytorch_grad_cam") is not None
    return {name: make for name, make in CONTENDERS[method].items() if name != PGC or here}


def quietly(call: Call) -> Any:
    """Call without the warnings that Captum gives on every use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


def difference(method: str, name: str, ours: Tensor, theirs: Any) -> float:
    """Largest difference from our numbers, relative to the largest of theirs."""
    mine = ours.detach().cpu().double()
    if name == PGC:
        theirs = torch.from_numpy(np.asarray(theirs))
        mine, theirs = (
            (_unit(mine, theirs.shape[-2:]), theirs) if method == "gradcam" else (mine[0], theirs.movedim(-1, 0))
        )
    other = theirs.detach().cpu().double()
    largest = float(other.abs().max())
    return float((mine - other).abs().max()) / (largest or 1.0)


def _unit(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """What pytorch-grad-cam returns: scaled to [0, 1], resized, scaled again."""

    def scale(maps: Tensor) -> Tensor:
        maps = maps - maps.min()
        return maps / (1e-7 + maps.max())

    return scale(upsample(scale(maps), size))[:, 0]
