"""Maps before and after an attack: distances by hand, a control as large as the attack, tables and figures."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from attrib import GradCAM, Saliency
from attrib.core.synth import PixelSpace
from attrib.errors import InputError, RegistryError
from attrib.plot.adversarial import adversarial_panels, change_panels
from attrib.synthesis import Adversarial, attack
from attrib.synthesis.change import MEASURES, distances
from tests import data, nets, realnets
from tests.oracles import adversarial as oracle
from tests.oracles.models import DOUBLE

SPACE = PixelSpace(mean=0.4, std=0.05)
PICTURES = nets.batch(3, 8, 7, dtype=DOUBLE).sigmoid()
NET = nets.make("module", DOUBLE)


@pytest.fixture(scope="module")
def found() -> Adversarial:
    return attack(NET, SPACE.to_input(PICTURES), eps=0.1, pixels=SPACE)


def one(*values: float) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE).reshape(1, 1, 2, -1)


def test_the_distances_are_those_worked_out_by_hand() -> None:
    a, b = one(3.0, 0.0, 0.0, 4.0), one(0.0, 0.0, 5.0, 12.0)
    got = {name: float(value) for name, value in distances(a, b, 0.25).items()}
    assert got == pytest.approx(
        {
            "cosine distance": 1 - 48 / (5 * 13),
            "relative L2": math.sqrt(9 + 25 + 64) / 5,
            "rank correlation": oracle.rank_correlation([3, 0, 0, 4], [0, 0, 5, 12]),
            "top overlap": 1.0,
        }
    )
    assert float(distances(a, b, 0.5)["top overlap"]) == 0.5


def test_equal_values_at_the_cut_count_in_part() -> None:
    flat_end = one(9.0, 1.0, 1.0, 1.0)  # the second of two is any of three
    assert float(distances(flat_end, one(9.0, 8.0, 0.0, 0.0), 0.5)["top overlap"]) == pytest.approx((1 + 1 / 3) / 2)
    assert float(distances(flat_end, flat_end.clone(), 0.5)["top overlap"]) == pytest.approx(1)


def test_scaling_changes_the_distance_alone_and_turning_round_everything() -> None:
    maps = nets.batch(2, 5, 6, channels=1, dtype=DOUBLE)
    scaled, turned = distances(maps, 3 * maps, 0.1), distances(maps, -maps, 0.1)
    for name, values in (("cosine distance", (0, 2)), ("relative L2", (2, 2)), ("rank correlation", (1, -1))):
        torch.testing.assert_close(scaled[name], torch.full((2,), float(values[0])).double(), rtol=0, atol=1e-9)
        torch.testing.assert_close(turned[name], torch.full((2,), float(values[1])).double(), rtol=0, atol=1e-9)
    assert scaled["top overlap"].tolist() == [1, 1]
    assert turned["top overlap"].tolist() == [0, 0]


def test_what_is_not_defined_is_nan_and_not_zero() -> None:
    nothing, some, flat = torch.zeros(1, 1, 2, 2), one(1, 2, 3, 4), torch.ones(1, 1, 2, 2)
    assert all(value.isnan() for value in distances(nothing, some, 0.3).values())
    lost = distances(some, nothing, 0.3)
    assert lost["cosine distance"].isnan()
    assert float(lost["relative L2"]) == 1
    assert distances(some, flat, 0.3)["rank correlation"].isnan()


def test_the_maps_are_the_methods_own_before_and_after(found: Adversarial) -> None:
    change = found.attribution_change("saliency", GradCAM(NET, "conv1"), top=0.1)
    assert list(change.before) == ["saliency", "gradcam"]
    for maps, x in ((change.before, found.clean), (change.after, found.adversarial), (change.shuffled, change.inputs)):
        torch.testing.assert_close(maps["saliency"], Saliency(NET).attribute(x, "predicted"))
        torch.testing.assert_close(maps["gradcam"], GradCAM(NET, "conv1").attribute(x, "predicted"))
    for name in change.before:
        by_hand = distances(change.before[name], change.after[name], 0.1)
        for measure in MEASURES:
            torch.testing.assert_close(change.attack[name][measure], by_hand[measure], equal_nan=True)


def test_one_class_may_be_explained_in_both(found: Adversarial) -> None:
    change = found.attribution_change("saliency", target=found.labels)
    torch.testing.assert_close(change.after["saliency"], Saliency(NET).attribute(found.adversarial, found.labels))


def test_a_layer_is_for_the_methods_that_need_one(found: Adversarial) -> None:
    named = found.attribution_change("saliency", "gradcam", layer="conv1")
    made = found.attribution_change(partial(Saliency), partial(GradCAM, layer="conv1"))
    for name in ("saliency", "gradcam"):
        torch.testing.assert_close(named.before[name], made.before[name])
    assert named.before["gradcam"].shape == GradCAM(NET, "conv1").attribute(found.clean, 1).shape


def test_the_control_is_the_same_perturbation_in_another_order(found: Adversarial) -> None:
    middle = attack(NET, SPACE.to_input(0.5 + 0.01 * (PICTURES - 0.5)), eps=0.1, pixels=SPACE)  # nothing is clipped
    change = middle.attribution_change("saliency", seed=3)
    moved = SPACE.to_picture(change.inputs) - middle.picture
    for i in range(3):
        before = sorted(map(tuple, middle.perturbation[i].flatten(1).T.mul(1e6).round().tolist()))
        assert sorted(map(tuple, moved[i].flatten(1).T.mul(1e6).round().tolist())) == before
    assert not torch.allclose(moved, middle.perturbation)
    assert torch.equal(change.inputs, middle.attribution_change("saliency", seed=3).inputs)
    assert not torch.equal(change.inputs, middle.attribution_change("saliency", seed=4).inputs)
    clipped = SPACE.to_picture(found.attribution_change("saliency").inputs)
    assert float(clipped.min()) >= -1e-9
    assert float(clipped.max()) <= 1 + 1e-9
    said = NET(change.inputs).argmax(1) == NET(middle.clean).argmax(1)
    assert change.kept.tolist() == said.tolist()


def test_the_means_of_the_table_are_over_the_successes() -> None:
    said = NET(SPACE.to_input(PICTURES)).argmax(1).tolist()
    some = attack(NET, SPACE.to_input(PICTURES), [(one + 2) % 5 for one in said], eps=0.02, pixels=SPACE)
    done = some.success.tolist()
    assert sorted(set(done)) == [False, True]
    change = some.attribution_change("saliency")
    rows = change.table()
    assert [(row["method"], row["perturbation"]) for row in rows] == [("saliency", "attack"), ("saliency", "shuffled")]
    expected = change.attack["saliency"]["relative L2"][some.success].mean()
    assert rows[0]["relative L2"] == pytest.approx(float(expected))
    assert f"Means over the {sum(done)} pictures whose class changed" in change.to_text()
    none = attack(NET, SPACE.to_input(PICTURES), eps=1e-6, pixels=SPACE)
    assert not none.success.any()
    assert "that were attacked; no class changed" in none.attribution_change("saliency").to_text()
    assert change.to_text(markdown=True).splitlines()[2].startswith("| method ")


def test_everything_is_saved(found: Adversarial, tmp_path: Path) -> None:
    found.save(tmp_path / "attack", figures=True)
    told = json.loads((tmp_path / "attack" / "manifest.json").read_text())
    assert told["kind"] == "Adversarial"
    assert told["search"] == {"norm": "linf", "steps": 10, "step": None, "random_start": False, "seed": 0}
    assert told["normalisation"] == {"mean": 0.4, "std": 0.05}
    assert [row["outcome"] for row in told["examples"]] == [row["outcome"] for row in found.table()]
    assert {"clean", "adversarial", "before", "after", "eps", "success", "labels"} <= set(told["arrays"])
    change = found.attribution_change("saliency", "gradcam")
    change.save(tmp_path / "change", figures=True)
    told = json.loads((tmp_path / "change" / "manifest.json").read_text())
    assert {"before.saliency", "after.gradcam", "attack.saliency.rank correlation"} <= set(told["arrays"])
    assert told["means"][0]["method"] == "saliency"
    assert (tmp_path / "change" / "figure.png").stat().st_size > 1000


def test_the_figures_say_what_the_network_says_and_how_much_was_magnified(found: Adversarial) -> None:
    figure = adversarial_panels(found, [2, 0])
    titles = [ax.get_title() for ax in figure.axes]
    row = found.table()[2]
    assert titles[0] == f"{row['before']} {row['probability before']:.2f}"
    assert titles[1] == "added, x 5"  # 0.1 to 0.5
    assert titles[2] == f"{row['after']} {row['probability after']:.2f}"
    added = figure.axes[1].images[0].get_array()
    torch.testing.assert_close(torch.as_tensor(added).permute(2, 0, 1), 0.5 + found.perturbation[2] * 5)
    change = found.attribution_change("saliency", "gradcam")
    drawn = change_panels(change, example=1)
    assert [ax.get_title() for ax in drawn.axes[1:3]] == ["saliency", "gradcam"]
    notes = [text.get_text() for ax in drawn.axes for text in ax.texts]
    assert f"rank correlation {float(change.attack['gradcam']['rank correlation'][1]):.2f}" in notes
    with pytest.raises(InputError, match="example must be one of"):
        change_panels(change, example=3)


@pytest.mark.parametrize(
    ("methods", "options", "error", "says"),
    [
        (("grad-cam",), {}, RegistryError, "no method named 'grad-cam'"),
        ((Saliency(nets.make("module")), "gradcam"), {}, InputError, "must be made with the model of the others"),
        (("saliency",), {"top": 0}, InputError, "top must be above 0, a share of the pixels; got 0."),
        (("saliency",), {"seed": -1}, InputError, "seed must be an integer >= 0"),
        (("saliency", "saliency"), {}, InputError, "methods must have different names; got 'saliency' twice."),
    ],
)
def test_comparisons_that_make_no_sense_are_refused(
    found: Adversarial, methods: Any, options: Any, error: Any, says: str
) -> None:
    with pytest.raises(error) as caught:
        found.attribution_change(*methods, **options)
    assert says in str(caught.value)


@data.needs_data
def test_a_trained_network_is_fooled_by_what_nobody_sees_and_its_maps_move_with_it() -> None:
    net = realnets.load("mobilenet_v1_025_128")
    x, labels = net.batch(20)
    found = attack(net.loaded, x, eps=2 / 255, labels=labels)
    assert int((~found.wrong).sum()) >= 8
    assert found.rate > 0.9
    assert float(found.after.amax(1)[found.success].median()) > 0.95  # wrong, and sure
    change = found.attribution_change("saliency", "gradcam")
    assert bool(change.kept[found.success].double().mean() > 0.8)  # as much without aim does little
    for attacked, control in zip(change.table()[::2], change.table()[1::2], strict=True):
        assert attacked["cosine distance"] > control["cosine distance"]
        assert attacked["rank correlation"] < control["rank correlation"]
