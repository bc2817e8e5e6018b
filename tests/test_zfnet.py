"""The network of Zeiler and Fergus: the paper's sizes in every row of its table, and a runner that trains them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import attrib
from attrib.analysis import AblationTable, fit, train_and_tabulate
from attrib.errors import InputError
from attrib.models import ABLATIONS, ContrastNorm, Variant, textures, zfnet

FAST: dict[str, Any] = {"seeds": (0, 1), "epochs": 2, "scale": 1 / 32, "top": 2}
ZEILER = {"conv1": 110, "pool1": 55, "conv2": 26, "pool2": 13, "conv3": 13, "conv4": 13, "conv5": 13, "pool5": 6}
KRIZHEVSKY = {**ZEILER, "conv1": 55, "pool1": 27, "conv2": 27}


def sides(net: nn.Sequential, x: Tensor) -> dict[str, int]:
    found = {}
    for name, module in net.named_children():
        x = module(x)
        if name.startswith(("conv", "pool")):
            found[name] = x.shape[-1]
    return found


def widths(net: nn.Sequential) -> dict[str, int]:
    return {
        name: len(module.weight) for name, module in net.named_children() if isinstance(module, (nn.Conv2d, nn.Linear))
    }


class TestShapes:
    @pytest.mark.parametrize("row", ABLATIONS)
    def test_every_row_of_the_table_has_the_sizes_of_the_paper(self, row: str) -> None:
        net = ABLATIONS[row].build(10, scale=1 / 32)
        removed = {f"{kind}{layer}" for layer in ABLATIONS[row].options.get("without", ()) for kind in ("conv", "fc")}
        expected = {name: side for name, side in (ZEILER if row.startswith("zfnet") else KRIZHEVSKY).items()}
        assert sides(net.eval(), torch.rand(1, 3, 224, 224)) == {k: v for k, v in expected.items() if k not in removed}
        assert not removed & set(widths(net))

    def test_the_network_of_figure_3_has_its_widths_and_9216_numbers_before_layer_6(self) -> None:
        net = zfnet()
        assert widths(net) == {
            "conv1": 96, "conv2": 256, "conv3": 384, "conv4": 384, "conv5": 256, "fc6": 4096, "fc7": 4096, "fc8": 1000,
        }  # fmt: skip
        assert net.fc6.in_features == 6 * 6 * 256 == 9216  # type: ignore[union-attr]
        assert (net.conv1.kernel_size, net.conv1.stride) == ((7, 7), (2, 2))  # type: ignore[union-attr]

    def test_rows_differ_from_their_network_by_what_they_are_called(self) -> None:
        wide = widths(ABLATIONS["zfnet, 3, 4, 5: 512, 1024, 512"].build(10, scale=1 / 32))
        assert [wide[f"conv{i}"] for i in (3, 4, 5)] == [16, 32, 16]
        large = widths(ABLATIONS["krizhevsky, 6, 7: 8192"].build(10, scale=1 / 32))
        assert (large["fc6"], large["fc7"]) == (256, 256)
        old = ABLATIONS["krizhevsky"].build(10, scale=1 / 16)
        assert (old.conv1.kernel_size, old.conv1.stride) == ((11, 11), (4, 4))  # type: ignore[union-attr]
        assert [getattr(old, f"conv{i}").groups for i in range(1, 6)] == [1, 2, 1, 2, 2]
        assert len({name: row.paper for name, row in ABLATIONS.items()}) == 12
        assert ABLATIONS["zfnet"].paper == (33.1, 38.4, 16.5)

    def test_pictures_may_be_small_not_square_and_grey(self) -> None:
        net = zfnet(4, scale=1 / 32, image_size=(64, 90), channels=1).eval()
        assert net(torch.rand(2, 1, 64, 90)).shape == (2, 4)


class TestParts:
    def test_the_response_norm_is_that_of_krizhevsky_written_out(self) -> None:
        norm = zfnet(4, scale=1 / 8, image_size=64).norm1
        x = 50 * torch.rand(1, 7, 2, 2)
        for k in range(7):
            near = x[0, max(0, k - 2) : k + 3].square().sum(0)
            torch.testing.assert_close(norm(x)[0, k], x[0, k] / (2 + 1e-4 * near) ** 0.75)

    def test_the_contrast_norm_is_that_of_jarrett_written_out(self) -> None:
        x = torch.rand(1, 2, 4, 5, dtype=torch.float64)
        found, weight = ContrastNorm(3)(x), [math.exp(-0.5 * (i / 0.75) ** 2) for i in (-1, 0, 1)]

        def mean(values: Tensor, y: int, z: int) -> float:
            total = size = 0.0
            for i in range(max(0, y - 1), min(4, y + 2)):
                for j in range(max(0, z - 1), min(5, z + 2)):
                    w = weight[i - y + 1] * weight[j - z + 1]
                    total += w * float(values[0, :, i, j].sum())
                    size += 2 * w
            return total / size

        v = torch.stack([x[0, :, y, z] - mean(x, y, z) for y in range(4) for z in range(5)], 1).reshape(1, 2, 4, 5)
        deviation = torch.tensor([[math.sqrt(mean(v**2, y, z)) for z in range(5)] for y in range(4)])
        torch.testing.assert_close(found, v / deviation.clamp(min=float(deviation.mean())), rtol=1e-6, atol=1e-7)
        assert not ContrastNorm(3)(torch.full((1, 2, 4, 4), 3.0)).abs().gt(1e-3).any()

    def test_the_norm_can_be_left_out_or_changed(self) -> None:
        assert "norm1" not in dict(zfnet(4, scale=1 / 32, image_size=64, norm=None).named_children())
        assert isinstance(zfnet(4, scale=1 / 32, image_size=64, norm="contrast").norm2, ContrastNorm)

    def test_first_weights_follow_seed_and_deviation_and_leave_the_random_state_alone(self) -> None:
        state = torch.get_rng_state()
        one, again, other = (zfnet(4, scale=1 / 16, image_size=64, seed=seed) for seed in (3, 3, 4))
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(one.conv3.weight, again.conv3.weight)  # type: ignore[arg-type]
        assert not torch.equal(one.conv3.weight, other.conv3.weight)  # type: ignore[arg-type]
        assert not one.conv3.bias.any()  # type: ignore[operator]
        assert float(zfnet(4, scale=1 / 8, image_size=64, std=0.01).fc6.weight.detach().std()) == pytest.approx(
            0.01, rel=0.1
        )  # type: ignore[operator]
        assert float(one.conv3.weight.detach().std()) == pytest.approx(math.sqrt(2 / (16 * 9)), rel=0.1)  # type: ignore[operator]

    def test_deconvnet_projects_a_unit_down_to_the_picture(self) -> None:
        net = zfnet(4, scale=1 / 16, image_size=64).eval()
        method = attrib.Deconvnet(net, norm_layers="skip")
        assert method.attribute(torch.rand(1, 3, 64, 64), "relu5:2").shape[2:] == (64, 64)

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"without": (2,)}, "layers to remove must be one of 3, 4, 5, 6, 7; got 2"),
            ({"widths": (96, 256)}, "widths must be 5 numbers; got"),
            ({"fc": (10,)}, "fc must be 2 numbers"),
            ({"image_size": 16}, "of 16 x 16 nothing is left in layer 2"),
            ({"groups": 2, "widths": (96, 255, 384, 384, 256)}, "widths must be divisible by groups=2; layer 2 has"),
            ({"norm": "batch"}, "norm must be one of 'response', 'contrast'"),
            ({"dropout": 2}, "dropout must be a finite number"),
            ({"padding": (1,)}, "padding must be 2 numbers"),
            ({"first_stride": 0}, "first_stride must be an integer >= 1"),
        ],
    )
    def test_wrong_arguments_are_named(self, wrong: dict[str, Any], says: str) -> None:
        with pytest.raises(InputError, match=says):
            zfnet(**{"classes": 4, "image_size": 64, "fc": (16, 16), **wrong})
        with pytest.raises(InputError, match="window must be odd"):
            ContrastNorm(4)


class TestTextures:
    def test_the_energy_of_the_stripes_is_where_the_class_says(self) -> None:
        x, labels = textures(60, contrast=100)
        power = torch.fft.fft2(x).abs().square().sum(1)
        across = torch.fft.fftfreq(64)
        for k in range(60):
            y, z = divmod(int(power[k].argmax()), 64)
            frequency, degrees = math.hypot(across[y], across[z]), math.degrees(math.atan2(across[y], across[z])) % 180
            band, turn = divmod(int(labels[k]), 4)
            assert frequency == pytest.approx((0.07, 0.14, 0.28)[band], rel=0.6)
            assert abs((degrees - 45 * turn + 90) % 180 - 90) < 45

    def test_same_seed_same_pictures_and_the_random_state_is_left_alone(self) -> None:
        state = torch.get_rng_state()
        assert torch.equal(textures(5, seed=2)[0], textures(5, seed=2)[0])
        assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture(scope="module")
def data() -> tuple[TensorDataset, TensorDataset]:
    """Easy: three classes of stripes."""
    how: dict[str, Any] = {"size": 48, "frequencies": (0.1,), "directions": 3, "contrast": 2.0}
    return TensorDataset(*textures(96, seed=0, **how)), TensorDataset(*textures(48, seed=1, **how))


@pytest.fixture(scope="module")
def table(data: Any) -> AblationTable:
    return train_and_tabulate(*data, ["zfnet", "krizhevsky without 3, 4, 6, 7"], **FAST)


class TestRunner:
    def test_errors_are_those_of_networks_trained_one_by_one(self, data: Any, table: AblationTable) -> None:
        (x, labels), (other, truth) = (one.tensors for one in data)
        net = fit(ABLATIONS["zfnet"].build(3, scale=1 / 32, image_size=48, seed=1), x, labels, epochs=2, seed=1)
        order = net(other).argsort(1, descending=True)
        assert float(table.train[0, 1]) == pytest.approx(100 * float((net(x).argmax(1) != labels).float().mean()))
        assert float(table.test[0, 1]) == pytest.approx(100 * float((order[:, 0] != truth).float().mean()))
        assert float(table.test_top[0, 1]) == pytest.approx(
            100 * float((order[:, :2] != truth[:, None]).all(1).float().mean())
        )
        assert table.parameters[0] == sum(one.numel() for one in net.parameters())

    def test_what_can_be_learned_is_learned(self, data: Any) -> None:
        row = {"plain": {"norm": None, "without": (3, 4, 7)}}
        found = train_and_tabulate(*data, row, seeds=(0,), epochs=12, scale=1 / 8, top=1, rate=3e-3, dropout=0.0)
        assert float(found.train[0, 0]) < 10
        assert float(found.test[0, 0]) < 30  # chance is 67
        assert found.paper == (None,)

    def test_the_same_again_is_the_same_and_nothing_else_is_touched(self, data: Any, table: AblationTable) -> None:
        state, kept = torch.get_rng_state(), data[0].tensors[0].clone()
        torch.manual_seed(99)
        inside = torch.get_rng_state()
        again = train_and_tabulate(*data, ["krizhevsky without 3, 4, 6, 7"], **FAST)
        assert torch.equal(torch.get_rng_state(), inside)
        torch.set_rng_state(state)
        assert torch.equal(again.test[0], table.test[1])
        assert torch.equal(data[0].tensors[0], kept)

    def test_the_table_tells_mean_and_deviation_and_whose_numbers_they_are(self, table: AblationTable) -> None:
        found = AblationTable(
            ("zfnet", "mine"), torch.tensor([[10.0, 20], [0, 0]]), torch.tensor([[30.0, 32], [40, 40]]),
            torch.tensor([[1.0, 3], [2, 2]]), 2, (7, 8), (ABLATIONS["zfnet"].paper, None), (0, 1), table.setting,
        )  # fmt: skip
        lines = found.to_text().splitlines()
        assert lines[0].startswith("Error, per cent: mean and standard deviation of 2 seeds on 96 training and 48 test")
        assert "ImageNet 2012" in lines[0]
        assert lines[3].split("  ")[-4:] == ["15.0 ± 7.1", "31.0 ± 1.4", "  2.0 ± 1.4", "     33.1 / 38.4 / 16.5"] or (
            "15.0 ± 7.1" in lines[3] and "31.0 ± 1.4" in lines[3] and "33.1 / 38.4 / 16.5" in lines[3]
        )
        assert lines[4].endswith("-")

    def test_the_figure_has_a_panel_for_the_paper_only_if_it_has_the_rows(
        self, data: Any, table: AblationTable
    ) -> None:
        figure = table.plot()
        titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
        assert titles == ["here: error, %", "in the paper, on ImageNet: error, %"]
        mine = train_and_tabulate(*data, {"mine": Variant({"without": (3, 4, 6, 7)})}, **{**FAST, "seeds": (0,)})
        assert [ax.get_title() for ax in mine.plot().axes if ax.get_title()] == ["here: error, %"]
        assert mine.said() == "Error, per cent: with seed 0 on 96 training and 48 test examples of 3 classes, 2 epochs."

    def test_no_dot_is_cut_off_or_under_the_legend(self, table: AblationTable) -> None:
        figure = table.plot()
        figure.canvas.draw()
        legend = next(ax for ax in figure.axes if ax.get_legend()).get_legend().get_window_extent()  # type: ignore[union-attr]
        for ax in (one for one in figure.axes if one.get_title()):
            box = ax.get_window_extent()
            for line in ax.lines:
                for x, y in ax.transData.transform(np.column_stack([line.get_xdata(), line.get_ydata()])):
                    assert not legend.contains(x, y)
                    assert box.x0 + 3 < x < box.x1 - 3

    def test_pictures_in_double_precision_are_learned_from_as_well(self, data: Any) -> None:
        train, test = ([(part.tensors[0].double(), part.tensors[1])] for part in data)
        found = train_and_tabulate(train, test, ["zfnet"], **{**FAST, "seeds": (0,)})
        assert 0 <= float(found.test) <= 100

    def test_everything_is_saved(self, table: AblationTable, tmp_path: Path) -> None:
        table.save(tmp_path / "run", figures=True)
        told = json.loads((tmp_path / "run" / "manifest.json").read_text())
        assert told["setting"]["scale"] == 1 / 32
        assert told["rows"] == list(table.rows)
        np.testing.assert_array_equal(np.load(tmp_path / "run" / "arrays" / "test.npy"), table.test.numpy())

    def test_wrong_arguments_are_named(self, data: Any) -> None:
        train, test = data
        with pytest.raises(InputError, match="rows must be one of 'krizhevsky'"):
            train_and_tabulate(train, test, ["vgg"], **FAST)
        with pytest.raises(InputError, match="rows and seeds must hold at least one each; got 1 and 0"):
            train_and_tabulate(train, test, ["zfnet"], **{**FAST, "seeds": ()})
        with pytest.raises(InputError, match="rate must be a finite number"):
            train_and_tabulate(train, test, ["zfnet"], **FAST, rate=-1)
        with pytest.raises(InputError, match="train labels must be classes, counted from 0; got -1"):
            train_and_tabulate(TensorDataset(train.tensors[0], train.tensors[1] - 1), test, ["zfnet"], **FAST)
        with pytest.raises(InputError, match="top must be less than the number of classes, 3; got 5"):
            train_and_tabulate(train, test, ["zfnet"], **{**FAST, "top": 5})
        with pytest.raises(InputError, match="train must have labels"):
            train_and_tabulate(train.tensors[0], test, ["zfnet"], **FAST)
        with pytest.raises(InputError, match="test must have pictures of shape"):
            train_and_tabulate(train, TensorDataset(torch.rand(2, 3, 50, 50), torch.zeros(2)), ["zfnet"], **FAST)
        with pytest.raises(InputError, match="epochs must be an integer >= 1"):
            train_and_tabulate(train, test, ["zfnet"], **{**FAST, "epochs": 0})
