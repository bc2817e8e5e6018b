"""Filters as tiles: which numbers, in which order, on which scale, whatever kind of convolution holds them."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from attrib.analysis import filter_grid, read_kernels
from attrib.errors import InputError, LayerError, ModelError
from tests.oracles import filters as oracle
from tests.test_cli import desk, files, run  # noqa: F401  fixtures


def conv(weight: Tensor, **options: Any) -> nn.Sequential:
    """A network of one convolution with these weights ``(K, C / groups, h, w)``."""
    groups = options.get("groups", 1)
    layer = nn.Conv2d(weight.shape[1] * groups, len(weight), tuple(weight.shape[2:]), **options)
    layer.weight = nn.Parameter(weight.clone())
    return nn.Sequential(layer)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grating(frequency: tuple[float, float], size: int = 7, channels: int = 3) -> Tensor:
    """A wave under a window, ``(channels, size, size)``."""
    place = torch.arange(size) - (size - 1) / 2
    phase = 2 * math.pi * (frequency[0] * place[:, None] + frequency[1] * place)
    window = torch.exp(-0.5 * (place / (size / 4)) ** 2)
    return (torch.cos(phase) * window[:, None] * window).expand(channels, -1, -1)


class TestScale:
    def test_zero_is_grey_and_the_largest_weight_of_the_layer_is_white_or_black(self) -> None:
        weight = torch.zeros(3, 3, 2, 2)
        weight[0, 0, 0, 0], weight[1, 2, 1, 0] = 4.0, -2.0
        found = filter_grid(conv(weight))
        assert found.tiles.shape == (3, 2, 2, 3)
        assert found.tiles[0, 0, 0].tolist() == [1.0, 0.5, 0.5]
        assert found.tiles[1, 1, 0].tolist() == [0.5, 0.5, 0.25]
        assert (found.tiles[2] == 0.5).all()

    def test_with_a_scale_for_each_a_faint_filter_is_as_contrasty_and_a_dead_one_stays_grey(self) -> None:
        weight = torch.zeros(3, 3, 2, 2)
        weight[0, 0, 0, 0], weight[1, 2, 1, 0] = 4.0, -2.0
        found = filter_grid(conv(weight), scale="each")
        assert found.tiles[1, 1, 0, 2] == 0
        assert (found.tiles[2] == 0.5).all()
        assert found.full.tolist() == [4, 2, 0]

    def test_a_constant_filter_is_one_flat_tile(self) -> None:
        found = filter_grid(conv(torch.full((1, 3, 2, 2), -3.0)), scale="each")
        assert (found.tiles == 0).all()

    def test_the_joint_scale_is_that_of_all_filters_and_not_of_those_that_are_shown(self) -> None:
        weight = noise(6, 3, 3, 3)
        weight[5] *= 10
        few, many = filter_grid(conv(weight), limit=2), filter_grid(conv(weight))
        assert torch.equal(few.tiles, many.tiles[:2])
        assert few.left_out == 4
        assert "4 tiles are left out" in few.to_text()

    @given(st.integers(0, 1000), st.floats(0.01, 100))
    @settings(max_examples=20, deadline=None)
    def test_tiles_do_not_depend_on_the_unit_of_the_weights(self, seed: int, factor: float) -> None:
        weight = noise(4, 3, 3, 3, seed=seed)
        for scale in ("joint", "each"):
            one, other = filter_grid(conv(weight), scale=scale), filter_grid(conv(factor * weight), scale=scale)  # type: ignore[arg-type]
            torch.testing.assert_close(one.tiles, other.tiles)
            assert one.tiles.min() >= 0
            assert one.tiles.max() <= 1


class TestOrder:
    def test_by_norm_the_longest_filter_is_first(self) -> None:
        weight = noise(4, 3, 3, 3) * torch.tensor([1.0, 8, 0, 3]).reshape(-1, 1, 1, 1)
        assert filter_grid(conv(weight), sort="norm").filters.tolist() == [1, 3, 0, 2]

    def test_by_frequency_slow_waves_come_before_fast_ones_and_zero_last(self) -> None:
        weight = torch.stack([grating((0.45, 0)), torch.zeros(3, 7, 7), grating((0, 0)), grating((0, 0.2))])
        assert filter_grid(conv(weight), sort="frequency").filters.tolist() == [2, 3, 0, 1]

    def test_by_hue_the_sign_does_not_matter_and_grey_is_last(self) -> None:
        colours = {"grey": (1, 1, 1), "red": (1, 0, 0), "cyan": (-1, 0, 0), "blue": (0, 0, 1), "green": (0, 1, 0)}
        weight = torch.stack([torch.tensor(rgb).reshape(3, 1, 1) * grating((0, 0.1)) for rgb in colours.values()])
        names = [list(colours)[index] for index in filter_grid(conv(weight), sort="hue").filters.tolist()]
        assert names[-1] == "grey"
        assert abs(names.index("red") - names.index("cyan")) == 1

    def test_sources_and_numbers_follow_the_filters(self) -> None:
        weight = noise(3, 2, 3, 3) * torch.tensor([1.0, 9, 4]).reshape(-1, 1, 1, 1)
        found = filter_grid(conv(weight), sort="norm")
        assert found.filters.tolist() == [1, 1, 2, 2, 0, 0]
        assert found.sources.tolist() == [0, 1] * 3
        assert torch.equal(found.weights[3], weight[2, 1])


class TestKinds:
    @pytest.mark.parametrize("axes", [1, 2, 3])
    def test_three_input_channels_are_colours_on_any_number_of_axes(self, axes: int) -> None:
        layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1](3, 5, 3)
        found = filter_grid(nn.Sequential(layer))
        assert found.tiles.shape == (5, *[3] * axes, 3)
        assert torch.equal(found.weights[2, ..., 1], layer.weight[2, 1])
        assert len(found.plot().axes[0].images) == 5

    def test_other_numbers_of_channels_are_slices(self) -> None:
        found = filter_grid(conv(noise(4, 5, 3, 3)))
        assert found.tiles.shape == (20, 3, 3)
        assert found.columns == 5  # a filter in a row

    def test_slices_of_groups_name_the_channel_that_they_read(self) -> None:
        found = filter_grid(conv(noise(4, 2, 3, 3), groups=2))
        assert found.sources.tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
        depthwise = filter_grid(conv(noise(6, 1, 3, 3), groups=6))
        assert depthwise.sources.tolist() == depthwise.filters.tolist() == [0, 1, 2, 3, 4, 5]

    @pytest.mark.parametrize("groups", [1, 2])
    def test_filters_of_a_transposed_convolution_are_its_output_channels(self, groups: int) -> None:
        layer = nn.ConvTranspose2d(4, 6, 3, groups=groups, bias=False)
        kernels = read_kernels(nn.Sequential(layer))
        assert kernels.weight.shape == (6, 4 // groups, 3, 3)
        for k in range(6):
            for place, source in enumerate(kernels.sources[k].tolist()):
                x = torch.zeros(1, 4, 1, 1)
                x[0, source] = 1
                torch.testing.assert_close(layer(x)[0, k], kernels.weight[k, place])

    def test_computed_weights_are_those_that_a_forward_pass_uses(self) -> None:
        plain, new = nn.Conv2d(3, 4, 3), parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            old = nn.utils.weight_norm(nn.Conv2d(3, 4, 3))
        for module, gain in ((new, new.parametrizations.weight.original0), (old, old.weight_g)):
            with torch.no_grad():
                gain.mul_(3)  # nothing has run since
            found = read_kernels(nn.Sequential(module)).weight
            module(torch.rand(1, 3, 5, 5))
            torch.testing.assert_close(found, module.weight.detach())
        prune.l1_unstructured(plain, "weight", 0.5)
        with torch.no_grad():
            plain.weight_orig.mul_(2)
        found = read_kernels(nn.Sequential(plain)).weight
        plain(torch.rand(1, 3, 5, 5))
        torch.testing.assert_close(found, plain.weight.detach())

    def test_spectral_norm_is_not_stepped_by_looking(self) -> None:
        for make in (parametrizations.spectral_norm, nn.utils.spectral_norm):
            net = nn.Sequential(make(nn.Conv2d(3, 4, 3))).train()
            before = {name: value.clone() for name, value in net.state_dict().items()}
            found = read_kernels(net).weight
            assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
            assert net.training
            net.eval()(torch.rand(1, 3, 5, 5))
            torch.testing.assert_close(found, net[0].weight.detach())

    def test_half_precision_and_quantised_weights_are_read_as_numbers(self) -> None:
        weight = noise(4, 3, 3, 3)
        assert read_kernels(conv(weight).bfloat16()).weight.dtype == torch.float32
        assert read_kernels(conv(weight).double()).weight.dtype == torch.float64
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            packed = torch.ao.nn.quantized.Conv2d(3, 4, 3)
            packed.set_weight_bias(torch.quantize_per_tensor(weight, 0.05, 0, torch.qint8), None)
        found = filter_grid(nn.Sequential(packed))
        torch.testing.assert_close(found.weights.movedim(-1, 1), weight, atol=0.026, rtol=0)

    def test_the_network_and_the_random_state_are_as_found_and_the_result_is_a_copy(self) -> None:
        net = conv(noise(4, 3, 3, 3)).train()
        state, before = torch.get_rng_state(), net[0].weight.detach().clone()
        found = filter_grid(net)
        found.weights.zero_()
        read_kernels(net).weight.zero_()
        assert torch.equal(net[0].weight, before)
        assert net[0].weight.requires_grad
        assert net.training
        assert torch.equal(torch.get_rng_state(), state)


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"layer": "1"}, "layer must be a convolution; '1' is a ReLU. The first convolutions are '0'."),
            ({"layer": "9"}, "has no layer '9'"),
            ({"channels": "rgb"}, "channels must be 'slices' or 'auto' for filters of 2 input channels; got 'rgb'"),
            ({"channels": "grey"}, "channels must be one of"),
            ({"scale": "all"}, "scale must be one of"),
            ({"sort": "size"}, "sort must be one of"),
            ({"sort": "hue"}, "sort must be None, 'norm' or 'frequency' for filters of 2 input channels; got 'hue'"),
            ({"sort": "frequency"}, "sort must be None, 'norm' or 'hue' for the 1x1 kernels of '0'; got 'frequency'"),
            ({"limit": 0}, "limit must be an integer >= 1"),
            ({"columns": 0}, "columns must be an integer >= 1"),
        ],
    )
    def test_wrong_arguments_are_named(self, arguments: dict[str, Any], says: str) -> None:
        net = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU())
        with pytest.raises((InputError, LayerError), match=says.replace("[", r"\[")):
            filter_grid(net, **arguments)

    def test_networks_without_filters_or_without_weights_are_named(self) -> None:
        with pytest.raises(LayerError, match="must have a convolution; Sequential has none"):
            filter_grid(nn.Sequential(nn.Linear(2, 2)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lazy = nn.Sequential(nn.LazyConv2d(4, 3))
        with pytest.raises(ModelError, match=r"weights must be there before .* those of a LazyConv2d"):
            filter_grid(lazy)
        with pytest.raises(ModelError, match="the weights of '0' must be finite; 1 of 12 are NaN or infinite"):
            filter_grid(conv(torch.tensor([[[[torch.nan]]]]).expand(1, 3, 2, 2).clone().masked_fill_(
                torch.arange(12).reshape(1, 3, 2, 2) > 0, 1.0)))  # fmt: skip
        with pytest.raises(LayerError, match="must have real weights"):
            filter_grid(nn.Sequential(nn.Conv2d(3, 2, 3, dtype=torch.complex64)))


class TestSpectrum:
    def test_the_energy_is_that_of_the_literal_transform(self) -> None:
        kernels = read_kernels(conv(noise(2, 2, 3, 4).double(), dilation=(1, 2)))
        spectrum = kernels.spectrum
        assert spectrum is not None
        spread = torch.zeros(2, 2, 3, 7, dtype=torch.float64)
        spread[..., ::2] = kernels.weight
        for place in (0, 7, 100, 513):
            fy, fx = spectrum.frequency[:, place].tolist()
            for k in range(2):
                expected = oracle.power(spread[k].tolist(), fy, fx)
                assert float(spectrum.power[k, place]) == pytest.approx(expected)

    @pytest.mark.parametrize("stride", [(2, 2), (1, 3), (4, 2)])
    def test_what_is_above_the_stride_is_the_literal_integral(self, stride: tuple[int, int]) -> None:
        kernels = read_kernels(conv(torch.stack([noise(2, 3, 4), grating((0, 0.1), 4, 2)[:, :3]]).double()))
        spectrum = kernels.spectrum
        assert spectrum is not None
        found = spectrum.above(stride)
        for k in range(2):
            kept = oracle.share(
                kernels.weight[k].tolist(), lambda y, x: abs(y) < 0.5 / stride[0] and abs(x) < 0.5 / stride[1]
            )
            assert float(found[k]) == pytest.approx(1 - kept, abs=1e-3)

    def test_a_point_has_the_same_energy_everywhere(self) -> None:
        weight = torch.zeros(1, 1, 3, 3)
        weight[0, 0, 1, 1] = 2
        spectrum = read_kernels(conv(weight)).spectrum
        assert spectrum is not None
        assert float(spectrum.above((4, 4))) == pytest.approx(15 / 16)
        assert float(spectrum.above((1, 1))) == 0
        torch.testing.assert_close(spectrum.share, torch.full_like(spectrum.share, 1 / spectrum.share.shape[1]))

    def test_axes_of_one_point_are_left_out_and_kernels_of_one_point_have_no_spectrum(self) -> None:
        spectrum = read_kernels(conv(noise(2, 3, 1, 7))).spectrum
        assert spectrum is not None
        assert spectrum.axes == (1,)
        assert read_kernels(conv(noise(2, 3, 1, 1))).spectrum is None


class TestFigureAndFiles:
    def test_every_tile_is_drawn_where_its_number_says(self) -> None:
        weight = noise(5, 3, 3, 3)
        found = filter_grid(conv(weight), sort="norm", columns=2)
        ax = found.plot().axes[0]
        assert [text.get_text() for text in ax.texts] == [str(index) for index in found.filters.tolist()]
        assert len({image.get_extent()[0] for image in ax.images}) == 2
        np.testing.assert_allclose(ax.images[3].get_array(), found.tiles[3].numpy())

    def test_planes_of_a_volume_stand_side_by_side_and_a_signal_is_a_strip(self) -> None:
        volume = filter_grid(nn.Sequential(nn.Conv3d(1, 2, (3, 4, 5))))
        drawn = volume.plot().axes[0].images[0].get_array()
        assert drawn.shape == (4, 3 * 5 + 2)
        np.testing.assert_allclose(drawn[:, 6:11], volume.tiles[0, 1].numpy())
        signal = filter_grid(nn.Sequential(nn.Conv1d(1, 2, 8)))
        np.testing.assert_allclose(signal.plot().axes[0].images[1].get_array(), signal.tiles[1].expand(2, -1).numpy())

    def test_many_small_tiles_have_no_numbers(self) -> None:
        assert not filter_grid(conv(noise(9, 32, 3, 3)), columns=40).plot().axes[0].texts

    def test_saved_weights_and_the_manifest_are_what_was_shown(self, tmp_path: Path) -> None:
        found = filter_grid(conv(noise(4, 3, 3, 3)), sort="norm")
        found.save(tmp_path / "run", figures=True)
        told = json.loads((tmp_path / "run" / "manifest.json").read_text())
        np.testing.assert_array_equal(np.load(tmp_path / "run" / "arrays" / "weights.npy"), found.weights.numpy())
        assert (told["layer"], told["scale"], told["left_out"]) == ("0", "joint", 0)
        assert (tmp_path / "run" / "figure.png").exists()

    def test_the_text_names_filters_that_can_hardly_be_seen(self) -> None:
        weight = noise(3, 3, 3, 3)
        weight[1] *= 1e-4
        assert "Below 1% of the longest: 1." in filter_grid(conv(weight)).to_text()


class TestCommand:
    def test_shows_filters_and_writes_them(self, run: Any, desk: Path) -> None:  # noqa: F811
        code, out, _ = run("see", "filters", "-m", "tiny_models:make", "--sort", "norm", "--out", "run")
        assert code == 0
        assert out.startswith("conv1 (Conv2d): ")
        assert {"manifest.json", "figure.png", "arrays/weights.npy"} <= files(desk / "run")
        told = json.loads(run("see", "filters", "-m", "tiny_models:make", "--layer", "conv2", "--json")[1])
        assert told["layer"] == "conv2"

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (("--layer", "act1"), "layer must be a convolution; 'act1' is a"),
            (("--scale", "all"), "scale must be one of"),
        ],
    )
    def test_wrong_arguments_are_told_as_such(self, run: Any, words: tuple[str, ...], says: str) -> None:  # noqa: F811
        code, out, err = run("see", "filters", "-m", "tiny_models:make", *words)
        assert (code, out) == (2, "")
        assert says in err
