"""Objects cut out by the colours that a map points at: known discs, an independent graph cut, bad maps, overlaps."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from attrib.analysis import agreement, segment
from attrib.analysis.segments.agreement import boxes_of, centre_box
from attrib.analysis.segments.segment import _Cut, _largest, _seeds
from attrib.errors import InputError, MissingDependency, ShapeError
from attrib.plot.segment import FOREGROUND, OVER, localisation_curve, segment_panels
from tests.oracles import segment as oracle

cv2 = pytest.importorskip("cv2")
SIDE = 32


def disc(y: float = 14, x: float = 18, radius: float = 8) -> Tensor:
    rows, columns = torch.arange(SIDE)[:, None], torch.arange(SIDE + 4)[None]
    return (rows - y).square() + (columns - x).square() < radius**2


def photo(mask: Tensor, seed: int = 0) -> Image.Image:
    """Light red on green, both noisy."""
    source = np.random.default_rng(seed)
    inside, outside = np.array([220, 120, 110]), np.array([60, 90, 50])
    colours = np.where(mask.numpy()[..., None], inside, outside) + source.normal(0, 12, (*mask.shape, 3))
    return Image.fromarray(colours.clip(0, 255).astype(np.uint8))


def rough(mask: Tensor, seed: int = 0) -> Tensor:
    """A map that points at some of the object only, and is noisy: ``(1, 1, h, w)``."""
    source = torch.Generator().manual_seed(seed)
    shown = mask & (torch.rand(mask.shape, generator=source) < 0.3)
    return (shown + 0.2 * torch.rand(mask.shape, generator=source))[None, None].double()


class TestCut:
    def test_the_object_is_found_whole_from_a_map_that_shows_little_of_it(self) -> None:
        true = disc()
        found = segment(rough(true), [photo(true)])
        assert torch.equal(found.masks[0], true)
        assert found.boxes.tolist() == [[11, 7, 26, 22]]
        assert float(found.area[0]) == pytest.approx(float(true.double().mean()))
        assert found.shares.shape == (1, 6)

    @pytest.mark.parametrize("seed", range(4))
    def test_a_single_cut_is_that_of_scipys_maximum_flow(self, seed: int) -> None:
        """With the models that OpenCV learnt: contrast weight 50, eight neighbours, no pixel held."""
        source = np.random.default_rng(seed)
        means = np.full((9, 11, 1), 170.0)
        means[2:7, 3:8] = 90  # colours overlap
        picture = source.normal(means, 30, (9, 11, 3)).clip(0, 255).astype(np.uint8)
        values = np.where(np.arange(99).reshape(9, 11) % 7 == 0, 0.0, source.random((9, 11)))
        values[2:7, 3:8] += 1
        seeds = _seeds(values, 0.3, 0.8, "map")
        cut = _Cut(cv2, 0, False, 0)
        cv2.setRNGSeed(0)
        models = [one[0] for one in cut._learnt(picture, seeds)]
        mask, shares = cut(picture, seeds)
        np.testing.assert_array_equal(mask, oracle.cut(picture, *models))
        assert 0 < shares[0] < 1

    def test_the_colours_are_learnt_from_the_seeds_alone(self) -> None:
        true = disc()
        picture = np.array(photo(true))
        seeds = _seeds(rough(true)[0, 0].numpy(), 0.3, 0.95, "map")
        _, model = (one[0] for one in _Cut(cv2, 0, False, 0)._learnt(picture, seeds))
        weights, means = model[:5], model[5:20].reshape(5, 3)
        np.testing.assert_allclose((weights[:, None] * means).sum(0), picture[seeds == 1].mean(0), rtol=1e-6)

    def test_seeds_that_are_held_stay_and_others_may_be_overruled(self) -> None:
        true = disc()
        map = rough(true)
        map[0, 0, 0, :8] = 5.0  # points at the background, too
        held, free = (segment(map, [photo(true)], fixed=fixed, iterations=1) for fixed in (True, False))
        assert torch.equal(free.masks[0], true)
        background = held.seeds[0] == 0
        assert bool((background & true).any())
        assert not bool(held.masks[0][background].any())

    def test_rounds_of_grabcut_learn_from_the_last_cut(self) -> None:
        true = disc()
        few = torch.zeros(1, 1, SIDE, SIDE + 4)
        few[0, 0, 10:14, 14:20] = torch.rand(4, 6, generator=torch.Generator().manual_seed(0)) + 1
        few[0, 0, :2] = -torch.rand(2, SIDE + 4, generator=torch.Generator().manual_seed(1))
        how: dict[str, Any] = {"quantiles": (0.03, 0.985)}
        one, more = (segment(few, [photo(true, 2)], iterations=n, **how) for n in (0, 4))
        assert one.shares.shape == (1, 1)
        assert more.shares[0, 0] == one.shares[0, 0]
        assert torch.equal(more.masks[0], true)

    @pytest.mark.parametrize("connectivity", [4, 8])
    @settings(deadline=None, max_examples=30)
    @given(seed=st.integers(0, 10_000))
    def test_the_largest_component_is_that_of_a_flood(self, connectivity: int, seed: int) -> None:
        mask = np.random.default_rng(seed).random((7, 9)) < 0.45
        found = _largest(cv2, mask, connectivity)
        assert found.sum() == oracle.largest(mask, connectivity)
        assert oracle.largest(found, connectivity) == found.sum()
        assert not (found & ~mask).any()

    def test_components_touch_through_corners_with_eight_neighbours_only(self) -> None:
        mask = np.zeros((4, 4), dtype=bool)
        mask[:2, :2] = mask[2:, 2:] = True
        assert _largest(cv2, mask, 8).sum() == 8
        assert _largest(cv2, mask, 4).sum() == 4

    def test_nothing_in_the_foreground_is_an_empty_mask_with_no_box(self) -> None:
        source = np.random.default_rng(0)
        picture = Image.fromarray(np.full((SIDE, SIDE, 3), 90, np.uint8))
        found = segment(torch.from_numpy(source.random((1, 1, SIDE, SIDE))), [picture])
        assert float(found.area[0]) in {0.0, 1.0}  # one colour: a cut can but call all of it the same
        assert bool(found.shares[0, 1:].isnan().all())
        assert found.boxes.tolist() == ([[0, 0, 0, 0]] if float(found.area[0]) == 0 else [[0, 0, SIDE, SIDE]])
        if float(found.area[0]) == 0:
            assert "Next to nothing was found in picture 0: what the map points at" in found.to_text()
            assert segment_panels(found).axes[2].get_title() == "nothing to cut out"


class TestConventions:
    def test_grey_pictures_are_three_equal_channels(self) -> None:
        true = disc()
        grey = photo(true).convert("L")
        one, other = (segment(rough(true), [form]) for form in (grey, grey.convert("RGB")))
        assert torch.equal(one.masks, other.masks)
        assert torch.equal(one.masks[0], true)

    def test_every_form_of_a_picture_will_do(self) -> None:
        true = disc()
        image = photo(true)
        array = np.array(image)
        tensor = torch.from_numpy(array).permute(2, 0, 1) / 255
        forms: list[Any] = [image, [image], [array], [tensor], tensor[None]]
        assert all(torch.equal(segment(rough(true), form).masks[0], true) for form in forms)

    def test_maps_are_resized_bilinearly_before_the_quantiles_count(self) -> None:
        true = disc()
        coarse = torch.nn.functional.avg_pool2d(true[None, None].double(), 4)
        found = segment(coarse, [photo(true)])
        grown = torch.nn.functional.interpolate(coarse, true.shape, mode="bilinear")[0, 0]
        assert torch.equal(found.seeds[0] == 1, grown >= grown.flatten().quantile(0.95))
        assert torch.equal(found.masks[0], true)

    def test_zeros_of_a_rectified_map_are_all_background(self) -> None:
        true = disc()
        map = torch.where(true, rough(true), 0.0)
        seeds = segment(map, [photo(true)]).seeds[0]
        assert torch.equal(seeds == 0, map[0, 0] == 0)

    def test_pictures_do_not_depend_on_each_other_nor_on_what_opencv_drew_before(self) -> None:
        masks = [disc(), disc(10, 10, 6)]
        maps, images = torch.cat([rough(one) for one in masks]), [photo(one) for one in masks]
        together = segment(maps, images, names=["a", "b"])
        cv2.setRNGSeed(77)
        cv2.randu(np.zeros((4, 4)), 0, 1)
        alone = segment(maps[1:], images[1:])
        assert torch.equal(together.masks[1:], alone.masks)
        assert torch.equal(together.shares[1:], alone.shares)

    def test_maps_pictures_and_torchs_random_state_are_left_as_found(self) -> None:
        true = disc()
        map, array = rough(true), np.array(photo(true))
        before = map.clone(), array.copy(), torch.get_rng_state()
        segment(map, [array])
        assert torch.equal(map, before[0])
        np.testing.assert_array_equal(array, before[1])
        assert torch.equal(torch.get_rng_state(), before[2])


class TestArguments:
    @pytest.mark.parametrize(
        ("change", "error", "says"),
        [
            ({"maps": torch.ones(1, 1, 8, 8)}, InputError, "map of picture 0 must tell places apart; its 30% and 95%"),
            (
                {"maps": (disc(5, 5, 2)[None, None]).float()},
                InputError,
                "quantiles are both 0. A constant map has no foreground",
            ),
            ({"quantiles": (0.3, 0.998)}, InputError, "must have at least 5 foreground pixels, .* got 3"),
            ({"quantiles": (0.0, 0.95)}, InputError, "must have at least 5 background pixels, .* got 1"),
            ({"quantiles": (0.9, 0.3)}, InputError, r"quantiles must be \(background, foreground\) with 0 <= first"),
            ({"quantiles": 0.5}, InputError, "quantiles must be"),
            ({"maps": torch.full((1, 1, 8, 8), float("nan"))}, InputError, "maps must be finite"),
            ({"maps": torch.rand(1, 3, 8, 8)}, ShapeError, "maps must have shape"),
            ({"maps": torch.rand(2, 1, 8, 8)}, ShapeError, r"maps must have shape \(N=1, 1, H, W\)"),
            ({"maps": np.zeros((1, 1, 8, 8))}, InputError, "maps must be a Tensor"),
            ({"images": []}, InputError, "images must hold at least one picture"),
            ({"images": [photo(disc()), photo(disc()).resize((9, 9))]}, ShapeError, "images must have one size"),
            ({"iterations": -1}, InputError, "iterations must be an integer >= 0"),
            ({"connectivity": 6}, InputError, "connectivity must be one of 4, 8; got 6"),
            ({"seed": 0.5}, InputError, "seed must be an integer"),
            ({"names": ["a", "b"]}, InputError, "names must be one for each of 1 pictures; got 2"),
        ],
    )
    def test_what_cannot_be_cut_is_refused(self, change: dict[str, Any], error: Any, says: str) -> None:
        how: dict[str, Any] = {"maps": rough(disc()), "images": [photo(disc())]} | change
        with pytest.raises(error, match=says):
            segment(**how)

    def test_without_opencv_it_is_said_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cv2", None)
        with pytest.raises(MissingDependency, match=r"segmentation needs cv2: pip install 'attrib\[analysis\]'"):
            segment(rough(disc()), [photo(disc())])


def squares(*corners: tuple[int, int]) -> Tensor:
    masks = torch.zeros(len(corners), 12, 12, dtype=torch.bool)
    for mask, (y, x) in zip(masks, corners, strict=True):
        mask[y : y + 4, x : x + 4] = True
    return masks


class TestAgreement:
    def test_by_hand(self) -> None:
        found, true = squares((0, 0), (4, 4), (2, 2)), squares((0, 2), (4, 4), (8, 8))
        one = agreement(found, true, centre=0.5)
        assert one.iou.tolist() == pytest.approx([8 / 24, 1, 0])
        assert one.box_iou.tolist() == pytest.approx([8 / 24, 1, 0])
        assert one.corloc == pytest.approx(1 / 3)
        # the box in the middle is rows and columns 3 to 8
        assert one.centre_iou.tolist() == pytest.approx([3 / 49, 16 / 36, 1 / 51])
        assert one.centre_located.tolist() == [False, False, False]

    def test_boxes_and_masks_are_different_things(self) -> None:
        found = torch.eye(12, dtype=torch.bool)[None]
        true = torch.ones(1, 12, 12, dtype=torch.bool)
        one = agreement(found, true)
        assert float(one.iou) == pytest.approx(1 / 12)
        assert float(one.box_iou) == 1.0

    def test_a_box_may_be_any_of_those_that_are_true_and_half_is_not_enough(self) -> None:
        found, true = squares((0, 0)), squares((6, 6))
        boxes = [[[6, 6, 10, 10], [0, 0, 4, 8]]]
        assert agreement(found, true, boxes).corloc == 0.0
        assert float(agreement(found, true, boxes).box_iou) == 0.5
        assert agreement(found, true, [[[6, 6, 10, 10], [0, 0, 4, 7]]]).corloc == 1.0

    def test_nothing_found_is_zero_and_nothing_to_find_is_refused(self) -> None:
        empty = torch.zeros(1, 12, 12, dtype=torch.bool)
        one = agreement(empty, squares((0, 0)))
        assert (float(one.iou), float(one.box_iou), one.corloc) == (0, 0, 0)
        with pytest.raises(InputError, match="masks must each hold part of an object; got an empty one"):
            agreement(squares((0, 0)), empty)

    @settings(deadline=None, max_examples=30)
    @given(seed=st.integers(0, 10_000))
    def test_iou_is_symmetric_and_one_for_the_same(self, seed: int) -> None:
        source = torch.Generator().manual_seed(seed)
        a, b = (torch.rand(3, 6, 7, generator=source) < 0.5 for _ in range(2))
        a[:, 0, 0], b[:, 0, 0] = True, True
        torch.testing.assert_close(agreement(a, b).iou, agreement(b, a).iou)
        torch.testing.assert_close(agreement(a, b).box_iou, agreement(b, a).box_iou)
        assert agreement(a, a).iou.tolist() == agreement(a, a).box_iou.tolist() == [1.0] * 3

    def test_the_box_in_the_middle_has_the_sides_asked_for(self) -> None:
        mask = centre_box((10, 20), 0.7)
        assert (int(mask.any(1).sum()), int(mask.any(0).sum())) == (7, 14)
        assert bool((mask == mask.flip(1)).all())
        assert bool(centre_box((5, 5), 1.0).all())

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"masks": torch.ones(1, 12, 12)}, "masks must be a bool Tensor"),
            ({"masks": squares((0, 0))[:, :10]}, "masks must have the shape of what was found"),
            ({"boxes": [[]]}, "boxes must hold a list of boxes"),
            ({"boxes": [[[0, 0, 1]]]}, "boxes must hold a list of boxes"),
            ({"centre": 0}, r"centre must be a share in \(0, 1\]"),
        ],
    )
    def test_bad_arguments_are_refused(self, change: dict[str, Any], says: str) -> None:
        with pytest.raises(InputError, match=says):
            agreement(**{"found": squares((0, 0)), "masks": squares((0, 0)), **change})

    def test_the_text_has_intervals_and_the_control(self) -> None:
        true = squares((0, 0), (4, 4), (8, 2))
        lines = agreement(true, true).to_text().splitlines()
        assert "1.000 [1.000, 1.000] (95%, n=3)" in lines[1]
        assert lines[2].startswith("centre box, 70% of each side")

    def test_the_curve_is_corloc_at_a_half(self) -> None:
        found, true = squares((0, 0), (4, 4), (2, 2)), squares((0, 2), (4, 4), (8, 8))
        one = agreement(found, true)
        line = localisation_curve(one).axes[0].lines[0]
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        at = {t: float(y[np.searchsorted(x, t, side="right") - 1]) for t in (0.1, 0.5, 0.9)}
        assert at == pytest.approx({0.1: 2 / 3, 0.5: one.corloc, 0.9: 1 / 3})


class TestFigure:
    def test_shows_seeds_in_their_colours_and_darkens_what_is_not_the_object(self, tmp_path: Path) -> None:
        true = disc()
        found = segment(rough(true), [photo(true)], names=["a disc"])
        figure = segment_panels(found)
        picture, seeds, cut = (np.asarray(ax.images[0].get_array()) for ax in figure.axes)
        np.testing.assert_allclose(cut[true.numpy()], picture[true.numpy()])
        assert cut[~true.numpy()].mean() < 0.5 * picture[~true.numpy()].mean()
        red = seeds[(found.seeds[0] == 1).numpy()]
        assert bool((red >= OVER * np.array(FOREGROUND) - 1e-9).all())
        (box,) = figure.axes[2].patches
        assert (box.get_x() + 0.5, box.get_y() + 0.5, box.get_width(), box.get_height()) == (11, 7, 15, 15)
        found.save(tmp_path / "run", figures=True)
        assert {path.name for path in (tmp_path / "run").iterdir()} == {
            "manifest.json",
            "found.md",
            "figure.png",
            "arrays",
        }

    def test_says_where_next_to_nothing_was_found(self) -> None:
        true = disc()
        found = segment(rough(true).repeat(2, 1, 1, 1), [photo(true)] * 2, names=["good", "bad"])
        assert "Next to nothing" not in found.to_text()
        masks = found.masks.clone()
        masks[1] = False
        empty = replace(found, masks=masks, boxes=boxes_of(masks))
        assert "\n\nNext to nothing was found in bad: " in empty.to_text()
        assert [ax.get_title() for ax in segment_panels(empty).axes][2::3] == ["cut out, 17%", "nothing to cut out"]

    def test_shows_eight_pictures_or_those_asked_for(self) -> None:
        true = disc()
        found = segment(rough(true).repeat(9, 1, 1, 1), [photo(true)] * 9, iterations=0)
        assert len(segment_panels(found).axes) == 24
        titles = [ax.get_title() for ax in segment_panels(found, indices=[8, 1]).axes]
        assert titles[::3] == ["picture 8", "picture 1"]
        with pytest.raises(InputError, match="indices must be one of"):
            segment_panels(found, indices=[9])
