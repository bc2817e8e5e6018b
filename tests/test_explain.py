"""explain and compare: the numbers of the methods and metrics themselves, and nothing lost when something fails."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import attrib
from attrib import METHODS, METRICS, Attribution, GradCAM, Occlusion, Saliency, compare, explain
from attrib.benchmark import RandomMap
from attrib.core import Query, auto_layer, frozen
from attrib.errors import InputError, LayerError, ModelError, RegistryError, RuleError, ShapeError, TargetError
from attrib.io import LoadedModel, Preprocess
from attrib.metrics import Metric, Protocol, curves
from attrib.report import Comparison
from attrib.tasks.measure import measured
from tests import nets

NAMES = ("ant", "bee", "cat", "cat", "dog")
FEW = Protocol(steps=5)


def loaded(net: str = "module", **options: Any) -> LoadedModel:
    return LoadedModel(nets.make(net), Preprocess(resize=12, crop=10), categories=NAMES, name="tiny", **options)


def picture(seed: int = 0, size: tuple[int, int] = (16, 12)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures and a broken one."""
    for i, name in enumerate(("a", "c", "d")):
        picture(i).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return tmp_path


class Raises(Attribution):
    """A method that fails as it is told to."""

    def __init__(self, model: Any, layer: Any = None, *, error: BaseException) -> None:
        super().__init__(model, layer)
        self.error = error

    def _attribute(self, query: Query) -> Tensor:
        raise self.error


class Constant(Attribution):
    """The same value everywhere."""

    def __init__(self, model: Any, layer: Any = None, *, value: float = 1.0) -> None:
        super().__init__(model, layer)
        self.value = value

    def _attribute(self, query: Query) -> Tensor:
        return torch.full_like(query.x[:, :1], self.value)


