"""Every classification model of torchvision: every method answers, or says why not, and leaves no trace."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attrib
from attrib.core.activations import RECTIFIERS, SMOOTH
from attrib.errors import RuleError
from tests.presets import OURS

models = pytest.importorskip("torchvision.models")
HUGE = {"regnet_y_128gf", "vit_h_14"}  # 2.5 GB of random numbers each; their smaller siblings run the same code
NAMES = [name for name in models.list_models(module=models) if name not in HUGE]
SIZES = {"inception_v3": (96, 80), "maxvit_t": (224, 224), "alexnet": (80, 64)}  # the least they take


def image(name: str) -> Tensor:
    size = SIZES.get(name, (64, 64) if name.startswith("vit") else (64, 96))
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))


def build(name: str) -> nn.Module:
    options: dict[str, Any] = {"image_size": 64} if name.startswith("vit") else {}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.get_model(name, weights=None, num_classes=7, **options)
        _wake(model)
    return model.train()


def _wake(model: nn.Module) -> None:
    """Untrained heads of ViT are zero, and then so is every gradient."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.1)


def trace(model: nn.Module) -> list[Any]:
    tensors = [*model.parameters(), *model.buffers()]
    return [
        [m.training for m in model.modules()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        [(id(t), t._version, t.requires_grad, t.grad is None) for t in tensors],
        sum(float(t.detach().double().sum()) for t in tensors),
        torch.get_rng_state().tolist(),
    ]


def check_coverage(name: str, model: nn.Module, x: Tensor) -> set[str]:
    """No rectifier on the way to the score may escape; return the families of activations that there are."""
    found = attrib.coverage(attrib.GuidedBackprop(model), x, "predicted")
    assert not found.escaped
    assert set(found.left) <= {*SMOOTH}
    modules = [m for m in model.modules() if isinstance(m, (nn.ReLU, nn.ReLU6))]
    if name.startswith("swin_v2"):  # the ReLU there shape position tables, which do not depend on the input
        assert not found.overrode
    elif name.startswith(("googlenet", "inception")):  # F.relu: there is no module to count
        assert sum(found.overrode.values()) > 50
    else:
        assert sum(found.overrode.values()) >= len(modules)
    return {*found.overrode, *found.left}


@pytest.mark.parametrize("name", NAMES)
def test_every_method_answers_and_leaves_no_trace(name: str) -> None:
    model, x = build(name), image(name)
    before = trace(model)
    kinds = check_coverage(name, model, x)
    half = (x.shape[2] // 2, x.shape[3] // 2)
    for key in OURS:
        few = {"occlusion": {"window": half, "stride": half, "baseline": 1.0}, "rise": {"n": 4},
               "scorecam": {"channels": 2}, "ablationcam": {"channels": 2}}  # fmt: skip
        options = few.get(key, {})
        method = attrib.METHODS[key](model, **options)
        if hasattr(method, "override") and not kinds & {*RECTIFIERS}:
            with pytest.raises(RuleError, match="no activation was overridden"):
                method.attribute(x, "predicted")
            continue
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "overrode .* left", UserWarning)  # what is left is asserted above
            maps = method.attribute(x, "predicted")
        assert maps.shape[:2] == (1, 1), key
        assert key == "gradcam" or maps.shape[2:] == x.shape[2:], key
        # Without training Grad-CAM may see no evidence at all, and ReLU leaves zeros; elsewhere a flat map is a fault.
        assert "gradcam" in key or maps.std() > 0, key
    assert trace(model) == before
