"""What a method is given is what it spends: counted passes against promised ones."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attrib import METHODS
from attrib.benchmark import at_equal_budget, options_for
from attrib.benchmark.budget import SCALES
from attrib.cli import main
from attrib.core import count
from attrib.core.masking.masks import Windows
from attrib.errors import InputError, RegistryError
from attrib.study import at_budget, load_study
from tests import nets, studies

X = nets.batch(1, 24, 16)


class Deciding(nn.Module):
    """A model that looks at its input before it decides what to do, so that it cannot be replayed."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nets.make("module")

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x if float(x.detach().sum()) < 1e9 else -x)


NETS = {"replayed": nets.make("module"), "run itself": Deciding()}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("method", [*SCALES, "occlusion"])
def test_a_method_spends_what_it_was_given_and_no_more(method: str, net: str) -> None:
    forwards = 250 if method == "shapley_sampling" else 60
    budget = options_for(method, forwards, X)
    explain = METHODS[method](NETS[net], **budget.options)
    with count() as spent:
        explain.attribute(X, 1)
    assert spent.forwards <= budget.forwards <= forwards
    assert (spent.backwards > 0) == budget.gradient
    if method in {"scorecam", "ablationcam"}:  # the layer has fewer channels
        assert budget.forwards == forwards
    else:
        assert spent.forwards >= budget.forwards - 3  # those that check a replay
        assert spent.forwards > 0.6 * forwards


@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
def test_channels_are_left_out_where_the_budget_is_small(method: str) -> None:
    budget = options_for(method, 7, X)
    with count() as spent:
        METHODS[method](NETS["replayed"], **budget.options).attribute(X, 1)
    assert budget.options == {"channels": 3}
    assert spent.forwards <= 7


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 40), st.integers(4, 40), st.integers(5, 400))
def test_occlusion_takes_the_finest_steps_that_it_can_pay(high: int, wide: int, forwards: int) -> None:
    budget = options_for("occlusion", forwards, torch.zeros(1, 3, high, wide))
    window, stride = budget.options["window"], budget.options["stride"]
    positions = len(Windows((high, wide), (window,) * 2, (stride,) * 2))
    assert budget.forwards == positions + 4 <= forwards
    usual = max(1, min(high, wide) // 8)
    assert window >= usual
    if stride > 1:
        assert len(Windows((high, wide), (window,) * 2, (stride - 1,) * 2)) + 4 > forwards
    if window > usual:
        assert len(Windows((high, wide), (window - 1,) * 2, (window - 1,) * 2)) + 4 > forwards


def test_more_passes_never_buy_a_coarser_map() -> None:
    strides = [
        options_for("occlusion", n, torch.zeros(1, 3, 224, 224)).options["stride"] for n in (100, 300, 1000, 5000)
    ]
    assert strides == sorted(strides, reverse=True)
    assert strides[-1] < strides[0]


def test_methods_without_a_sample_count_are_told_apart() -> None:
    found = at_equal_budget(["gradcam", "rise", "saliency", "feature_ablation"], 100, X)
    assert [name for name, budget in found.items() if not budget.scaled] == ["gradcam", "saliency", "feature_ablation"]
    assert found["gradcam"].forwards is None
    assert str(found["gradcam"]) == "cannot be scaled"
    assert str(found["rise"]) == "n=97 (100 forward passes)"


def test_every_method_that_draws_samples_is_in_the_table() -> None:
    sampled = {"n", "n_samples", "n_steps", "steps"}
    drawn = {name for name in METHODS if sampled & set(inspect.signature(METHODS[name]).parameters)}
    assert drawn <= set(SCALES)
    for name, scale in SCALES.items():
        assert scale.option in inspect.signature(METHODS[name]).parameters


def test_budgets_that_buy_nothing_are_refused() -> None:
    for method, forwards in (("rise", 3), ("occlusion", 4), ("vargrad", 2), ("shapley_sampling", 20)):
        with pytest.raises(InputError, match="forwards must be at least"):
            options_for(method, forwards, X)
    with pytest.raises(InputError, match="forwards must be an integer >= 1"):
        options_for("gradcam", 0, X)
    with pytest.raises(RegistryError, match="no method named"):
        options_for("rize", 10, X)


# --- a whole study


def test_a_study_at_a_budget_spends_it_and_no_more(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    given = {"methods": ["rise", "occlusion", "gradcam"], "metrics": ["srg"], "controls": False}
    study = at_budget(studies.make(studies.photos(tmp_path / "photos", 2), **given), 40)
    found = study.run(tmp_path / "out", show_progress=False)
    assert found.spec["methods"][0]["options"] == {"n": 37}
    assert 35 <= found.cost("rise")["forwards"] <= 40
    assert 20 <= found.cost("occlusion")["forwards"] <= 40
    assert found.cost("gradcam")["forwards"] == 1
    assert study.hash != studies.make(study.data, **given).hash


def test_a_study_keeps_what_it_was_given_by_name(tmp_path: Path) -> None:
    table, options = studies.photos(tmp_path / "photos", 2), {"many": {"name": "rise", "n": 9}, "few": "rise"}
    made = at_budget(studies.make(table, methods=options, method_options={"few": {"p": 0.3}}), 40)
    assert [(one.label, dict(one.options)) for one in made.chosen_methods] == [
        ("many", {"n": 9}),
        ("few", {"n": 37, "p": 0.3}),
    ]


def test_pictures_that_cannot_be_read_do_not_decide_the_budget(tmp_path: Path) -> None:
    table = studies.photos(tmp_path / "photos", 2)
    (tmp_path / "photos" / "0.png").write_bytes(b"broken")
    assert at_budget(studies.make(table, methods=["rise"]), 40).chosen_methods[0].options == {"n": 37}
    (tmp_path / "photos" / "1.png").write_bytes(b"broken")
    with pytest.raises(InputError, match="a picture that can be read"):
        at_budget(studies.make(table, methods=["rise"]), 40)


def test_the_command_takes_a_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    table, out = studies.photos(tmp_path / "photos", 2), tmp_path / "out"
    given = ["--model", studies.MODEL, "--data", str(table), "--methods", "rise,gradcam", "--metrics", "srg"]
    assert main(["benchmark", *given, "--budget", "40", "--out", str(out)]) == 0
    assert "rise: n=37 (40 forward passes)" in (told := capsys.readouterr().err)
    assert "gradcam: cannot be scaled" in told
    assert load_study(out).spec["methods"][0]["options"] == {"n": 37}
    assert main(["benchmark", *given, "--budget", "3", "--out", str(tmp_path / "no")]) == 2
    assert "forwards must be at least 4 for rise" in capsys.readouterr().err
