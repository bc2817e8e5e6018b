"""HOG as a network: scikit-image's numbers, gradients through magnitudes, and the manners of any other network."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import attrib
from attrib.core import Channel, capture
from attrib.core.synth import Move, Search, synthesize
from attrib.errors import InputError, ShapeError
from attrib.models import HOG
from tests.oracles import hog as oracle

skimage = pytest.importorskip("skimage.feature")

NORMS = ("L1", "L1-sqrt", "L2", "L2-Hys")
EXACT: dict[str, Any] = {"rtol": 0, "atol": 1e-9}
SINGLE: dict[str, Any] = {"rtol": 0, "atol": 1e-6}  # scikit-image adds the votes of a cell up in float32


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bytes_of(*shape: int, levels: int = 256) -> Tensor:
    """Whole numbers over 255: many gradients lie exactly between two bins, or are equal in two channels."""
    values = np.random.default_rng(0).integers(0, levels, shape)
    return torch.from_numpy(values / 255)


def photo() -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut()[::2, ::3] / 255))


def scikit(image: Tensor, **how: Any) -> Tensor:
    return torch.from_numpy(skimage.hog(image.numpy(), **how))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("root", [False, True])
def test_the_numbers_are_scikit_images_in_colour(norm: Any, root: bool) -> None:
    for image, (orientations, cell, block) in product(
        (bytes_of(37, 29, 3), bytes_of(37, 29, 3, levels=4), photo()),
        ((9, (8, 8), (3, 3)), (4, (7, 5), (1, 2)), (8, (8, 8), (2, 3))),
    ):
        how: dict[str, Any] = {"orientations": orientations, "pixels_per_cell": cell, "cells_per_block": block}
        how |= {"block_norm": norm, "transform_sqrt": root}
        expected = scikit(image, channel_axis=-1, **how)
        torch.testing.assert_close(HOG(**how)(image.movedim(2, 0)[None])[0], expected, **SINGLE)
        first = scikit(image.movedim(2, 0), channel_axis=0, **how)
        torch.testing.assert_close(first, expected, **EXACT)


@pytest.mark.parametrize("norm", NORMS)
def test_the_numbers_are_scikit_images_in_grey_and_in_float32(norm: Any) -> None:
    image = photo()[..., 1].contiguous()
    torch.testing.assert_close(HOG(block_norm=norm)(image[None, None])[0], scikit(image, block_norm=norm), **SINGLE)
    single = image.float()
    torch.testing.assert_close(
        HOG(block_norm=norm)(single[None, None])[0], scikit(single, block_norm=norm), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("signed", [False, True])
def test_every_pixel_votes_as_in_the_loops_of_the_oracle(norm: Any, signed: bool) -> None:
    x = noise(2, 3, 13, 11)
    model = HOG(orientations=7, pixels_per_cell=(4, 3), cells_per_block=(2, 1), block_norm=norm, signed=signed)
    for row, image in zip(model(x), x.numpy(), strict=True):
        expected = oracle.hog(image, 7, (4, 3), (2, 1), norm, 360.0 if signed else 180.0)
        torch.testing.assert_close(row, torch.from_numpy(expected.ravel()), **EXACT)


def test_one_edge_by_hand() -> None:
    x = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    x[..., 2:] = 1  # the two middle columns have a difference of 1, from dark to light
    cells = HOG(orientations=4, pixels_per_cell=4, cells_per_block=1).cells(x)
    assert cells.flatten().tolist() == [8 / 16, 0, 0, 0]
    turned = HOG(orientations=4, pixels_per_cell=4, cells_per_block=1).cells(1 - x)
    assert turned.flatten().tolist() == [8 / 16, 0, 0, 0]
    signed = HOG(orientations=4, pixels_per_cell=4, cells_per_block=1, signed=True).cells(1 - x)
    assert signed.flatten().tolist() == [0, 0, 8 / 16, 0]


def test_blocks_are_the_vector_as_a_map() -> None:
    model, x = HOG(pixels_per_cell=4, cells_per_block=(2, 1)), noise(2, 3, 17, 12)
    with capture(model, "blocks", "cells") as acts:
        vector = model(x)
    assert acts["blocks"].shape[2:] == model.locations(17, 12) == (3, 3)
    scikits = vector.reshape(2, 3, 3, 2, 1, 9)
    for r, c, b, o in product(range(3), range(3), range(2), range(9)):
        torch.testing.assert_close(acts["blocks"][:, b * 9 + o, r, c], scikits[:, r, c, b, 0, o])
    total = acts["cells"].sum(1)
    assert float(total.min()) > 0


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.5, 4), shift=st.floats(-3, 3), seed=st.integers(0, 1000))
def test_brightness_does_not_matter_and_contrast_hardly(scale: float, shift: float, seed: int) -> None:
    x = noise(1, 1, 16, 16, seed=seed)
    model = HOG(orientations=7, pixels_per_cell=8, cells_per_block=2, block_norm="L2")
    torch.testing.assert_close(model(x * scale + shift), model(x), rtol=0, atol=1e-4)  # the norm's epsilon


def test_gradients_are_those_of_small_changes() -> None:
    for norm in NORMS:
        model = HOG(orientations=5, pixels_per_cell=3, cells_per_block=2, block_norm=norm)
        assert torch.autograd.gradcheck(model, noise(1, 2, 7, 7, seed=3).requires_grad_())


def test_flat_parts_and_black_pixels_have_finite_gradients() -> None:
    x = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    x[..., 4:9, 5:] = 1
    for norm, root in product(NORMS, (False, True)):
        asked = x.clone().requires_grad_()
        model = HOG(pixels_per_cell=4, cells_per_block=2, block_norm=norm, transform_sqrt=root)
        (grad,) = torch.autograd.grad(model(asked).square().sum() + model(asked).sum(), asked)
        assert torch.isfinite(grad).all()
    flat = torch.full((1, 1, 16, 16), 0.5, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(HOG(pixels_per_cell=4)(flat).sum(), flat)
    assert not grad.any()


def test_it_is_explained_as_any_network() -> None:
    model, x = HOG(orientations=4, pixels_per_cell=4, cells_per_block=1, block_norm="L1"), noise(1, 1, 16, 16)
    map = attrib.Saliency(model).attribute(x, 5 * 4)  # the first bin of the cell at row 1, column 1
    assert map[0, 0, 3:9, 3:9].any()
    assert not map[0, 0, 9:].any()
    replayed, whole = (
        attrib.Occlusion(model, window=4, stride=4, exact_dense=dense).attribute(x, 5 * 4) for dense in (False, True)
    )
    torch.testing.assert_close(replayed, whole)
    gradcam = attrib.GradCAM(model, "cells").attribute(x, 5 * 4)
    assert gradcam.shape == (1, 1, 4, 4)


def test_an_optimisation_finds_edges_of_the_orientation_that_is_asked_for() -> None:
    model = HOG(orientations=2, pixels_per_cell=8, cells_per_block=1, block_norm="L1")
    start = noise(1, 1, 16, 16) * 0.1 + 0.45
    found = synthesize(model, Channel("blocks", 0), start, Search(steps=30, move=Move(0.05, optimiser="adam")))
    before, after = (model.blocks(model.cells(x))[0, 0].mean() for x in (start, found.image))
    assert after > before + 0.1


def test_wrong_settings_and_pictures_are_told() -> None:
    for how, says in (
        ({"orientations": 0}, "orientations must be an integer >= 1; got 0"),
        ({"pixels_per_cell": (8, 8, 8)}, "pixels_per_cell must be an int or a tuple of 2"),
        ({"cells_per_block": 0}, "cells_per_block must be an integer >= 1; got 0"),
        ({"block_norm": "L2-hys"}, "block_norm must be one of 'L1', 'L1-sqrt', 'L2', 'L2-Hys'.*Did you mean 'L2-Hys'"),
    ):
        with pytest.raises(InputError, match=says):
            HOG(**how)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="inputs must be at least 24 x 24 pixels, one block; got 32 x 23"):
        HOG()(torch.rand(1, 3, 32, 23))
    with pytest.raises(ShapeError, match=r"inputs must have shape \(N, C, H, W\)"):
        HOG()(torch.rand(3, 32, 32))
    with pytest.raises(InputError, match=r"inputs must be floating point; got torch.uint8"):
        HOG()(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(InputError, match="inputs must not be negative for transform_sqrt; got -1"):
        HOG(transform_sqrt=True)(torch.full((1, 1, 32, 32), -1.0))
