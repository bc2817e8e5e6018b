"""compare: the numbers of the metrics themselves, control rows, and nothing lost when something fails."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from attrib import METHODS, METRICS, Saliency, compare
from attrib.benchmark import RandomMap
from attrib.core import Query
from attrib.errors import InputError, RegistryError, RuleError, TargetError
from attrib.io import LoadedModel
from attrib.metrics import Metric, Protocol, curves
from attrib.report import Comparison
from tests import nets
from tests.tiny import FEW, Constant, loaded, picture, pictures, whole


class TestCompare:
    def test_gives_the_scores_of_the_metrics_themselves(self) -> None:
        model, x = nets.make("module", torch.float64), nets.batch(3, dtype=torch.float64)
        names = [name for name in METRICS if set(METRICS[name].needs) <= {"model"}]
        found = compare(model, x, ["saliency", "gradcam"], names, FEW, target=2)
        for method in found.methods:
            maps = METHODS[method](model).attribute(x, 2)
            for metric in names:
                expected = METRICS[metric]().score(model, x, 2, maps, FEW)
                torch.testing.assert_close(found.scores[method][metric], expected, equal_nan=True)

    def test_keeps_the_whole_curve_of_every_image(self) -> None:
        model, x = nets.make("module", torch.float64), nets.batch(3, dtype=torch.float64)
        protocol = Protocol(steps=5, score="logit")
        found = compare(model, x, ["saliency"], ["deletion"], protocol)
        expected = curves(model, x, "predicted", Saliency(model).attribute(x, "predicted"), protocol)
        for mine, other in zip(found.curves["saliency"].curve("deletion"), expected.curve("deletion"), strict=True):
            torch.testing.assert_close(mine, other)
        mine = found.curves["saliency"].auc("deletion", normalised=True)
        torch.testing.assert_close(mine, expected.auc("deletion", normalised=True), equal_nan=True)
        assert not mine.isnan().all()

    def test_controls_are_measured_like_methods_and_random_ones_averaged_over_seeds(self) -> None:
        model, x = nets.make("module"), nets.batch(3)
        found = compare(model, x, ["saliency"], ["srg"], FEW, seed=7)
        assert found.controls == ("centre", "edges", "random")
        seeds = [
            METRICS["srg"]().score(model, x, "predicted", RandomMap(model, seed=s).attribute(x), FEW) for s in (7, 8, 9)
        ]
        torch.testing.assert_close(found.scores["random"]["srg"], torch.stack(seeds).mean(0))

    def test_repeats_itself_and_follows_its_seed(self) -> None:
        def run(seed: int) -> Comparison:
            return compare(nets.make("module"), nets.batch(3), ["saliency"], ["srg"], FEW, seed=seed)

        same = [run(0).scores["random"]["srg"] for _ in range(2)]
        assert torch.equal(*same)
        assert not torch.equal(same[0], run(10).scores["random"]["srg"])
        assert run(0).intervals["saliency"]["srg"] == run(0).intervals["saliency"]["srg"]

    def test_may_do_without_controls_or_with_some(self) -> None:
        model, x = nets.make("module"), nets.batch(2)
        assert compare(model, x, ["saliency"], ["srg"], FEW, controls=False).rows == ("saliency",)
        assert compare(model, x, ["saliency"], ["srg"], FEW, controls=["edges"]).rows == ("saliency", "edges")

    def test_a_method_that_is_no_better_than_a_control_is_marked(self) -> None:
        model, x = nets.make("module"), nets.batch(6)
        methods = {"noise": partial(RandomMap, seed=99), "saliency": Saliency}
        found = compare(model, x, methods, ["deletion", "srg"], FEW)
        assert found.unbeaten("noise")["srg"]
        (line,) = [line for line in found.to_text().splitlines() if line.startswith("noise")]
        assert "!" in line
        assert "! noise is not better than a control" in found.to_text()
        assert found.table()[0]["not_better_than"] == found.unbeaten("noise")

    def test_a_method_that_knows_the_answer_beats_every_control(self) -> None:
        model, x = nets.fill(nets.Linear()), nets.batch(8)
        found = compare(
            model, x, ["input_x_gradient"], ["deletion", "srg"], Protocol(steps=12, score="logit"), target=0
        )
        assert found.unbeaten("input_x_gradient") == {"deletion": [], "srg": []}
        assert "!" not in found.to_text()

    def test_too_few_images_for_a_test_are_said_to_be_too_few(self) -> None:
        x = nets.batch(2)
        found = compare(
            nets.fill(nets.Linear()), x, ["input_x_gradient"], ["srg"], Protocol(steps=12, score="logit"), target=0
        )
        assert "too few images" in found.to_text()
        assert " ?" in found.to_text()

    def test_a_method_that_failed_is_not_said_to_be_better_than_the_controls(self) -> None:
        class Failing(Saliency):
            def _attribute(self, query: Query) -> tuple[Tensor, ...]:
                raise ValueError("never")

        found = compare(nets.make("module"), nets.batch(2), {"fails": Failing, "saliency": Saliency}, ["srg"], FEW)
        (line,) = [line for line in found.to_text().splitlines() if line.startswith("fails ")]
        assert "?" not in line
        assert found.unbeaten("fails") == {"srg": []}

    def test_constant_and_zero_maps_are_counted_and_measured(self) -> None:
        methods = {"one": Constant, "zero": partial(Constant, value=0.0)}
        found = compare(nets.make("module"), nets.batch(3), methods, ["srg"], FEW)
        rows = {row["method"]: row for row in found.table()}
        assert (rows["one"]["constant"], rows["zero"]["zero"], rows["one"]["ok"]) == (3, 3, 0)
        assert not found.scores["one"]["srg"].isnan().any()
        assert "one: 3 constant of 3 maps." in found.to_text()

    def test_a_broken_image_is_noted_and_the_rest_compared(self, tmp_path: Path) -> None:
        found = compare(loaded(), pictures(tmp_path), ["saliency"], ["srg"], FEW, target=[0, 1, 2, 4])
        assert found.images == ("a.png", "c.png", "d.png")
        assert [asked.index for asked in found.asked] == [0, 2, 4]
        assert [(failure.image, failure.method) for failure in found.failures] == [("b.png", None)]
        assert found.scores["saliency"]["srg"].shape == (3,)

    def test_a_method_that_fails_on_one_image_is_undefined_there(self) -> None:
        model, x = nets.make("module"), nets.batch(3)

        class Sometimes(Saliency):
            def _attribute(self, query: Query) -> tuple[Tensor, ...]:
                if torch.equal(query.x[0], x[1]):
                    raise ValueError("not this one")
                return super()._attribute(query)

        found = compare(model, x, {"sometimes": Sometimes, "saliency": Saliency}, ["srg"], FEW)
        assert found.scores["sometimes"]["srg"].isnan().tolist() == [False, True, False]
        assert found.table()[0]["failed"] == 1
        assert [failure.image for failure in found.failures] == ["example 1"]
        assert found.explanations[1].methods == ("saliency",)

    def test_the_first_error_is_raised_when_no_method_works(self) -> None:
        with pytest.raises(RuleError):
            compare(nets.make("silu"), nets.batch(2), ["guided"], ["srg"], FEW)

    def test_a_bare_model_cannot_be_compared_on_pictures(self) -> None:
        with pytest.raises(InputError, match="whose preprocessing is not known"):
            compare(nets.make("module"), [picture()], ["saliency"], ["srg"], FEW)

    def test_costs_are_those_of_the_maps_and_not_of_measuring_them(self) -> None:
        rows = {row["method"]: row for row in compare(nets.make("module"), nets.batch(2), ["saliency", "gradcam"], ["srg"], FEW).table()}  # fmt: skip  # noqa: E501
        assert [(rows[name]["forwards"], rows[name]["backwards"]) for name in ("saliency", "gradcam", "random")] == [
            (1, 1),
            (1, 1),
            (0, 0),
        ]

    def test_maps_are_kept_unless_told_otherwise(self) -> None:
        model, x = nets.make("module"), nets.batch(2)
        kept = compare(model, x, ["saliency"], ["srg"], FEW)
        torch.testing.assert_close(
            torch.cat([one.maps["saliency"]["predicted"] for one in kept.explanations]),
            Saliency(model).attribute(x, "predicted"),
        )
        assert compare(model, x, ["saliency"], ["srg"], FEW, keep_maps=False).explanations == ()

    def test_other_metrics_than_curves_may_take_part(self) -> None:
        @METRICS.add("total")
        class Total(Metric):
            higher_is_better, range = True, (0.0, float("inf"))

            def score(self, model: Any, x: Tensor, target: object, maps: Tensor, *args: Any, **options: Any) -> Tensor:
                return maps.flatten(1).sum(1)

        try:
            model, x = nets.make("module"), nets.batch(2)
            found = compare(model, x, ["saliency"], ["total"], FEW)
            torch.testing.assert_close(
                found.scores["saliency"]["total"].float(), Saliency(model).attribute(x, "predicted").flatten(1).sum(1)
            )
            assert found.curves["saliency"].names == ()
        finally:
            METRICS.remove("total")

    def test_a_metric_that_fails_takes_no_other_with_it_and_one_that_needs_the_method_gets_it(self) -> None:
        given: list[Any] = []

        @METRICS.add("fragile")
        class Fragile(Metric):
            higher_is_better, range, needs = True, (0.0, 1.0), ("model", "method")

            def score(self, *args: Any, method: Any, **options: Any) -> Tensor:
                given.append(method)
                raise ZeroDivisionError("not today")

        try:
            model, x = nets.make("module"), nets.batch(2)
            found = compare(model, x, ["gradcam"], ["fragile", "srg"], FEW, controls=False)
            assert {(failure.method, failure.metric) for failure in found.failures} == {("gradcam", "fragile")}
            assert found.scores["gradcam"]["fragile"].isnan().all()
            assert not found.scores["gradcam"]["srg"].isnan().any()
            assert torch.equal(given[0].attribute(x[:1], 2), METHODS["gradcam"](model, "act2").attribute(x[:1], 2))
            assert given[0].layer == found.layers["gradcam"] == "act2"
        finally:
            METRICS.remove("fragile")

    def test_a_metric_that_needs_masks_is_refused_without_any(self) -> None:
        with pytest.raises(
            InputError, match=r"nothing but the model and method; 'pointing' needs masks. Pass masks=, one"
        ):
            compare(nets.make("module"), nets.batch(2), ["saliency"], ["pointing"], FEW)

    @pytest.mark.parametrize(
        ("arguments", "error", "words"),
        [
            ({"metrics": ["deletoin"]}, RegistryError, "no metric named 'deletoin'. Did you mean 'deletion'"),
            ({"metrics": []}, InputError, "metrics must name at least one"),
            ({"protocol": "rice"}, InputError, "protocol must be one of 'default', 'adaptive', 'rise'; got 'rice'"),
            ({"protocol": Protocol(order="morf")}, InputError, "the protocol must measure lerf for 'srg'"),
            ({"target": "conv2:1"}, TargetError, r"In a comparison: protocol=Protocol\(score=None\)"),
            ({"methods": {"random": Saliency}}, InputError, "must not be named like a control; got 'random'"),
            ({"controls": ["edgy"]}, RegistryError, "no control named 'edgy'. Did you mean 'edges'"),
            ({"seed": -1}, InputError, "seed must be an integer >= 0"),
            ({"protocoll": FEW}, TypeError, "no option 'protocoll'"),
        ],
    )
    def test_wrong_arguments_are_named(self, arguments: dict[str, Any], error: type[Exception], words: str) -> None:
        given: dict[str, Any] = {"model": nets.make("module"), "images": nets.batch(2), "methods": ["saliency"]}
        with pytest.raises(error, match=words):
            compare(**given | {"metrics": ["srg"], "protocol": FEW} | arguments)

    def test_units_can_be_compared_without_a_score_space(self) -> None:
        protocol = Protocol(steps=5, score=None)
        found = compare(nets.make("module"), nets.batch(2), ["saliency"], ["srg"], protocol, target="conv2:1")
        assert not found.scores["saliency"]["srg"].isnan().any()

    def test_images_of_different_sizes_are_measured_together(self) -> None:
        net = LoadedModel(nets.make("module"), whole)
        protocol = Protocol(steps="rows", unit=2)
        found = compare(net, [picture(), picture(1, (9, 9))], ["saliency"], ["deletion"], protocol)
        fraction, score = found.curves["saliency"].curve("deletion")
        areas = torch.trapezoid(score, fraction, dim=1)
        torch.testing.assert_close(areas, found.scores["saliency"]["deletion"])
