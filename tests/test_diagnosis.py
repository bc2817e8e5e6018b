"""What is wrong with filters: what is planted is found, what is not is not, and nothing is undefined and wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attrib.analysis import FilterDiagnosis, Thresholds, diagnose_filters, read_kernels
from attrib.analysis.filters.answers import shift_error
from attrib.errors import InputError, LayerError
from tests import realnets
from tests.oracles import filters as oracle
from tests.test_cli import desk, files, run  # noqa: F401  fixtures
from tests.test_filters import conv, grating, noise

CLEAN = ((0, 0), (0.1, 0), (0, 0.1), (0.08, 0.08), (0.05, -0.09), (0, 0.2), (0.2, 0))


def bank(size: int = 9) -> Tensor:
    """Filters that are all in order at a stride of 2, ``(7, 3, size, size)``."""
    return torch.stack([grating(frequency, size) for frequency in CLEAN])


def named(found: FilterDiagnosis) -> dict[str, list[int]]:
    return {name: flags.nonzero().flatten().tolist() for name, flags in found.flags.items() if flags.any()}


def net(weight: Tensor, *behind: nn.Module, bias: Tensor | None = None, **options: Any) -> nn.Sequential:
    model = conv(weight, **options)
    with torch.no_grad():
        model[0].bias.copy_(torch.zeros(len(weight)) if bias is None else bias)  # type: ignore[union-attr, operator, arg-type]
    return model.extend(behind).eval()


class TestPlanted:
    def test_nothing_is_found_where_nothing_is_wrong(self) -> None:
        found = diagnose_filters(net(bank(), nn.ReLU(), stride=2), noise(4, 3, 30, 30))
        assert named(found) == {}
        assert "0 of 7 filters are dead" in found.to_text()

    def test_a_dead_filter_a_duplicate_and_one_out_of_scale_are_found(self) -> None:
        weight, bias = bank(), torch.zeros(9)
        weight = torch.cat([weight, -3 * weight[4:5], 90 * noise(1, 3, 9, 9)])
        bias[2] = -1e3
        found = diagnose_filters(net(weight, nn.ReLU(), bias=bias), noise(4, 3, 30, 30))
        assert named(found) == {"dead": [2], "duplicate": [4, 7], "out of scale": [8], "high frequency": [8]}
        assert (int(found.twin[7]), float(found.cosine[7])) == (4, pytest.approx(-1))

    def test_a_fine_filter_is_aliased_by_a_stride_and_not_without(self) -> None:
        weight = torch.cat([bank(), grating((0.42, 0), 9)[None]])
        x = noise(4, 3, 30, 30)
        assert named(diagnose_filters(net(weight), x)) == {"high frequency": [7]}
        assert named(diagnose_filters(net(weight, stride=2), x)) == {
            "high frequency": [7],
            "aliased": [7],
            "flickers": [7],
        }

    def test_a_larger_stride_folds_middle_frequencies_too(self) -> None:
        found = diagnose_filters(net(bank(), stride=4))
        assert {5, 6} <= set(named(found)["aliased"])
        assert 0 not in named(found)["aliased"]
        assert found.limit == 0.125

    @given(st.permutations(range(9)))
    @settings(max_examples=10, deadline=None)
    def test_flags_follow_the_order_of_the_filters(self, order: list[int]) -> None:
        weight = torch.cat([bank(), bank()[3:4], grating((0.42, 0), 9)[None]])
        one = diagnose_filters(net(weight, stride=2)).flags
        other = diagnose_filters(net(weight[order], stride=2)).flags
        for name, flags in one.items():
            assert torch.equal(other[name], flags[order]), name


class TestDead:
    def test_the_answer_is_read_behind_normalisation_and_activation(self) -> None:
        norm = nn.BatchNorm2d(7)
        with torch.no_grad():
            norm.bias[1], norm.weight[2] = -100.0, 0.0
            norm.bias[2] = 1.0  # says 1 to everything
        found = diagnose_filters(net(bank(), norm, nn.ReLU()), noise(4, 3, 12, 12))
        assert found.path == ("convolution", "batch_norm", "relu")
        assert named(found)["dead"] == [1, 2]
        assert (float(found.rate[1]), float(found.rate[2])) == (0, 1)

    @pytest.mark.parametrize("spelling", ["functional", "in place", "statement"])
    def test_plain_calls_are_followed_like_modules(self, spelling: str) -> None:
        class Plain(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = net(bank(), bias=torch.tensor([0, -1e3, 0, 0, 0, 0, 0.0]))[0]

            def forward(self, x: Tensor) -> Tensor:
                y: Tensor = self.conv(x)
                if spelling == "functional":
                    return F.relu(y) + 7
                y = y.relu_() if spelling == "in place" else y.clamp(min=0)
                y += 7  # later than what is read
                return y

        found = diagnose_filters(Plain(), noise(4, 3, 12, 12))
        assert found.path == ("convolution", "relu")
        assert named(found)["dead"] == [1]
        assert float(found.highest[1]) == 0

    def test_a_filter_that_answers_seldom_is_dead_by_its_rate(self) -> None:
        x = torch.zeros(10, 3, 9, 9)
        x[3] = grating((0, 0.2), 9)
        found = diagnose_filters(net(bank(), nn.ReLU()), x)
        assert float(found.rate[5]) == pytest.approx(0.1)
        assert 5 not in named(found).get("dead", [])
        assert 5 in named(diagnose_filters(net(bank(), nn.ReLU()), x, thresholds=Thresholds(rate=0.2)))["dead"]
        assert 5 in named(diagnose_filters(net(bank(), nn.ReLU()), x, thresholds=Thresholds(floor=1e3)))["dead"]

    def test_without_a_rectifier_only_a_constant_answer_is_dead(self) -> None:
        bias = torch.full((7,), -1e3)
        weight = bank()
        weight[3] = 0
        for behind in ((), (nn.Tanh(),)):
            found = diagnose_filters(net(weight, *behind, bias=torch.zeros(7)), noise(4, 3, 12, 12))
            assert found.rate.isnan().all()
            assert named(found)["dead"] == [3]
        assert named(diagnose_filters(net(bank(), bias=bias), noise(4, 3, 12, 12))) == {}

    def test_without_data_only_zero_is_dead_and_the_text_says_so(self) -> None:
        weight = bank()
        weight[3] = 0
        found = diagnose_filters(net(weight, nn.ReLU()))
        assert named(found) == {"dead": [3]}
        assert "was not tested, as there were no data; 1 of 7 are zero" in found.to_text()

    def test_a_shared_convolution_answers_with_all_of_its_runs(self) -> None:
        class Twice(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = net(bank(), bias=torch.full((7,), -0.1))[0]

            def forward(self, x: Tensor) -> Tensor:
                return F.relu(self.conv(x)) + F.relu(self.conv(-x))

        one = noise(4, 3, 9, 9)
        both = torch.cat([one, -one])
        found, expected = (diagnose_filters(Twice(), x) for x in (one, both))
        torch.testing.assert_close(found.highest, expected.highest)

    def test_batches_do_not_matter(self) -> None:
        model, x = net(bank(), nn.ReLU(), stride=2), noise(7, 3, 12, 12)
        one, other = (diagnose_filters(model, x, batch_size=size) for size in (7, 2))
        for name in ("highest", "lowest", "rate", "shift_error"):
            torch.testing.assert_close(getattr(one, name), getattr(other, name), equal_nan=True)

    def test_batch_norm_makes_up_for_the_scale_of_weights(self) -> None:
        weight, norm = bank(), nn.BatchNorm2d(7)
        weight[6] *= 100
        norm.running_var[6] = 1e4  # type: ignore[index]
        x = noise(4, 3, 12, 12)
        assert named(diagnose_filters(net(weight, nn.ReLU()), x)) == {"out of scale": [6]}
        assert named(diagnose_filters(net(weight, norm, nn.ReLU()), x)) == {}


class TestTwins:
    def test_filters_of_different_groups_are_never_alike(self) -> None:
        weight = bank()[:3, :1].repeat(2, 1, 1, 1)
        found = diagnose_filters(conv(weight, groups=2))
        assert named(found) == {}
        assert set(found.twin[:3].tolist()) <= {0, 1, 2}
        depthwise = diagnose_filters(conv(weight, groups=6))
        assert depthwise.twin.tolist() == [-1] * 6
        assert depthwise.cosine.isnan().all()

    def test_zero_filters_have_no_twin(self) -> None:
        weight = bank()
        weight[2:4] = 0
        assert diagnose_filters(net(weight)).twin[2:4].tolist() == [-1, -1]


class TestFrequencies:
    def test_bands_are_the_literal_integrals(self) -> None:
        weight = noise(2, 2, 3, 3).double()
        found = diagnose_filters(conv(weight))
        for k in range(2):
            low = oracle.share(weight[k].tolist(), lambda y, x: math.hypot(y, x) < 1 / 6)
            high = oracle.share(weight[k].tolist(), lambda y, x: math.hypot(y, x) >= 1 / 3)
            expected = [low, 1 - low - high, high]
            assert found.bands[k].tolist() == pytest.approx(expected, abs=0.02)  # by the grid
        torch.testing.assert_close(found.bands.sum(1), torch.ones(2, dtype=torch.float64))

    @pytest.mark.parametrize(
        ("wave", "place"), [((0, 0.25), (1, 0)), ((0.25, 0), (1, 3)), ((0.28, 0.28), (2, 2)), ((-0.07, 0.12), (0, 5))]
    )
    def test_a_peak_is_counted_where_the_wave_is(self, wave: tuple[float, float], place: tuple[int, int]) -> None:
        found = diagnose_filters(net(grating(wave, 15)[None]))
        degrees = math.degrees(math.atan2(*wave)) % 180
        assert place[1] == round(degrees / 30) % 6 or wave[0] * wave[1] > 0  # 45 degrees are between two bins
        assert int(found.peaks.sum()) == 1
        row, column = (int(i) for i in found.peaks.nonzero()[0])
        assert row == place[0]
        assert column in ({1, 2} if wave[0] * wave[1] > 0 else {place[1]})

    def test_a_blob_has_no_orientation(self) -> None:
        found = diagnose_filters(net(grating((0, 0))[None]))
        assert (int(found.peaks.sum()), found.blobs) == (0, 1)

    def test_gaps_are_told_in_words(self) -> None:
        rough = [grating(wave) for wave in ((0, 0), (0, 0), (0.45, 0), (0, 0.45))]
        text = diagnose_filters(net(torch.stack(rough))).to_text()
        assert "2 have their peak at low frequencies, 0 at middle and 2 at high ones: little coverage of middle" in text
        fine = diagnose_filters(net(torch.stack([*rough, grating((0, 0.25)), grating((0.25, 0))])))
        assert "middle frequencies are covered" in fine.to_text()
        assert fine.coverage == pytest.approx(4 / 12)

    def test_kernels_of_one_point_have_no_spectrum_and_nothing_is_said_about_it(self) -> None:
        found = diagnose_filters(conv(noise(4, 3, 1, 1), stride=2), noise(2, 3, 9, 9))
        assert found.bands.isnan().all()
        assert found.aliased.isnan().all()
        assert math.isnan(found.coverage)
        assert "Kernels of one point have no spectrum: frequencies and aliasing are undefined." in found.to_text()
        assert "high frequency" not in named(found)
        assert len(found.plot().axes) == 2  # tiles and legend

    def test_a_transposed_convolution_is_not_aliased(self) -> None:
        found = diagnose_filters(nn.Sequential(nn.ConvTranspose2d(3, 4, 3, stride=2)), noise(2, 3, 9, 9))
        assert found.aliased.isnan().all()
        assert found.shift_error.isnan().all()
        assert "A transposed convolution makes its output larger" in found.to_text()

    @pytest.mark.parametrize("axes", [1, 3])
    def test_signals_and_volumes_have_bands_and_aliasing_but_no_orientation(self, axes: int) -> None:
        layer = (nn.Conv1d, nn.Conv3d)[axes // 2](2, 3, 3, stride=2)
        found = diagnose_filters(nn.Sequential(layer), noise(2, 2, *[10] * axes))
        assert found.peaks.shape == (3, 1)
        assert not found.aliased.isnan().any()
        assert not found.shift_error.isnan().any()


class TestShift:
    @pytest.mark.parametrize("stride", [2, 3])
    def test_the_error_is_the_literal_one(self, stride: int) -> None:
        weight, x = noise(3, 2, 3, 2).double(), noise(1, 2, 3 * stride, 5 * stride, seed=1).double()
        found = shift_error(read_kernels(conv(weight, stride=stride)), x)
        for k in range(3):
            expected = oracle.shift_error(weight[k].tolist(), x[0].tolist(), stride)
            assert float(found[k]) == pytest.approx(expected)

    @pytest.mark.parametrize(("waves", "error"), [(3, 0.0), (7, 0.0), (8, 1.0), (20, 1.0), (30, 1.0)])
    def test_a_wave_moves_if_the_stride_carries_it_and_not_at_all_if_not(self, waves: int, error: float) -> None:
        x = torch.cos(2 * math.pi * waves / 60 * torch.arange(60).double() + 0.4).expand(1, 1, 60, 60)
        kernels = read_kernels(conv(noise(2, 1, 5, 5).double(), stride=4))  # up to 7.5 waves
        torch.testing.assert_close(shift_error(kernels, x), torch.full((2,), error, dtype=torch.float64))

    def test_a_checkerboard_flickers_only_in_filters_that_see_it(self) -> None:
        board = (torch.arange(30)[:, None] + torch.arange(30)) % 2 * 2.0 - 1
        weight = torch.stack([torch.tensor([[1.0, -1], [-1, 1]]), torch.ones(2, 2)])[:, None]
        found = shift_error(read_kernels(conv(weight, stride=2)), board.expand(1, 1, -1, -1))
        assert float(found[0]) == pytest.approx(1)
        assert found[1].isnan()  # it says nothing

    def test_a_stride_of_one_moves_exactly(self) -> None:
        assert not shift_error(read_kernels(conv(bank())), noise(1, 3, 9, 9)).any()

    def test_inputs_smaller_than_the_stride_are_refused(self) -> None:
        with pytest.raises(InputError, match="inputs of '0' must be at least as large as its stride"):
            shift_error(read_kernels(conv(bank(), stride=9)), noise(1, 3, 8, 8))


class TestManners:
    def test_model_data_and_random_state_are_as_found(self) -> None:
        model, x = net(bank(), nn.BatchNorm2d(7), nn.ReLU()).train(), noise(4, 3, 12, 12)
        before, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
        kept = x.clone()
        one, other = (diagnose_filters(model, x) for _ in range(2))
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert model.training
        assert not model[0]._forward_hooks
        assert torch.equal(x, kept)
        assert torch.equal(torch.get_rng_state(), state)
        torch.testing.assert_close(one.shift_error, other.shift_error)

    def test_the_hook_is_gone_when_the_model_fails(self) -> None:
        model = net(bank(), nn.ReLU(), nn.Linear(5, 2))
        with pytest.raises(Exception, match="mat1"):
            diagnose_filters(model, noise(2, 3, 12, 12))
        assert not model[0]._forward_hooks

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"rate": 2}, "rate must be a finite number in"),
            ({"spread": 0.5}, "spread must be a finite number in"),
            ({"floor": math.inf}, "floor must be a finite number"),
        ],
    )
    def test_wrong_thresholds_are_named(self, wrong: dict[str, float], says: str) -> None:
        with pytest.raises(InputError, match=says):
            Thresholds(**wrong)

    def test_wrong_layers_and_data_are_named(self) -> None:
        model = net(bank(), nn.ReLU())
        with pytest.raises(LayerError, match="layer must be a convolution"):
            diagnose_filters(model, layer="1")
        with pytest.raises(InputError, match="data must hold at least one example"):
            diagnose_filters(model, iter(()))
        with pytest.raises(InputError, match="shifted must be an integer >= 0"):
            diagnose_filters(model, shifted=-1)
        unused = nn.Sequential()
        unused.add_module("conv", conv(bank())[0])
        unused.forward = lambda x: x  # type: ignore[method-assign, assignment]
        with pytest.raises(LayerError, match="layer 'conv' did not run"):
            diagnose_filters(unused, noise(2, 3, 12, 12))

    def test_all_filters_dead_is_told_and_drawn(self) -> None:
        found = diagnose_filters(net(torch.zeros(3, 3, 3, 3), nn.ReLU(), stride=2), noise(2, 3, 9, 9))
        assert named(found) == {"dead": [0, 1, 2]}
        assert "3 of 3 filters are dead" in found.to_text()
        found.plot().canvas.draw()

    def test_everything_is_saved(self, tmp_path: Path) -> None:
        found = diagnose_filters(net(bank(), nn.ReLU(), stride=2), noise(4, 3, 12, 12))
        found.save(tmp_path / "run", figures=True)
        told = json.loads((tmp_path / "run" / "manifest.json").read_text())
        assert told["thresholds"]["cosine"] == 0.95
        assert told["path"] == ["convolution", "relu"]
        np.testing.assert_array_equal(np.load(tmp_path / "run" / "arrays" / "aliased.npy"), found.aliased.numpy())
        assert "grid" not in told

    def test_frames_stand_around_what_was_found(self) -> None:
        weight = bank()
        weight[3] = 0
        figure = diagnose_filters(net(weight, stride=2)).plot()
        assert len(figure.axes[0].patches) == 1
        assert [ax.get_title() for ax in figure.axes if ax.get_title()][-1] == "energy beyond the stride"

    def test_of_higher_layers_every_filter_is_drawn_by_its_strongest_channel(self) -> None:
        weight = torch.zeros(300, 5, 3, 3)
        weight[torch.arange(300), torch.arange(300) % 5] = noise(300, 3, 3)
        weight[299] = weight[0]
        found = diagnose_filters(net(weight))
        assert named(found) == {"duplicate": [0, 299]} | {
            name: one for name, one in named(found).items() if name != "duplicate"
        }
        assert found.grid.sources.tolist() == [i % 5 for i in range(299)] + [0]
        assert torch.equal(found.grid.weights[7], weight[7, 2])
        numbers = [text.get_text() for text in found.plot().axes[0].texts]
        assert len(numbers) == 256
        assert {"0:0", "299:0"} <= set(numbers)  # those that have something are never left out

    def test_the_figure_says_so_where_tiles_are_parts_of_filters(self) -> None:
        for channels, part in ((1, False), (3, False), (5, True)):
            foot = diagnose_filters(net(noise(4, channels, 3, 3))).plot().texts[1].get_text().replace("\n", " ")
            assert ("Each tile is the input channel of its filter with the largest weights" in foot) == part

    def test_what_cannot_be_a_duplicate_is_undefined(self) -> None:
        text = diagnose_filters(net(noise(4, 1, 3, 3), groups=4)).to_text()
        assert next(line for line in text.splitlines() if line.startswith("duplicate")).endswith("undefined")


def test_the_filters_of_resnet18_that_are_known_to_be_dead_are_found() -> None:
    real = realnets.load("resnet18")
    found = diagnose_filters(real.model, real.batch(2)[0], shifted=1)
    assert named(found)["dead"] == [2, 4, 7, 9, 13, 36, 38, 48]
    assert found.path == ("convolution", "batch_norm", "relu")


class TestCommand:
    def test_finds_and_writes_with_pictures_and_without(self, run: Any, desk: Path) -> None:  # noqa: F811
        code, out, _ = run("see", "diagnose", "-m", "tiny_models:make", "--data", "photos", "--out", "run", "--quiet")
        assert code == 0
        assert "on 2 examples" in out
        assert {"manifest.json", "figure.png", "arrays/rate.npy"} <= files(desk / "run")
        told = json.loads(run("see", "diagnose", "-m", "tiny_models:make", "--layer", "conv2", "--json")[1])
        assert (told["layer"], told["examples"]) == ("conv2", 0)

    @pytest.mark.parametrize(
        ("words", "says"),
        [(("--layer", "act1"), "layer must be a convolution"), (("--rate", "3"), "rate must be a finite number")],
    )
    def test_wrong_arguments_are_told_as_such(self, run: Any, words: tuple[str, ...], says: str) -> None:  # noqa: F811
        code, out, err = run("see", "diagnose", "-m", "tiny_models:make", *words)
        assert (code, out) == (2, "")
        assert says in err