class TestExplain:
    def test_gives_what_the_methods_themselves_give(self) -> None:
        model, x = nets.make("module"), nets.batch(3)
        found = explain(model, x, list(METHODS), targets=[2, "predicted"])
        for name in METHODS:
            for target in (2, "predicted"):
                expected = METHODS[name](model).attribute(x, target)
                torch.testing.assert_close(found.maps[name][str(target)], expected)
        assert found.failures == ()

    def test_does_not_depend_on_the_size_of_batches(self) -> None:
        model, x = nets.make("module"), nets.batch(5)
        one, many = (explain(model, x, ["occlusion", "gradcam"], batch_size=size) for size in (2, 8))
        for name in one.methods:
            torch.testing.assert_close(one.maps[name]["predicted"], many.maps[name]["predicted"])
        assert [row.index for row in one.asked["predicted"]] == [row.index for row in many.asked["predicted"]]

    def test_takes_a_target_for_each_image_across_batches(self) -> None:
        model, x = nets.make("module"), nets.batch(5)
        found = explain(model, x, "saliency", target=[0, 1, 2, 3, 4], batch_size=2)
        torch.testing.assert_close(found.maps["saliency"]["given"], Saliency(model).attribute(x, [0, 1, 2, 3, 4]))
        assert [row.index for row in found.asked["given"]] == [0, 1, 2, 3, 4]

    def test_keeps_targets_with_their_images_when_one_cannot_be_read(self, folder: Path) -> None:
        found = explain(loaded(), folder, "saliency", target=[0, 1, 2, 4])  # a, b (broken), c, d
        assert found.images == ("a.png", "c.png", "d.png")
        assert [row.index for row in found.asked["given"]] == [0, 2, 4]
        assert [(failure.image, failure.error) for failure in found.failures] == [("b.png", "InputError")]

    def test_names_the_class_with_its_score_and_probability(self) -> None:
        net = loaded()
        image = picture()
        found = explain(net, image, "saliency", targets=["bee", "predicted"])
        logits = net.model(net.inputs(image))[0].detach()
        bee = found.asked["bee"][0]
        assert (bee.index, bee.name) == (1, "bee")
        assert bee.score == pytest.approx(float(logits[1]))
        assert bee.probability == pytest.approx(float(logits.softmax(0)[1]))
        assert found.asked["predicted"][0].index == int(logits.argmax())

    def test_tells_what_is_not_a_class_by_its_score_alone(self) -> None:
        model, x = nets.make("module"), nets.batch(2)
        targets = {"unit": "conv2:1", "own": lambda out: out[:, 0] - out[:, 1]}
        found = explain(model, x, "saliency", targets=targets)
        own = model(x).detach()[1]
        assert [(row.index, row.probability) for row in found.asked["unit"]] == [(None, None)] * 2
        torch.testing.assert_close(found.asked["own"][1].score, float(own[0] - own[1]))

    def test_resolves_the_layer_and_writes_it_down(self) -> None:
        model, x = nets.make("module"), nets.batch(2)
        with frozen(model):
            last = auto_layer(model, (x,))
        methods = {"auto": GradCAM, "own": partial(GradCAM, layer="conv1"), "at a layer": Saliency(model, "conv2")}
        found = explain(model, x, {**methods, "input": "saliency"})
        assert found.layers == {"auto": last, "own": "conv1", "at a layer": "conv2", "input": None}
        assert explain(model, x, ["gradcam", "saliency"], layer="conv1").layers == {
            "gradcam": "conv1",
            "saliency": None,
        }

    def test_counts_passes_of_the_maps_alone(self) -> None:
        found = explain(nets.make("module"), nets.batch(3), ["saliency", "gradcam"], targets=[0, 1])
        assert {name: (cost.forwards, cost.backwards) for name, cost in found.costs.items()} == {
            "saliency": (6, 6),
            "gradcam": (6, 6),
        }
        assert all(cost.seconds > 0 for cost in found.costs.values())

    def test_leaves_the_model_and_its_inputs_as_they_were(self) -> None:
        model, x = nets.make("regularised").train(), nets.batch(2)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        kept, state = x.clone(), torch.get_rng_state()
        explain(model, x, ["saliency", "gradcam"])
        assert model.training
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert torch.equal(x, kept)
        assert torch.equal(torch.get_rng_state(), state)

    def test_accepts_files_folders_pictures_and_names(self, folder: Path) -> None:
        net = loaded()
        (folder / "b.png").unlink()
        by_folder = explain(net, folder, "saliency")
        by_file = explain(net, [folder / "a.png", str(folder / "c.png"), folder / "d.png"], "saliency")
        by_name = explain(net, {"one": picture(0), "two": folder / "c.png", "three": picture(2)}, "saliency")
        assert by_folder.images == by_file.images == ("a.png", "c.png", "d.png")
        assert by_name.images == ("one", "two", "three")
        for other in (by_file, by_name):
            assert torch.equal(by_folder.maps["saliency"]["predicted"], other.maps["saliency"]["predicted"])

    def test_gives_pictures_of_one_name_different_names(self, tmp_path: Path) -> None:
        for place in ("x", "y"):
            (tmp_path / place).mkdir()
            picture().save(tmp_path / place / "a.png")
        found = explain(loaded(), [tmp_path / "x", tmp_path / "y", picture(), picture()], "saliency")
        assert found.images == (str(tmp_path / "x" / "a.png"), str(tmp_path / "y" / "a.png"), "image 2", "image 3")

    def test_draws_maps_over_what_the_network_sees(self) -> None:
        net, image = loaded(), picture()
        found = explain(net, image, "saliency")
        assert found.views is not None
        assert found.views[0].tobytes() == net.view(image).tobytes()
        assert found.plot().axes[0].images[0].get_array().shape == (10, 10, 3)  # type: ignore[union-attr]

    def test_feeds_the_model_in_its_own_precision(self) -> None:
        net = loaded()
        net.model.double()
        assert explain(net, picture(), "saliency").maps["saliency"]["predicted"].dtype == torch.float64

    def test_is_the_function_however_the_package_was_imported(self) -> None:
        assert callable(attrib.explain)
        assert attrib.explain is explain


