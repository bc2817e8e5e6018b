"""DeepDream: octave by octave as the published script does it, guided, in tiles, as a movie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from attrib.core import Channel
from attrib.core.objectives.features import Energy
from attrib.core.synth import Fourier, Jitter, PixelSpace, Step
from attrib.errors import InputError, LayerError, MissingDependency
from attrib.synthesis import Dream, dream
from tests import tiny
from tests.oracles import synth as oracle
from tests.test_cli import desk, files, run  # noqa: F401  fixtures

SPACE = PixelSpace(0.4, 0.3)


def body() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1), nn.ReLU()).eval()


def photo(high: int = 34, wide: int = 26, seed: int = 0) -> Tensor:
    smooth = torch.rand(1, 3, high // 3 + 1, wide // 3 + 1, generator=torch.Generator().manual_seed(seed))
    return SPACE.to_input(F.interpolate(smooth, (high, wide), mode="bilinear"))


def quick(layer: Any = "2", image: Any = None, **how: Any) -> Dream:
    return dream(
        body(), photo() if image is None else image, layer, **{"pixels": SPACE, "octaves": 2, "steps": 3, **how}
    )


def test_is_the_published_script_octave_by_octave() -> None:
    net, x = body(), photo()
    found = quick(seed=4)
    detail = torch.zeros(1, 3, 24, 19)
    for frame, size in zip(found.frames, [(24, 19), (34, 26)], strict=True):
        draws = torch.Generator().manual_seed(4)
        shifts = [tuple(torch.randint(-32, 33, (2,), generator=draws).tolist()) for _ in range(3)]
        octave = x if size == (34, 26) else F.interpolate(x, size, mode="bilinear", antialias=True)
        if detail.shape[2:] != size:
            detail = F.interpolate(detail, size, mode="bilinear", antialias=True)
        low, high = float(SPACE.to_input(torch.zeros(()))), float(SPACE.to_input(torch.ones(())))
        made = oracle.dream_octave(net[:3], octave + detail, 0.03, shifts, low, high)  # type: ignore[arg-type]
        torch.testing.assert_close(frame, SPACE.to_picture(made)[0], atol=1e-5, rtol=1e-5)
        detail = made - octave
    assert torch.equal(found.picture, found.frames[-1])


def test_every_octave_raises_what_is_asked_for() -> None:
    found = quick(octaves=3, steps=5, scale=1.2)
    assert [len(score) for score in found.score] == [6, 6, 6]
    assert all(score[-1] > score[0] for score in found.score)
    assert [tuple(frame.shape[1:]) for frame in found.frames] == [(20, 15), (26, 20), (34, 26)] or len(
        found.frames
    ) == 3
    assert [line.split()[0] for line in found.to_text().splitlines()[3:]] == ["1", "2", "3"]
    assert len(found.plot().axes) == 3


def test_several_layers_add_up_and_any_objective_can_be_dreamt_of() -> None:
    both, sum_of = quick(["0", "2"]), quick(Energy("0") + Energy("2"))
    torch.testing.assert_close(both.picture, sum_of.picture)
    assert both.asked == "energy of 0 + 2"
    assert not torch.allclose(quick(Channel("2", 1)).picture, both.picture)


def test_a_unit_or_a_class_can_be_dreamt_of() -> None:
    torch.testing.assert_close(quick("2:1").picture, quick(Channel("2", 1)).picture)
    found = dream(tiny.loaded(), tiny.picture(size=(40, 30)), 2, octaves=1, steps=2)
    assert found.asked == "2"
    assert found.score[0][-1] > found.score[0][0]


def test_one_channel_other_dtypes_and_plain_functions() -> None:
    net = nn.Conv2d(1, 2, 3)
    found = dream(nn.Sequential(net), tiny.picture(size=(40, 30)), "0", pixels=SPACE, octaves=1, steps=1)
    assert found.picture.shape == (1, 30, 40)
    double = body().double()
    assert quick("2").picture.dtype == torch.float32
    assert dream(double, photo(), "2", pixels=SPACE, octaves=1, steps=1).picture.dtype == torch.float64
    seen = dream(
        lambda x: double(x).mean((2, 3)), photo().double(), 1, pixels=SPACE, octaves=1, steps=1, seed=1
    )  # a function has no weights that tell a dtype
    assert seen.picture.dtype == torch.float64


def test_a_guide_makes_features_like_its_own() -> None:
    guide = photo(20, 20, seed=9)
    found = quick(guide=guide, octaves=1, steps=20)
    net = body()

    def alike(picture: Tensor) -> float:
        with torch.no_grad():
            one, other = (net[:3](SPACE.to_input(p)).flatten(2)[0] for p in (picture[None], SPACE.to_picture(guide)))
        return float((one.T @ other).amax(1).sum())

    assert alike(found.picture) > alike(SPACE.to_picture(photo())[0])
    assert found.asked == "features of the guide at 2"


def test_tiles_bound_what_a_pass_sees() -> None:
    net, sizes = body(), list[int]()
    net[0].register_forward_hook(lambda _, args, __: sizes.append(max(args[0].shape[2:])))
    found = dream(net, photo(), "2", pixels=SPACE, octaves=2, steps=2, tile=17)
    assert max(sizes) <= 17
    assert all(score[-1] > score[0] for score in found.score)


def test_a_picture_keeps_its_size_and_a_network_with_a_head_dreams_too() -> None:
    found = dream(tiny.loaded(), tiny.picture(size=(40, 30)), "conv1", octaves=2, steps=1)
    assert found.picture.shape == (3, 30, 40)


def test_ctrl_c_keeps_the_octaves_that_are_there() -> None:
    seen = list[Step]()

    def interrupt(step: Step) -> None:
        seen.append(step)
        if len(seen) == 5:
            raise KeyboardInterrupt

    found = quick(octaves=2, on_step=interrupt)
    assert found.stopped == "interrupted"
    assert len(found.frames) == 2
    assert len(found.score[1]) < 4


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"octaves": 4}, InputError, "octaves must leave 16 pixels to the smallest picture; got 4 of scale 1.4"),
        ({"octaves": 0}, InputError, "octaves must be"),
        ({"scale": 1.0}, InputError, "scale must be above 1; got 1.0"),
        ({"layer": ["0", "2"], "guide": photo()}, InputError, "one layer where there is a guide"),
        ({"layer": Energy("2"), "guide": photo()}, InputError, "guide must be left out"),
        ({"layer": "9"}, LayerError, "9"),
        ({"parameters": Fourier()}, InputError, "projections|parameters"),
        ({"image": torch.rand(2, 3, 20, 20)}, InputError, "image"),
        ({"image": 9 * photo()}, InputError, r"pixels in \[0, 1\]"),
        ({"layer": []}, InputError, "at least one layer"),
        ({"layer": "2:1", "guide": photo()}, InputError, "guide must be left out"),
        ({"octave": 3}, TypeError, "search has no option 'octave'"),
    ],
)
def test_bad_input_is_refused(how: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        quick(**how)


class TestMovie:
    def test_a_gif_shows_every_octave_at_the_size_of_the_last(self, tmp_path: Path) -> None:
        pytest.importorskip("imageio")
        found = quick(views=(Jitter(2),))
        path = found.movie(tmp_path / "dream.gif", seconds=0.2)
        with Image.open(path) as film:
            assert film.n_frames == 2
            assert film.size == (26, 34)
            assert film.info["duration"] == 200
            film.seek(1)
            last = np.asarray(film.convert("RGB"), float) / 255
        assert np.abs(last - found.picture.permute(1, 2, 0).numpy()).mean() < 0.05  # of 256 colours

    def test_other_files_are_refused_and_what_is_missing_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = quick(steps=0)
        with pytest.raises(InputError, match=r"suffix must be .*got '\.avi'"):
            found.movie(tmp_path / "dream.avi")
        monkeypatch.setitem(__import__("sys").modules, "imageio.v2", None)
        with pytest.raises(MissingDependency, match=r"attrib\[movie\]"):
            found.movie(tmp_path / "dream.gif")


def test_the_command_writes_the_dream(run: Any, desk: Path) -> None:  # noqa: F811
    pytest.importorskip("imageio")
    tiny.picture(size=(40, 30)).save(desk / "large.png")
    how = ("-m", "tiny_models:make", "--layer", "conv1", "--octaves", "2", "--steps", "1", "--out", "run")
    code, out, err = run("see", "dream", "large.png", *how, "--movie", "dream.gif", "--rate", "0.1")
    assert code == 0, err
    assert out.startswith("energy of conv1")
    told = json.loads((desk / "run" / "manifest.json").read_text())
    assert told["asked"] == "energy of conv1"
    assert {"figure.png", "pictures/dream.png", "arrays/picture.npy", "arrays/frames.0.npy"} < files(desk / "run")
    assert (desk / "dream.gif").is_file()
    code, _, err = run("see", "dream", "large.png", *how[:4], "--guide", "large.png", "--octaves", "1", "--steps", "1")
    assert code == 0, err
    code, _, err = run("see", "dream", "large.png", *how[:4], "--octaves", "9")
    assert code == 2
    assert "Take fewer" in err
