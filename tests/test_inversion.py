"""Feature inversion: what can be recovered is, and what is told of the rest."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attrib.core import count
from attrib.core.synth import Fourier, Move, PixelSpace, Step
from attrib.errors import InputError, LayerError, ShapeError, TargetError
from attrib.plot.synthesis import traces
from attrib.synthesis import Inversion, Prior, invert
from tests import nets, tiny
from tests.test_cli import desk, files, run  # noqa: F401  fixtures

SPACE = PixelSpace(0.5, 0.5)


def photo(seed: int = 0) -> Tensor:
    return SPACE.to_input(torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(seed)))


def orthogonal() -> nn.Sequential:
    """Colours turned, pixels put apart: nothing is lost until the last layer, which forgets one channel of three."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        turn = nn.Conv2d(3, 3, 1)
        turn.weight.data = torch.linalg.qr(torch.randn(3, 3))[0][..., None, None]
        lose = nn.Conv2d(3, 2, 1)
    return nn.Sequential(turn, nn.PixelUnshuffle(2), nn.PixelShuffle(2), lose).eval()


def quick(layers: Any, net: nn.Module | None = None, **how: Any) -> Inversion:
    return invert(net or nets.make("module"), photo(), layers, **{"pixels": SPACE, "steps": 20, **how})


def test_an_invertible_layer_gives_the_picture_back_and_a_lossy_one_does_not() -> None:
    how = {"steps": 150, "prior": Prior(0, bound=0)}
    found = quick(["0", "2", "3"], orthogonal(), **how)
    for i in range(2):
        torch.testing.assert_close(found.pictures[i], found.original, atol=2e-3, rtol=0)
    assert float(found.psnr[0]) > 50
    assert float(found.error[-1, 2]) < 1e-4
    assert float((found.pictures[2] - found.original).abs().max()) > 0.1


def test_the_error_is_the_distance_of_the_features() -> None:
    net = nets.make("module")
    found = quick(["conv1", "conv2"], net)
    for i, part in enumerate([net.conv1, lambda x: net.conv2(net.pool(net.act1(net.conv1(x))))]):  # type: ignore[union-attr, operator]
        with torch.no_grad():
            wanted, got = part(photo()), part(SPACE.to_input(found.pictures[i : i + 1]))  # type: ignore[operator]
        distance = float((got - wanted).square().sum() / wanted.square().sum())
        assert float(found.error[-1, i]) == pytest.approx(distance, rel=1e-3)
    assert (found.error[-1] < found.error[0]).all()


def test_layers_of_a_series_are_searched_alone_and_a_group_together() -> None:
    series = quick(["conv1", ("conv1", "conv2")])
    torch.testing.assert_close(series.pictures[:1], quick("conv1").pictures)
    assert series.layers == ("conv1", "conv1 + conv2")
    alone = invert(nets.make("module"), photo(), [["conv1", "conv2"]], pixels=SPACE, steps=20)
    torch.testing.assert_close(series.pictures[1:], alone.pictures)


def test_weights_are_those_of_the_page_and_zero_leaves_one_out() -> None:
    smooth, norm = Prior(2.0, 3.0, 0.5, 4.0).penalties(torch.zeros(1, 3, 4, 5))
    assert smooth.weight == pytest.approx(2.0 / (60 * (2.5 / 6.5) ** 3))
    assert norm.weight == pytest.approx(0.5 / (60 * 2.5**4))
    assert [type(one).__name__ for one in Prior(0).penalties(photo())] == ["AlphaNorm"]


def test_more_variation_gives_a_smoother_picture() -> None:
    def variation(found: Inversion) -> float:
        return float(found.pictures.diff(dim=-1).abs().mean())

    assert variation(quick("conv2", prior=Prior(30.0))) < variation(quick("conv2", prior=Prior(0.0)))


def test_a_mask_forgets() -> None:
    mask = torch.zeros(1, 3, 10, 10)
    mask[..., :5] = 1.0
    found = quick("0", orthogonal(), mask=mask, steps=150, prior=Prior(0, bound=0))
    away = (found.pictures[0] - found.original).abs()
    assert float(away[..., :5].max()) < 5e-3
    assert float(away[..., 5:].max()) > 0.1


def test_of_all_restarts_the_best_one_is_kept() -> None:
    found = quick(["conv1", "conv2"], restarts=3, seed=5)
    assert found.restarts.shape == (3, 2)
    torch.testing.assert_close(found.error[-1], found.restarts.amin(0))
    torch.testing.assert_close(quick(["conv1", "conv2"], seed=6).error[-1], found.restarts[1])


def test_searches_of_any_length_come_together_and_ctrl_c_ends_them() -> None:
    seen = list[Step]()

    def stop(step: Step) -> bool:
        seen.append(step)
        return len(seen) in (2, 10)

    found = quick(["conv1", "conv2"], restarts=2, steps=5, on_step=stop)
    assert found.stopped == "asked"
    assert [[len(one.score) for one in restart] for restart in found.searches] == [[2, 6], [3, 6]]
    assert found.error.shape[1] == 2
    torch.testing.assert_close(found.error[-1], found.restarts.amin(0))

    def interrupt(step: Step) -> None:
        if step.number == 1:
            raise KeyboardInterrupt

    found = quick(["conv1", "conv2"], restarts=2, on_step=interrupt)
    assert found.stopped == "interrupted"
    assert [[len(one.score) for one in restart] for restart in found.searches] == [[2, 1], [1, 1]]