class TestWhatFails:
    def test_a_method_that_cannot_work_is_noted_and_the_others_go_on(self, caplog: pytest.LogCaptureFixture) -> None:
        found = explain(nets.make("silu"), nets.batch(2), ["guided", "saliency"])
        assert found.methods == ("saliency",)
        (failure,) = found.failures
        assert (failure.method, failure.error) == ("guided", "RuleError")
        assert "no activation was overridden (the model uses 2 SiLU)" in failure.message
        assert failure.message in caplog.text

    def test_one_target_of_a_method_may_fail_alone(self) -> None:
        found = explain(nets.make("module"), nets.batch(2), ["gradcam"], targets=["conv1:0", 1], layer="conv2")
        assert list(found.maps["gradcam"]) == ["1"]
        assert [(failure.target, failure.error) for failure in found.failures] == [("conv1:0", "LayerError")]

    def test_the_first_error_is_raised_when_nothing_works(self) -> None:
        with pytest.raises(RuleError):
            explain(nets.make("silu"), nets.batch(2), ["guided", "deconvnet"])

    def test_a_broken_plug_in_does_not_stop_the_others(self) -> None:
        broken = partial(Raises, error=ZeroDivisionError("oops"))
        found = explain(nets.make("module"), nets.batch(2), {"mine": broken, "saliency": Saliency})
        assert str(found.failures[0]) == "mine, target predicted: ZeroDivisionError: oops"

    def test_ctrl_c_is_not_a_failure(self) -> None:
        stop = partial(Raises, error=KeyboardInterrupt())
        for task in (explain, compare):
            with pytest.raises(KeyboardInterrupt):
                task(nets.make("module"), nets.batch(2), {"saliency": Saliency, "stop": stop})  # type: ignore[operator]

    @pytest.mark.parametrize("task", [explain, compare])
    @pytest.mark.parametrize(("pack", "kind"), [("dict", "dict"), ("tuple", "tuple"), ("list", "list")])
    def test_a_model_that_returns_more_than_scores_is_refused_in_words(
        self, task: Callable[..., Any], pack: str, kind: str
    ) -> None:
        with pytest.raises(ModelError, match=f"must return one Tensor for a class target; it returned a {kind}"):
            task(nets.make(pack), nets.batch(2), ["saliency"])

    def test_a_model_that_returns_more_than_scores_is_explained_through_a_callable(self) -> None:
        found = explain(nets.make("dict"), nets.batch(2), "saliency", target=lambda out: out["out"][:, 3])
        plain = explain(nets.make("module"), nets.batch(2), "saliency", target=3)
        assert found.maps["saliency"]["<lambda>"].shape == plain.maps["saliency"]["3"].shape
        assert found.maps["saliency"]["<lambda>"].any()

    def test_a_layer_without_locations_is_refused_in_words(self) -> None:
        with pytest.raises(LayerError, match="layer 'fc' must be spatial"):
            explain(nets.make("module"), nets.batch(2), ["gradcam"], layer="fc")

    @pytest.mark.parametrize(
        ("arguments", "error", "words"),
        [
            ({"methods": ["grad-cam"]}, RegistryError, "no method named 'grad-cam'. Did you mean 'gradcam'"),
            ({"methods": []}, InputError, "methods must hold at least one of deconvnet"),
            ({"methods": ["saliency", Saliency]}, InputError, "must have different names; got 'saliency' twice"),
            (
                {"methods": {"mine": 3}},
                InputError,
                "method 'mine' must be a registry name, an Attribution or a function",
            ),
            ({"methods": {"mine": lambda model: model}}, InputError, "that makes one; got Chain"),
            ({"layer": "cnov1", "methods": ["gradcam"]}, LayerError, "no layer 'cnov1'. Did you mean 'conv1'"),
            ({"layer": "conv1", "methods": ["saliency"]}, InputError, "layer must be for a method that needs one"),
            ({"target": 5}, TargetError, r"target must lie in \[0, 4\]"),
            ({"target": True}, TargetError, "boolean"),
            ({"target": [0, 1, 2]}, TargetError, "one entry, or one for each of 2 images; got 3"),
            ({"target": "tabby"}, TargetError, "target as text must be 'predicted'"),
            ({"images": torch.zeros(2, 3, 8, 6, dtype=torch.long)}, InputError, "must be floating point"),
            ({"images": torch.full((2, 3, 8, 6), float("nan"))}, InputError, "must be finite"),
            ({"images": torch.zeros(0, 3, 8, 6)}, ShapeError, "with no empty axis"),
            ({"images": torch.zeros(3, 8, 6)}, ShapeError, r"images must have shape \(N, C, H, W\)"),
            ({"images": []}, InputError, "images must hold at least one picture"),
            ({"images": 3}, InputError, "images must be files, folders, pictures"),
            ({"images": [torch.zeros(3, 8, 6)]}, InputError, "Pass a batch as one Tensor"),
            ({"images": "nowhere.png"}, InputError, "image must be an existing file; got 'nowhere.png'"),
            ({"images": Image.new("RGB", (9, 9))}, InputError, "whose preprocessing is not known; got a picture"),
            ({"batch_size": 0}, InputError, "batch_size must be an integer >= 1"),
            ({"batchsize": 2}, TypeError, "no option 'batchsize'. Did you mean 'batch_size'"),
            ({"model": 3}, InputError, "model must be a name, a LoadedModel, an nn.Module or a callable; got int"),
        ],
    )
    def test_wrong_arguments_are_named(self, arguments: dict[str, Any], error: type[Exception], words: str) -> None:
        given: dict[str, Any] = {"model": nets.make("module"), "images": nets.batch(2), "methods": ["saliency"]}
        with pytest.raises(error, match=words):
            explain(**given | arguments)

    @pytest.mark.parametrize(
        ("targets", "words"),
        [([], "at least one target"), ([1, 1], "targets must be different; got 1 twice")],
    )
    def test_wrong_lists_of_targets_are_named(self, targets: list[object], words: str) -> None:
        with pytest.raises(InputError, match=words):
            explain(nets.make("module"), nets.batch(2), "saliency", targets=targets)

    def test_a_class_name_that_two_classes_have_is_refused(self) -> None:
        with pytest.raises(InputError, match="'cat' is 2 and 3"):
            explain(loaded(), picture(), "saliency", target="cat")

    def test_a_method_of_another_model_is_refused(self) -> None:
        with pytest.raises(InputError, match="must be made with the model that is explained"):
            explain(nets.make("module"), nets.batch(2), Saliency(nets.make("module")))

    def test_pictures_of_different_sizes_are_refused_without_a_crop(self) -> None:
        def whole(image: Image.Image) -> Tensor:
            return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255

        net = LoadedModel(nets.make("module"), whole)
        with pytest.raises(ShapeError, match=r"one size after preprocessing; got \(3, 12, 16\), \(3, 9, 9\)"):
            explain(net, [picture(), picture(size=(9, 9))], "saliency")

    def test_a_huge_picture_is_refused_before_it_is_unpacked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        picture().save(tmp_path / "bomb.png")
        monkeypatch.setattr("attrib.io.images.load_image.__kwdefaults__", {"max_pixels": 100})
        with pytest.raises(InputError, match="must have at most 100 pixels; got 192"):
            explain(loaded(), tmp_path / "bomb.png", "saliency")


