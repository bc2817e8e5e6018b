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
        sum(float(t.detach().sum(dtype=torch.float64)) for t in tensors),
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
# Each kind of architecture once: a plain chain, a head without linear layer, branches, residuals, depthwise with ReLU6,
# squeeze and excitation, shuffled channels, LayerNorm with channels last, attention in windows, and of all tokens.
TRIED = matrix.FAMILIES if EVERY else ("alexnet", "squeezenet1_1", "googlenet", "resnet18", "mobilenet_v2",
                                       "mobilenet_v3_small", "shufflenet_v2_x0_5", "convnext_tiny", "swin_t",
                                       "vit_b_16")  # fmt: skip


def rows() -> dict[str, Any]:
    return {row["net"]: row for row in json.loads(matrix.RESULTS.read_text())["rows"]}


@pytest.mark.parametrize("name", TRIED)
def test_every_method_gives_what_the_matrix_of_the_docs_says_and_leaves_no_trace(name: str) -> None:
    row = rows()[name]
    assert set(row["outcomes"]) == {*attrib.METHODS}
    model, x = matrix.build(name), matrix.image(name, 2)
    assert matrix.signal(model, x) > 0.01  # else a map says nothing
    before = trace(model)
    for method, said in row["outcomes"].items():
        found = matrix.outcome(method, model, x)
        assert found.partition(":")[0] == said.partition(":")[0], (method, found)
        assert trace(model) == before, method


KEPT = [(name, method) for name, row in rows().items() for method, said in row["broken"].items() if not said]
# A few that are quick, of kinds that the probe network of the contract is not.
QUICKLY = [("squeezenet1_1", "input_x_gradient"), ("mnasnet0_5", "layercam")]


@pytest.mark.parametrize(("name", "method"), KEPT if EVERY else QUICKLY)
def test_a_method_keeps_every_promise_where_the_matrix_says_so(name: str, method: str) -> None:
    assert (name, method) in KEPT
    model, x, *_ = (
        matrix.trained(name[8:]) if name.startswith("trained.") else (matrix.build(name), matrix.image(name, 2))
    )
    assert matrix.broken(method, model, x) == []


def test_the_page_shows_the_matrix() -> None:
    assert matrix.page(json.loads(matrix.RESULTS.read_text())) in matrix.PAGE.read_text()


class Dead(nn.Module):
    """A score that does not depend on the input, as that of a network whose signal is lost."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :4] * 0 + torch.arange(4.0)


def test_the_matrix_refuses_networks_without_signal_and_zeros_that_no_relu_explains() -> None:
    x = matrix.image("resnet18", 2)
    with pytest.raises(AssertionError, match="hardly depend on its input"):
        matrix.row("dead", Dead(), x, ["saliency"], contract=False)
    with pytest.raises(AssertionError, match="gives zeros"):
        matrix.outcome("saliency", Dead(), x)


def test_the_table_tells_zeros_refusals_and_promises_apart() -> None:
    said = {"a": "map", "b": "zero map", "c": "RuleError: no rule for 'x' (3 of 4)", "d": "map", "e": "map"}
    row = {"net": "trained.n", "outcomes": said, "broken": {"d": [], "e": ["shape: it is (3,)"]}}
    lines = matrix.table([row]).splitlines()
    assert [line.split("|")[2].strip() for line in lines[2:7]] == ["map", "zero", "1", "map ✓", "map, but 2"]
    assert lines[-2:] == ["1. no rule for ... ...", "2. The promise 'shape' is broken."]