def test_a_shallow_layer_costs_no_pass_of_the_deep_ones() -> None:
    net = nets.make("module")
    with count() as cost:
        quick(["conv1", "conv2"], net, steps=4)
    assert (cost.forwards, cost.backwards) == (1 + 2 * 6, 2 * 4)
    runs = list[int]()
    net.conv2.register_forward_hook(lambda *_: runs.append(1))  # type: ignore[union-attr]
    quick("conv1", net, steps=4)
    assert len(runs) == 1  # for the features that are sought


def test_inputs_follow_the_network() -> None:
    found = invert(nets.make("module").double(), photo(), "conv1", pixels=SPACE, steps=2)
    assert found.pictures.dtype == torch.float64


def test_psnr_and_ssim_of_the_pictures() -> None:
    pytest.importorskip("skimage")
    found = quick("conv1")
    error = float((found.pictures[0] - found.original).square().mean())
    assert float(found.psnr[0]) == pytest.approx(-10 * math.log10(error), rel=1e-4)
    assert -1 <= float(found.ssim[0]) < 1


def test_the_figure_and_the_words() -> None:
    found = quick(["conv1", "conv2"])
    assert [ax.get_title().split(",")[0] for ax in found.plot().axes] == ["original", "conv1", "conv2"]
    assert [line.split()[0] for line in found.to_text().splitlines()[1:]] == ["conv1", "conv2"]


def test_the_lines_of_layers_whose_names_begin_with_an_underscore_are_named_too() -> None:
    legend = traces({"_blocks.0": torch.arange(3.0), "conv": torch.arange(3.0)}, log=True).get_legend()
    assert legend is not None
    assert [text.get_text().strip() for text in legend.get_texts()] == ["_blocks.0", "conv"]


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"layers": []}, InputError, "at least one layer"),
        ({"layers": "nowhere"}, LayerError, "nowhere"),
        ({"prior": Prior(1.0, beta=0.5)}, InputError, "beta must be"),
        ({"prior": Prior(-1.0)}, InputError, "weight must be"),
        ({"restarts": 0}, InputError, "restarts must be"),
        ({"layers": ["conv1", []]}, InputError, "at least one layer for each picture"),
        ({"mask": torch.ones(1, 9, 2, 2)}, ShapeError, r"mask must broadcast to the features of 'conv1', \(1, 4"),
        ({"mask": torch.zeros(1)}, TargetError, "must not all be 0"),
        ({"variation": 3}, TypeError, "search has no option 'variation'"),
    ],
)
def test_bad_input_is_refused(how: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        quick(how.pop("layers", "conv1"), **how)


def test_one_picture_at_a_time() -> None:
    with pytest.raises(InputError, match="inputs"):
        invert(nets.make("module"), torch.rand(2, 3, 10, 10), "conv1", pixels=SPACE)


def test_only_pictures_can_be_inverted() -> None:
    for bad, message in (
        (9 * photo(), r"pixels in \[0, 1\]"),
        (photo() * torch.nan, "must be finite"),
        ("photo.png", "must be a Tensor"),
    ):
        with pytest.raises(InputError, match=message):
            invert(nets.make("module"), bad, "conv1", pixels=SPACE)  # type: ignore[arg-type]


def test_features_of_zero_are_sought_when_they_need_not_be_normalised() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())
    with torch.no_grad():
        net[0].bias.fill_(-9.0)  # type: ignore[union-attr, operator]
    with pytest.raises(TargetError, match="Pass normalised=False"):
        quick("1", net)
    assert float(quick("1", net, normalised=False).error[-1, 0]) == 0.0


def test_other_parameters_and_moves() -> None:
    found = quick("conv1", parameters=Fourier(SPACE), move=Move(0.02, optimiser="adam"), steps=40)
    assert float(found.error[-1]) < float(found.error[0])


def test_the_command_writes_a_picture_for_each_layer(run: Any, desk: Path) -> None:  # noqa: F811
    how = ("-m", "tiny_models:make", "--layer", "conv1", "--layer", "conv1+conv2", "--steps", "3", "--out", "run")
    code, out, err = run("see", "inversion", "photos/a.png", *how, "--variation", "0.1", "--seed", "2")
    assert code == 0, err
    assert out.splitlines()[0].split()[0] == "layer"
    told = json.loads((desk / "run" / "manifest.json").read_text())
    assert told["layers"] == ["conv1", "conv1 + conv2"]
    loaded = tiny.loaded()
    from attrib.io import load_image

    x = loaded.inputs(load_image(desk / "photos" / "a.png"))
    found = invert(loaded, x, ["conv1", ["conv1", "conv2"]], prior=Prior(0.1), steps=3, seed=2)
    np.testing.assert_allclose(np.load(desk / "run" / "arrays" / "pictures.npy"), found.pictures.numpy(), atol=1e-5)
    assert {"figure.png", "pictures/conv1.png", "pictures/conv1_+_conv2.png"} < files(desk / "run")
