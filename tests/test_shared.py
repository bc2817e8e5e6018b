"""What methods and targets share gives the same numbers, to the bit, as each of them on its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attrib import Attribution, ClassScore, Deconvnet, GradCAM, GuidedBackprop, GuidedGradCAM, Saliency, attribute_all
from tests import nets, realnets
from tests.sharers import everything


def check(methods: Mapping[str, Attribution], x: Any, targets: list[Any], **options: Any) -> None:
    """Together and alone must be the same to the bit."""
    together = attribute_all(methods, x, targets, **options)
    for label, method in methods.items():
        for got, target in zip(together[label], targets, strict=True):
            alone = method.attribute(x, target, **options)
            pairs = zip(alone, got, strict=True) if isinstance(alone, tuple) else [(alone, got)]
            assert all(torch.equal(a, b) for a, b in pairs), (label, target)


TARGETS = [
    3,
    "predicted",
    [0, 1],
    ClassScore(1) - ClassScore(2),
    lambda out: out.logsumexp(1),
    ClassScore(2, "log_odds"),
]


@pytest.mark.parametrize("name", sorted({*nets.SPELLINGS, *nets.RECTIFIERS}))
def test_methods_and_targets_together_are_the_same_as_alone(name: str) -> None:
    check(everything(nets.make(name), "conv1", "pool"), nets.batch(2), TARGETS)


@pytest.mark.parametrize("name", ["pre-activation", "pre-activation in place", "residual", "changes its input"])
def test_branches_together_are_the_same_as_alone(name: str) -> None:
    layer = {"residual": "stem", "changes its input": "chain.conv1"}.get(name, "stem")
    check(everything(nets.make(name), layer), nets.batch(2), [0, "predicted"])


def test_units_inside_the_network_together_are_the_same_as_alone() -> None:
    check(everything(nets.make("module"), "conv1", "act1@input"), nets.batch(2), ["conv2:1", "conv2:3,1,2", 4])


def test_several_inputs_and_further_arguments_together_are_the_same_as_alone() -> None:
    model, x, y = nets.fill(nets.TwoInputs()), nets.batch(2), nets.batch(2, seed=5)
    methods = {"saliency": Saliency(model), "guided": GuidedBackprop(model), "deconvnet": Deconvnet(model)}
    check(methods, (x, y), [3, 1], additional_forward_args=torch.tensor([0.5, 2.0]))


def test_all_rectifiers_and_smooth_activations_can_be_overridden_in_one_set() -> None:
    model = nets.fill(nets.Chain(F.relu6, F.silu))
    kinds: dict[str, Any] = {"all": "all", "one": ["relu6"], "other": ["silu"]}
    methods: dict[str, Attribution] = {
        f"{kind.__name__} {name}": kind(model, activations=which)
        for name, which in kinds.items()
        for kind in (GuidedBackprop, Deconvnet)
        if name != "one"
    }
    check(methods | {"plain": Saliency(model)}, nets.batch(2), [0, 1])


@pytest.mark.parametrize(
    ("name", "early", "last"),
    [
        ("resnet18", "layer2.1.relu#1", "layer4"),
        ("googlenet", "inception3a.branch1", "inception5b"),
        ("vgg11", "features.8", "features"),
        ("mobilenet_v2", "features.4", "features.18"),
        ("densenet121", "features.denseblock2", "features"),
    ],
)
def test_torchvision_together_is_the_same_as_alone(name: str, early: str, last: str) -> None:
    models = pytest.importorskip("torchvision.models")
    options = {"init_weights": False} if name == "googlenet" else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.get_model(name, weights=None, num_classes=7, **options).eval()
    methods = everything(model, early) | {"cam": GradCAM(model, last), "guided cam": GuidedGradCAM(model, last)}
    check(methods, nets.batch(2, 64, 48), [3, "predicted"])


@pytest.mark.parametrize("name", realnets.NAMES)
def test_trained_networks_together_are_the_same_as_alone(name: str) -> None:
    net = realnets.load(name)
    x, labels = net.batch(2)
    methods = everything(net.model) | {"cam": GradCAM(net.model), "guided cam": GuidedGradCAM(net.model)}
    check(methods, x, [labels, 5])


class Drawn(nn.Module):
    """A random small network: blocks in a row, some with branches that meet again."""

    KINDS = ("chain", "pool", "residual", "concat", "gate")
    ACTS: tuple[Callable[[Tensor], Tensor], ...] = (
        torch.relu,
        torch.relu_,
        lambda t: t.clamp(min=0),
        lambda t: torch.maximum(t, torch.zeros_like(t)),
        F.relu6,
        partial(F.leaky_relu, negative_slope=0.1, inplace=True),
        F.elu,
        F.silu,
    )

    def __init__(self, kinds: list[str], acts: list[int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in kinds)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in kinds)
        self.kinds, self.acts = kinds, [self.ACTS[i] for i in acts]
        self.fc = nn.Linear(4, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        for kind, act, conv, norm in zip(self.kinds, self.acts, self.blocks, self.norms, strict=True):
            y = act(norm(conv(x)))
            if kind == "pool":
                x = F.max_pool2d(y, 2, 1)
            elif kind == "gate":
                x = x * y.mean((2, 3), keepdim=True).sigmoid() + y
            else:
                x = y if kind == "chain" else x + y if kind == "residual" else torch.cat([x[:, :2], y[:, 2:]], 1)
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(Drawn.KINDS), st.integers(0, 7)), min_size=1, max_size=4), st.data())
@pytest.mark.filterwarnings("ignore:overrode:UserWarning")
def test_any_methods_of_any_network_together_are_the_same_as_alone(blocks: list[Any], data: st.DataObject) -> None:
    model = nets.fill(Drawn([kind for kind, _ in blocks], [act for _, act in blocks]))
    layers = ["stem", *(f"{part}.{i}" for i in range(len(blocks)) for part in ("blocks", "norms"))]
    some = data.draw(st.lists(st.sampled_from(layers), min_size=1, max_size=2, unique=True))
    methods = everything(model, *some)
    lost = {f"{kind} {at}" for kind in ("guided", "deconvnet") for at in some}  # there may be nothing to override
    labels = data.draw(st.lists(st.sampled_from(sorted(methods.keys() - lost)), min_size=1, unique=True))
    targets = data.draw(st.lists(st.integers(0, nets.CLASSES - 1), min_size=1, max_size=3))
    check({label: methods[label] for label in labels}, nets.batch(2, 8, 7), targets)
