"""torchvision's classifiers: windows where changes are local, else a replay or a reason, always the same scores."""

from __future__ import annotations

import os
import re

import pytest
import torch
from torch import nn

from attrib.core import Query, as_objective, frozen
from attrib.core.incremental.engine import record_query
from attrib.core.incremental.record import NotReplayableError
from benchmarks.matrix import build, image
from tests import nets
from tests.incremental import TOLERANCE, ask, largest_logit, squares, watched
from tests.test_torchvision import NAMES

# fmt: off
SAMPLE = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet",
    "inception_v3", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf",
    "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "vgg11_bn",
]
# fmt: on
# At 64 x 96 pixels, squeeze-and-excitation and large kernels leave nothing to spare.
EVERYWHERE = r"convnext_|efficientnet_b\d|mobilenet_v3_small|regnet_y|resnet152"
# Attention mixes places, and these spell it in ways that are not replayed.
REASONS = {"maxvit_t": "mixes the examples", "swin_t": "in place", "swin_v2_t": "in place", "vit_b_32": "joins|cat"}
TRANSFORMERS = ("maxvit", "swin", "vit")
CNNS = [name for name in NAMES if not name.startswith(TRANSFORMERS)]
EVERY = bool(os.environ.get("ATTRIB_TEST_EVERY_MODEL"))  # one model of each family, unless all are asked for


def awake(name: str) -> nn.Module:
    """Random weights under which a small hole in the image still moves the score: BatchNorm has seen some images."""
    model, x = build(name).double().eval(), image(name).double()
    source = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        noise = torch.randn(weight.shape, generator=source, dtype=torch.float64)
        weight.data.copy_(noise * (2 / weight[0].numel()) ** 0.5 if weight.ndim in {2, 4} else 1 + 0.2 * noise)
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        model(nets.batch(4, *x.shape[2:], dtype=torch.float64))
    return model.eval()


@pytest.mark.parametrize("name", CNNS if EVERY else SAMPLE)
def test_convolutional_networks_give_what_they_give_themselves(name: str) -> None:
    model, x = awake(name), image(name).double()
    masks = squares((x.shape[2], x.shape[3]), 8, 5, seed=1)
    with watched() as ways:
        fast = ask(model, x, masks, "predicted", baseline=1.0, verify=0)
    dense = ask(model, x, masks, "predicted", baseline=1.0, exact_dense=True)
    scale = largest_logit(model, x)
    assert dense.std() > 1e-7 * scale  # else anything would agree
    assert (fast - dense).abs().max() <= TOLERANCE[torch.float64] * scale
    assert ways == ["replayed" if re.match(EVERYWHERE, name) and ways[0] != "local" else "local"]


@pytest.mark.parametrize("name", REASONS)
def test_transformers_run_themselves_and_say_why(name: str) -> None:
    model, x = build(name).train(), image(name)
    with frozen(model), pytest.raises(NotReplayableError, match=REASONS[name]):
        record_query(Query(model, (x,), as_objective(1)), None, 0, ())


def test_every_family_is_in_the_sample() -> None:
    def family(name: str) -> str:
        return re.split(r"[_\d]", name)[0]

    assert {family(name) for name in NAMES if not name.startswith("wide")} == {family(n) for n in [*SAMPLE, *REASONS]}
