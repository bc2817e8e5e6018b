"""What holds for every input: drawn by Hypothesis, the same examples on every run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import METHODS, ClassScore, GuidedBackprop, Occlusion, Saliency
from attrib.core import Given, Query, Ranked, Windows, frozen, sweep
from attrib.core.objectives.objective import SPACES
from attrib.core.reduce import CHANNELS, reduce_channels, upsample
from tests import nets
from tests.made_for import ANY
from tests.oracles import gradcam
from tests.sweeps import in_order

pytestmark = pytest.mark.usefixtures("few_steps")
few = settings(max_examples=25, deadline=None, derandomize=True)
fewer = settings(few, max_examples=8)
DOUBLE = torch.float64
MODEL = nets.make("residual", DOUBLE)
sizes = st.integers(1, 12)
classes = st.integers(0, nets.CLASSES - 1)
seeds = st.integers(0, 2**20)


def noise(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


# --- masks


@st.composite
def windows(draw: st.DrawFn, edge: str | None = None) -> Windows:
    size = draw(st.tuples(sizes, sizes))
    window = draw(st.tuples(sizes, sizes))
    stride = (draw(st.integers(1, window[0])), draw(st.integers(1, window[1])))
    return Windows(size, window, stride, edge or draw(st.sampled_from(["full", "cut"])))  # type: ignore[arg-type]


def whole(masks: Any) -> Tensor:
    keep: Tensor = masks.batch(0, len(masks), torch.zeros((), dtype=DOUBLE))
    return keep


@few
@given(windows())
def test_windows_hide_every_pixel_at_least_once(masks: Windows) -> None:
    assert bool((whole(masks) == 0).any(0).all())


@few
@given(windows())
def test_every_window_hides_something_and_no_two_hide_the_same(masks: Windows) -> None:
    hidden = (whole(masks) == 0).flatten(1)
    assert bool(hidden.any(1).all())
    assert len(hidden.unique(dim=0)) == len(masks)


@few
@given(windows("full"))
def test_windows_with_full_edges_all_hide_the_same_number_of_pixels(masks: Windows) -> None:
    area = min(masks.window[0], masks.size[0]) * min(masks.window[1], masks.size[1])
    assert set((whole(masks) == 0).sum((1, 2, 3, 4)).tolist()) == {area}


@few
@given(windows())
def test_the_grid_counts_the_windows_row_by_row(masks: Windows) -> None:
    rows, columns = masks.grid
    tops = [box[0] for box in masks.boxes]
    assert rows * columns == len(masks)
    assert tops == sorted(tops)
    assert len(set(tops)) == rows


@few
@given(st.tuples(sizes, sizes), st.tuples(sizes, sizes))
def test_windows_that_step_by_their_size_partition_the_picture(size: Any, window: Any) -> None:
    assert bool(((whole(Windows(size, window, window, "cut")) == 0).sum(0) == 1).all())


@few
@given(windows(), st.integers(0, 20), st.integers(0, 20))
def test_masks_come_the_same_in_any_portions(masks: Windows, start: int, count: int) -> None:
    part = masks.batch(start, start + count, torch.zeros((), dtype=DOUBLE))
    assert torch.equal(part, whole(masks)[start : start + count])


@few
@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), seeds)
def test_ranked_masks_hide_as_many_as_asked_and_contain_the_smaller_ones(counts: list[int], seed: int) -> None:
    rank = noise(2, 12, seed=seed).argsort(1).reshape(2, 3, 4)
    counts = sorted(counts)
    keep = whole(Ranked(rank, torch.tensor(counts)))
    assert (keep == 0).sum((2, 3, 4)).tolist() == [[c, c] for c in counts]
    assert bool((keep[1:] <= keep[:-1]).all())
    assert torch.equal(whole(Ranked(rank, torch.tensor(counts), reverse=True)), 1 - keep)


# --- sweeps and occlusion


@few
@given(st.integers(1, 40), st.booleans(), st.integers(1, 3), st.sampled_from(SPACES))
def test_a_sweep_does_not_depend_on_how_it_is_cut_into_batches(rows: int, last: bool, n: int, space: Any) -> None:
    x, masks = nets.batch(n, 6, 5, dtype=DOUBLE), Windows((6, 5), (2, 2), (1, 2))
    target = ClassScore(torch.arange(n).reshape(-1, 1), space)

    def scores(**options: Any) -> Tensor:
        with frozen(MODEL):
            found = list(sweep(Query(MODEL, (x,), target), masks, **options))
        positions = [i for part, _ in found for i in part.tolist()]
        assert sorted(positions) == list(range(len(masks)))
        return in_order(found)

    assert_close(scores(batch_size=rows, channels_last=last), scores(), rtol=1e-10, atol=1e-12)


@few
@given(seeds, st.integers(1, 8))
def test_masks_of_each_example_reach_that_example_only(seed: int, rows: int) -> None:
    x, keep = nets.batch(3, 5, 4, dtype=DOUBLE), (noise(4, 3, 1, 5, 4, seed=seed) > 0).to(DOUBLE)
    with frozen(MODEL):
        scores = in_order(sweep(Query(MODEL, (x,), ClassScore(1)), Given(keep), batch_size=rows))
        expected = torch.stack([MODEL(x * k)[:, 1] for k in keep])
    assert_close(scores, expected.detach(), rtol=1e-10, atol=1e-12)


class Corner(nn.Module):
    """Looks at one rectangle only."""

    def __init__(self, box: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.top, self.bottom, self.left, self.right = box

    def forward(self, x: Tensor) -> Tensor:
        seen = x[:, :, self.top : self.bottom, self.left : self.right]
        return torch.stack([seen.square().sum((1, 2, 3)), seen.sum((1, 2, 3))], 1)


@few
@given(st.data(), st.sampled_from(["full", "cut"]), st.integers(1, 4), st.integers(1, 4))
def test_occlusion_is_zero_where_no_window_touches_what_the_model_sees(
    data: st.DataObject, edge: Any, window: int, stride: int
) -> None:
    assume(stride <= window)
    top, left = data.draw(st.integers(0, 8)), data.draw(st.integers(0, 5))
    bottom, right = data.draw(st.integers(top + 1, 9)), data.draw(st.integers(left + 1, 6))
    x = nets.batch(2, 9, 6, dtype=DOUBLE)
    maps = Occlusion(Corner((top, bottom, left, right)), window=window, stride=stride, edge=edge).attribute(x, 0)
    reach = torch.zeros(9, 6, dtype=torch.bool)
    reach[max(0, top - window + 1) : bottom + window - 1, max(0, left - window + 1) : right + window - 1] = True
    assert float(maps[:, 0, ~reach].abs().sum()) < 1e-10  # batches are summed in another order than the clean run
    assert bool((maps[:, 0, top:bottom, left:right] > 0).all())  # a sum of squares loses wherever it is hidden


# --- batches, scales


def layered(name: str, prefix: str = "") -> str | None:
    return f"{prefix}conv" if METHODS[name].needs_layer else None


@pytest.mark.parametrize("name", ANY)
@fewer
@given(order=st.permutations(range(4)), targets=st.lists(classes, min_size=4, max_size=4))
def test_reordering_the_batch_reorders_the_maps(name: str, order: list[int], targets: list[int]) -> None:
    x, method = nets.batch(4, 6, 5, dtype=DOUBLE), METHODS[name](MODEL, layered(name))
    maps = method.attribute(x[order], [targets[i] for i in order])
    assert_close(maps, method.attribute(x, targets)[order], rtol=1e-10, atol=1e-12)


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.model, self.factor = MODEL, factor

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.factor * self.model(x)
        return out


# Shares, rescaled maps and ratios of powers of the gradient are no multiples of the scores.
NOT_LINEAR = ("excitation_backprop", "extremal_perturbation", "fullgrad", "gradcam_plusplus", "meaningful_perturbation")


@pytest.mark.parametrize("name", [name for name in ANY if name not in NOT_LINEAR])
@fewer
@given(factor=st.floats(0.01, 100), target=classes)
def test_multiplying_the_scores_multiplies_the_maps(name: str, factor: float, target: int) -> None:
    x = nets.batch(2, 6, 5, dtype=DOUBLE)
    options = {"weights": "increase"} if name == "scorecam" else {}  # a softmax of scores has no scale
    plain = METHODS[name](MODEL, layered(name), **options).attribute(x, target)
    scaled = METHODS[name](Scaled(factor), layered(name, "model."), **options).attribute(x, target)
    times = factor ** (METHODS[name].uses_target + (name == "guided_gradcam"))  # which is a product of two maps
    assert_close(scaled, times * plain, rtol=1e-9, atol=1e-12 * times)


@few
@given(seeds, st.floats(0.1, 10))
def test_guided_maps_without_absolute_values_of_positive_first_weights_are_not_negative(
    seed: int, scale: float
) -> None:
    model = nets.fill(nets.Chain(), seed).double()
    model.get_parameter("conv1.weight").data.abs_()
    x = nets.batch(2, 6, 5, seed=seed, dtype=DOUBLE) * scale
    maps = GuidedBackprop(model, absolute=False, channels="none").attribute(x, 1)
    assert float(maps.min()) >= 0


# --- reductions


@few
@given(seeds, st.sampled_from(CHANNELS), st.booleans())
def test_reductions_do_not_care_for_the_order_of_channels(seed: int, channels: Any, absolute: bool) -> None:
    grad = noise(2, 4, 3, 5, seed=seed)
    order = [2, 0, 3, 1]
    once, twice = (reduce_channels(g, channels, absolute) for g in (grad, grad[:, order]))
    assert_close(twice, once[:, order] if channels == "none" else once)


@few
@given(seeds)
def test_reductions_are_bounded_by_each_other(seed: int) -> None:
    grad = noise(2, 4, 3, 5, seed=seed)
    most, mean, total, length = (reduce_channels(grad, c, True) for c in ("max", "mean", "sum", "l2"))
    assert bool(((mean <= most) & (most <= length) & (length <= total + 1e-12)).all())
    assert_close(reduce_channels(grad, "max").abs(), most)


@few
@given(seeds, sizes, sizes, st.integers(1, 30), st.integers(1, 30))
def test_resizing_is_linear_and_stays_between_the_extremes(seed: int, h: int, w: int, height: int, width: int) -> None:
    a, b = noise(1, 1, h, w, seed=seed), noise(1, 1, h, w, seed=seed + 1)
    assert_close(upsample(a - 3 * b, (height, width)), upsample(a, (height, width)) - 3 * upsample(b, (height, width)))
    resized = upsample(a, (height, width))
    assert float(resized.min()) >= float(a.min()) - 1e-12
    assert float(resized.max()) <= float(a.max()) + 1e-12


@few
@given(seeds, sizes, sizes, st.integers(1, 30), st.integers(1, 30))
def test_resizing_is_bilinear_in_both_directions(seed: int, h: int, w: int, height: int, width: int) -> None:
    picture = noise(1, 1, h, w, seed=seed)
    expected = torch.from_numpy(gradcam.bilinear(picture[0, 0].numpy(), height, width))
    assert_close(upsample(picture, (height, width))[0, 0], expected)


@few
@given(classes, seeds)
def test_gradients_of_a_difference_are_the_difference_of_gradients(target: int, seed: int) -> None:
    x, method = nets.batch(2, 5, 4, seed=seed, dtype=DOUBLE), Saliency(MODEL, channels="none", absolute=False)
    difference = method.attribute(x, ClassScore(target) - ClassScore(0))
    assert_close(difference, method.attribute(x, target) - method.attribute(x, 0), rtol=1e-9, atol=1e-12)
