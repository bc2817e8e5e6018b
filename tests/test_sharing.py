"""explain and compare share passes between methods and targets; what fails there takes nothing else with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from attrib import GradCAM, GuidedBackprop, Occlusion, Saliency, compare, explain
from attrib.core import Query, count
from attrib.errors import ModelError
from attrib.report import Comparison, Explanation
from attrib.report.records import Spent
from attrib.tasks.sharing import Ledger
from tests import nets
from tests.test_frozen import same, state
from tests.tiny import FEW

METHODS = ["saliency", "input_x_gradient", "gradcam", "guided", "deconvnet", "guided_gradcam"]


def test_a_batch_goes_through_the_model_once_for_all_methods_and_targets() -> None:
    model, x, sizes = nets.make("module"), nets.batch(5), []
    model.register_forward_hook(lambda _m, args, _o: sizes.append(len(args[0])))
    with count() as cost:
        found = explain(model, x, METHODS, targets=[0, 1, "predicted"], layer="conv2", batch_size=2)
    assert sizes == [2, 2, 1]
    assert (cost.forwards, cost.backwards) == (5, 5 * 3 * 3)  # plain, guided, deconv
    assert found.total.backwards == cost.backwards


@pytest.mark.parametrize("name", ["module", "residual", "F.relu in place", "leaky_relu"])
def test_explain_gives_the_maps_of_each_method_alone_to_the_bit(name: str) -> None:
    model, x = nets.make(name), nets.batch(3)
    layer = {"residual": "conv"}.get(name, "conv2")
    together = explain(model, x, METHODS, targets=[0, 1], layer=layer)
    for method in METHODS:
        alone = explain(model, x, method, targets=[0, 1], layer=layer if "gradcam" in method else None)
        assert all(torch.equal(together.maps[method][t], alone.maps[method][t]) for t in ("0", "1"))


def test_compare_shares_the_passes_of_each_image() -> None:
    def maps(methods: list[str]) -> Comparison:
        return compare(nets.make("module"), nets.batch(2), methods, ["srg"], FEW, controls=False)

    found = maps(["saliency", "gradcam", "occlusion"])
    for image, one in enumerate(found.explanations):
        assert (one.total.forwards, one.total.backwards) == (1 + found.costs["occlusion"][image].forwards, 1)
        assert one.costs["saliency"].shared_forwards == one.costs["gradcam"].shared_backwards == 1
        alone = maps(["gradcam"]).explanations[image].maps["gradcam"]["predicted"]
        assert torch.equal(one.maps["gradcam"]["predicted"], alone)
    assert "Methods share passes of an image" in found.to_text()
    assert "share" not in maps(["saliency", "occlusion"]).to_text()


def test_the_text_tells_what_all_maps_took_together() -> None:
    found = explain(nets.make("module"), nets.batch(3), ["saliency", "guided"], targets=[0, 1])
    assert "all maps together took 3 forwards, 12 backwards and" in found.to_text()


def test_a_shared_pass_that_cannot_be_made_is_not_missed() -> None:
    class Full(nets.Chain):
        """Has too little memory for a graph that begins at the inputs while a layer is kept too."""

        def forward(self, x: Tensor) -> Tensor:
            if x.requires_grad and self.conv1._forward_hooks:
                raise torch.OutOfMemoryError("full")
            return super().forward(x)

    model, x = nets.fill(Full()), nets.batch(2)
    before = state(model)
    found = explain(model, x, ["saliency", "gradcam"], target=1, layer="conv1")
    assert found.failures == ()
    assert torch.equal(found.maps["saliency"]["1"], Saliency(model).attribute(x, 1))
    assert torch.equal(found.maps["gradcam"]["1"], GradCAM(model, "conv1").attribute(x, 1))
    assert all(spent.shared_forwards == 0 for spent in found.costs.values())
    assert [key for key, value in before.items() if not same(value, state(model)[key])] == []


def test_a_model_that_fails_is_told_as_it_is() -> None:
    class Broken(nets.Chain):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("no such luck")

    with pytest.raises(ModelError, match="no such luck"):
        explain(nets.fill(Broken()), nets.batch(2), METHODS, layer="conv1")


def test_a_method_that_fails_in_the_middle_is_noted_once_and_changes_no_other_map() -> None:
    class Second(Saliency):
        """Fails with its second batch."""

        calls = 0

        def _attribute(self, query: Query) -> Any:
            self.calls += 1
            if self.calls == 2:
                raise ValueError("enough")
            return super()._attribute(query)

    model, x = nets.make("module"), nets.batch(5)
    before = state(model)
    methods = {"second": Second(model), "guided": GuidedBackprop(model), "cam": GradCAM(model, "conv2")}
    found = explain(model, x, methods, target=1, batch_size=2)
    assert [str(one) for one in found.failures] == ["second, target 1: ValueError: enough"]
    assert found.methods == ("guided", "cam")
    for label in found.methods:
        assert torch.equal(found.maps[label]["1"], explain(model, x, methods[label], target=1, batch_size=2).maps[methods[label].name]["1"])  # fmt: skip  # noqa: E501
    assert [key for key, value in before.items() if not same(value, state(model)[key])] == []


def test_no_backward_pass_is_made_for_a_rule_that_finds_nothing() -> None:
    with count() as cost:
        found = explain(nets.make("silu"), nets.batch(2), ["saliency", "guided"], target=1)
    assert cost.backwards == 2
    assert [failure.method for failure in found.failures] == ["guided"]
    assert found.costs["saliency"].shared_backwards == found.costs["saliency"].shared_forwards == 0


def test_a_network_without_a_layer_to_be_found_fails_for_those_that_look_for_one() -> None:
    found = explain(nets.fill(nets.Linear()), nets.batch(2), ["gradcam", "saliency", "guided_gradcam"], target=1)
    assert found.methods == ("saliency",)
    assert [(one.method, one.error) for one in found.failures] == [("gradcam", "LayerError"), ("guided_gradcam", "LayerError")]  # fmt: skip  # noqa: E501
    assert all("no layer can be picked" in one.message for one in found.failures)


def test_methods_keep_the_order_in_which_they_were_asked_for() -> None:
    methods = ["occlusion", "saliency", "gradcam"]
    found: Explanation = explain(nets.make("module"), nets.batch(1), {"o": Occlusion, **{m: m for m in methods}})
    assert found.methods == ("o", *methods)


def test_a_ledger_counts_a_shared_pass_for_each_reader_and_once_in_total() -> None:
    ledger = Ledger(passes=[(Spent(2, 0, 1.0, 50), frozenset("ab")), (Spent(0, 2, 0.5, 80), frozenset("b"))])
    ledger.passes.append((Spent(0, 2, 9.0, 999), frozenset()))  # nobody got anything from it
    ledger.note("a", Spent(0, 0, 0.25, None))
    ledger.note("c", Spent(7, 0, 2.0, 10))
    assert ledger.of("a") == Spent(2, 0, 1.25, 50, 2, 0, 1.0)
    assert ledger.of("b") == Spent(2, 2, 1.5, 80, 2, 0, 1.0)
    assert ledger.of("c") == Spent(7, 0, 2.0, 10)
    assert ledger.total() == Spent(9, 2, 3.75, 80)
