"""Random small networks, masks, baselines and goals: a sweep gives what the model itself gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from attrib.core import Channel, ClassScore, Neuron, Windows, resolve_baseline
from attrib.core.masking.masks import Given, Masks
from attrib.core.objectives.objective import SPACES
from tests import nets
from tests.architectures import ACTIVATIONS, CHANNELS, GLOBAL, HEADS, LOCAL, build
from tests.incremental import TOLERANCE, agrees, ask, class_score, largest_logit, loop, squares

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
QUICK = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
BLOCKS = st.lists(st.sampled_from([*LOCAL, *ACTIVATIONS, *GLOBAL]), min_size=1, max_size=3)
LOCAL_BLOCKS = st.lists(st.sampled_from([*LOCAL, *ACTIVATIONS]), min_size=1, max_size=3)
SIZES = st.tuples(st.integers(17, 30), st.integers(17, 30))
DTYPES = st.sampled_from([torch.float64, torch.float32])
BASELINES = st.sampled_from(["zero", "mean", "blur", 0.7, "per channel", "image", "images", "plane", "of the input"])


def baseline(kind: Any, x: Tensor) -> Any:
    noise = nets.batch(len(x), *x.shape[2:], channels=x.shape[1], seed=9, dtype=x.dtype)
    made = {
        "per channel": noise.mean((0, 2, 3))[:, None, None],
        "image": noise[0],
        "images": noise,
        "plane": noise[0, 0],
        "of the input": lambda given: given.flip(3),
    }
    return made.get(kind, kind)


@st.composite
def mask_sets(draw: st.DrawFn, size: tuple[int, int], n: int) -> Masks:
    kind = draw(st.sampled_from(["windows", "cut", "squares", "of examples", "of channels", "segments", "odd"]))
    seed = draw(st.integers(0, 99))
    if kind in {"windows", "cut"}:
        window = (draw(st.integers(2, 6)), draw(st.integers(2, 6)))
        stride = tuple(draw(st.integers(2, side)) for side in window)
        return Windows(size, window, (stride[0], stride[1]), "full" if kind == "windows" else "cut")
    if kind == "segments":
        return segments(size, seed)
    many = {"of examples": {"n": n}, "of channels": {"n": n, "c": 3}}.get(kind, {})
    found = squares(size, 10, draw(st.integers(1, 6)), seed, **many).keep
    if kind == "odd":
        found[0], found[1], found[2, ..., 3:5, :] = 1, 0, 0.25  # nothing, everything, and a veil over whole rows
    return Given(found)


def segments(size: tuple[int, int], seed: int) -> Given:
    """Regions of irregular shape: the pixels that are nearest to one of some places."""
    places = torch.rand(12, 2, generator=torch.Generator().manual_seed(seed)) * torch.tensor(size)
    pixels = torch.cartesian_prod(*(torch.arange(length) for length in size)).float()
    nearest = torch.cdist(pixels, places).argmin(1).reshape(size)
    return Given(torch.stack([nearest != i for i in nearest.unique()]).double()[:, None, None])


def goals(n: int) -> dict[str, Any]:
    return {
        "class": 3,
        "classes": [2, 0, 4][:n],
        "predicted": "predicted",
        "callable": lambda out: out[:, 1] * out[:, 2],
        "contrast": ClassScore(0) - 2 * ClassScore(4),
        "probability and channel": ClassScore(1, "log_odds") + Channel("last", 2),
        "channel": Channel("stem", 1, "max"),
        "channel later": Channel("last", 0, "sum"),
        "strongest neuron": Neuron("blocks.0", 1) if n == 1 else Neuron("last", 1),
        "neuron": Neuron("last", 0, 0, 0),
        **{space: ClassScore([1, 3, 2][:n], space) for space in SPACES},
    }


@given(st.data(), BLOCKS, st.sampled_from([*HEADS]), SIZES, st.integers(1, 3), BASELINES, DTYPES)
@QUICK
def test_random_networks_give_what_the_model_gives(
    data: Any, blocks: list[str], head: str, size: tuple[int, int], n: int, base: Any, dtype: Any
) -> None:
    model, x = build(*blocks, head=head, dtype=dtype), nets.batch(n, *size, dtype=dtype)
    masks = data.draw(mask_sets(size, n))
    target = data.draw(st.sampled_from([*goals(n)]))
    rows = data.draw(st.sampled_from(["auto", 1, 3, 50]))
    way = agrees(model, x, masks, goals(n)[target], baseline=baseline(base, x), batch_size=rows)
    assert way in {"local", "replayed"} or len(masks) * n < 8


@given(LOCAL_BLOCKS, SIZES, st.integers(1, 3), DTYPES)
@QUICK
def test_local_networks_are_computed_in_windows(blocks: list[str], size: tuple[int, int], n: int, dtype: Any) -> None:
    model, x = build(*blocks, dtype=dtype), nets.batch(n, *size, dtype=dtype)
    assert agrees(model, x, squares(size, 8, 1), baseline=2.0) == "local"


@given(st.data(), BLOCKS, SIZES, st.integers(1, 2), BASELINES, st.sampled_from(SPACES))
@settings(QUICK, max_examples=25)
def test_random_networks_agree_with_a_loop_over_masks_and_examples(
    data: Any, blocks: list[str], size: tuple[int, int], n: int, base: Any, space: Any
) -> None:
    model, x = build(*blocks), nets.batch(n, *size, dtype=torch.float64)
    masks = data.draw(mask_sets(size, n))
    filled = baseline(base, x)
    found = ask(model, x, masks, ClassScore(2, space), baseline=filled, verify=0)
    keep = masks.batch(0, len(masks), x)
    expected = loop(model, x, keep, resolve_baseline(filled, x), class_score(2, space))
    scale = max(largest_logit(model, x), float(expected.abs().max()))
    assert (found - expected).abs().max() <= TOLERANCE[x.dtype] * scale


PLACES = ["stem", "stem@input", "blocks.0", "blocks.0@input", "blocks.1", "blocks.1@input", "last", "last@input"]


@given(st.data(), st.tuples(*[st.sampled_from([*LOCAL, *GLOBAL])] * 2), SIZES, st.integers(1, 2), DTYPES)
@QUICK
def test_random_networks_agree_when_a_layer_is_hidden(
    data: Any, blocks: tuple[str, ...], size: tuple[int, int], n: int, dtype: Any
) -> None:
    model, x = build(*blocks, dtype=dtype), nets.batch(n, *size, dtype=dtype)
    at = data.draw(st.sampled_from(PLACES))
    with torch.no_grad():
        shape = activation(model, x, at).shape
    base = data.draw(st.sampled_from(["zero", "mean", "images"]))
    masks = squares(
        (shape[2], shape[3]), 9, 2, data.draw(st.integers(0, 9)), c=data.draw(st.sampled_from([1, shape[1]]))
    )
    filled = torch.ones(shape, dtype=dtype) if base == "images" else base
    assert agrees(model, x, masks, 1, at=at, baseline=filled) in {"local", "replayed"}


def activation(model: Any, x: Tensor, at: str) -> Tensor:
    from attrib.core import capture

    with capture(model, at) as acts:
        model(x)
    return acts[at]


def test_channels_of_layers_are_masked_one_by_one() -> None:
    model, x = build("residual"), nets.batch(2, 18, 20, dtype=torch.float64)
    keep = torch.ones(CHANNELS, 1, CHANNELS, 18, 20)
    keep[range(CHANNELS), 0, range(CHANNELS)] = 0
    assert agrees(model, x, Given(keep), at="stem") == "replayed"