class TestCompare:
    def test_gives_the_scores_of_the_metrics_themselves(self) -> None:
        model, x = nets.make("module"), nets.batch(3)
        found = compare(model, x, ["saliency", "gradcam"], list(METRICS), FEW, target=2)
        for method in found.methods:
            maps = METHODS[method](model).attribute(x, 2)
            for metric in METRICS:
                expected = METRICS[metric]().score(model, x, 2, maps, FEW)
                torch.testing.assert_close(found.scores[method][metric], expected)

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

    def test_constant_and_zero_maps_are_counted_and_measured(self) -> None:
        methods = {"one": Constant, "zero": partial(Constant, value=0.0)}
        found = compare(nets.make("module"), nets.batch(3), methods, ["srg"], FEW)
        rows = {row["method"]: row for row in found.table()}
        assert (rows["one"]["constant"], rows["zero"]["zero"], rows["one"]["ok"]) == (3, 3, 0)
        assert not found.scores["one"]["srg"].isnan().any()
        assert "one: 3 constant of 3 maps." in found.to_text()

    def test_a_broken_image_is_noted_and_the_rest_compared(self, folder: Path) -> None:
        found = compare(loaded(), folder, ["saliency"], ["srg"], FEW, target=[0, 1, 2, 4])
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

    def test_a_metric_that_needs_masks_is_refused(self) -> None:
        @METRICS.add("pointing")
        class Pointing(Metric):
            higher_is_better, range, needs = True, (0.0, 1.0), ("masks",)

            def score(self, *args: Any, **options: Any) -> Tensor:
                raise AssertionError

        try:
            with pytest.raises(InputError, match="metrics must need nothing but the model; 'pointing' needs masks"):
                compare(nets.make("module"), nets.batch(2), ["saliency"], ["pointing"], FEW)
        finally:
            METRICS.remove("pointing")

    @pytest.mark.parametrize(
        ("arguments", "error", "words"),
        [
            ({"metrics": ["deletoin"]}, RegistryError, "no metric named 'deletoin'. Did you mean 'deletion'"),
            ({"metrics": []}, InputError, "metrics must name at least one"),
            ({"protocol": "rice"}, InputError, "protocol must be one of 'default', 'rise'; got 'rice'"),
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
        def whole(image: Image.Image) -> Tensor:
            return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255

        net = LoadedModel(nets.make("module"), whole)
        protocol = Protocol(steps="rows", unit=2)
        found = compare(net, [picture(), picture(1, (9, 9))], ["saliency"], ["deletion"], protocol)
        fraction, score = found.curves["saliency"].curve("deletion")
        areas = torch.trapezoid(score, fraction, dim=1)
        torch.testing.assert_close(areas, found.scores["saliency"]["deletion"])


class TestMeasuring:
    def test_memory_at_its_peak_is_seen_though_it_is_freed_again(self) -> None:
        with measured(torch.device("cpu")) as meter:
            torch.ones(25_000_000).sum()  # 100 MB
        if meter.spent.peak_bytes is None:
            pytest.skip("this system does not tell the resident memory")
        assert 80e6 < meter.spent.peak_bytes < 200e6

    def test_what_was_freed_before_does_not_hide_what_is_used_now(self) -> None:
        blocks = [torch.ones(1_000_000) for _ in range(25)]
        del blocks
        with measured(torch.device("cpu")) as meter:
            again = [torch.ones(1_000_000) for _ in range(25)]
        assert len(again) == 25
        if meter.spent.peak_bytes is None:
            pytest.skip("this system does not tell the resident memory")
        assert meter.spent.peak_bytes > 70e6

    def test_memory_is_none_where_the_system_does_not_tell(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("attrib.tasks.measure._STATM", Path("/nonexistent"))
        with measured(torch.device("cpu")) as meter:
            pass
        assert meter.spent.peak_bytes is None
        assert meter.spent.seconds >= 0

    def test_the_watch_ends_when_the_work_fails(self) -> None:
        import threading

        with pytest.raises(ValueError, match="broken"), measured(torch.device("cpu")):
            raise ValueError("broken")
        assert "attrib-memory" not in {thread.name for thread in threading.enumerate()}


def test_compiled_models_are_explained_as_the_plain_one() -> None:
    model, x = nets.make("module"), nets.batch(2)
    wrapped = nn.DataParallel(model)
    found = explain(wrapped, x, ["gradcam"])
    torch.testing.assert_close(found.maps["gradcam"]["predicted"], GradCAM(model).attribute(x, "predicted"))


def test_options_reach_the_methods() -> None:
    model, x = nets.make("module"), nets.batch(2)
    windows: dict[str, Any] = {f"window {w}": partial(Occlusion, window=w) for w in (2, 4)}
    found = explain(model, x, windows)
    for size in (2, 4):
        expected = Occlusion(model, window=size).attribute(x, "predicted")
        torch.testing.assert_close(found.maps[f"window {size}"]["predicted"], expected)
    assert found.manifest["methods"]["window 4"]["options"]["window"] == [4, 4]
