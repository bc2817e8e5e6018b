"""Every classification model of torchvision: every method answers, or says why not, and leaves no trace."""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attrib
from attrib.core.backward.activations import RECTIFIERS, SMOOTH
from attrib.errors import RuleError
from benchmarks import matrix

pytestmark = pytest.mark.usefixtures("few_steps")

models = pytest.importorskip("torchvision.models")
HUGE = {"regnet_y_128gf", "vit_h_14"}  # 2.5 GB of random numbers each; their smaller siblings run the same code
NAMES = [name for name in models.list_models(module=models) if name not in HUGE]


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


# Fast ones that take any network; the others are tried on one network of each family below.
ANY = ("saliency", "input_x_gradient", "guided", "deconvnet", "gradcam", "guided_gradcam", "occlusion")


@pytest.mark.parametrize("name", NAMES)
def test_the_methods_for_any_network_answer_and_leave_no_trace(name: str) -> None:
    model, x = matrix.build(name).train(), matrix.image(name)
    before = trace(model)
    kinds = check_coverage(name, model, x)
    half = (x.shape[2] // 2, x.shape[3] // 2)
    for key in ANY:
        options = {"window": half, "stride": half, "baseline": 1.0} if key == "occlusion" else {}
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


EVERY = "ATTRIB_TEST_EVERY_MODEL" in os.environ
TRIED = matrix.FAMILIES if EVERY else ("alexnet", "convnext_tiny", "googlenet", "resnet18", "squeezenet1_1", "swin_t",
                                       "vgg11_bn", "vit_b_16")  # fmt: skip


def results() -> Any:
    return json.loads(matrix.RESULTS.read_text())


@pytest.mark.parametrize("name", TRIED)
def test_every_method_gives_what_the_matrix_of_the_docs_says_and_leaves_no_trace(name: str) -> None:
    (row,) = (row for row in results()["rows"] if row["net"] == name)
    assert set(row["outcomes"]) == {*attrib.METHODS}
    model, x = matrix.build(name), matrix.image(name)
    before = trace(model)
    for method, said in row["outcomes"].items():
        found = matrix.outcome(method, model, x)
        assert found.partition(":")[0] == said.partition(":")[0], (method, found)
        assert trace(model) == before, method


def test_the_page_shows_the_matrix() -> None:
    assert matrix.page(results()) in matrix.PAGE.read_text()
