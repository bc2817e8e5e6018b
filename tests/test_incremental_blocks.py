"""Each kind of block gives what the model itself gives, and in windows wherever changes are local."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attrib.core import Given, Windows, resolve_baseline
from tests import nets
from tests.architectures import ACTIVATIONS, GLOBAL, HEADS, LOCAL, build
from tests.incremental import TOLERANCE, agrees, ask, class_score, largest_logit, loop, squares

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # torch's own copy
SIZE = (27, 22)
DTYPES = [torch.float64, torch.float32]


def image(n: int = 1, dtype: Any = torch.float64) -> torch.Tensor:
    return nets.batch(n, *SIZE, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", [*LOCAL, *ACTIVATIONS])
def test_local_blocks_are_computed_in_windows_and_agree(name: str, dtype: Any) -> None:
    model, x = build(name, dtype=dtype), image(2, dtype)
    assert agrees(model, x, Windows(SIZE, (4, 3), (4, 3)), baseline=0.3) == "local"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", GLOBAL)
def test_blocks_that_look_everywhere_are_replayed_and_agree(name: str, dtype: Any) -> None:
    model, x = build("strided", name, dtype=dtype), image(2, dtype)
    assert agrees(model, x, Windows(SIZE, (4, 3), (4, 3)), baseline=0.3) in {"local", "replayed"}


@pytest.mark.parametrize("head", HEADS)
def test_heads_agree(head: str) -> None:
    model = build("BatchNorm behind", "strided", head=head)
    assert agrees(model, image(2), Windows(SIZE, (4, 3), (4, 3)), baseline=-1.0) == "local"


@pytest.mark.parametrize("name", [*LOCAL, *ACTIVATIONS, *GLOBAL])
def test_every_block_agrees_with_a_loop_over_masks(name: str) -> None:
    model, x, masks = build(name), image(), squares(SIZE, 9, 4)
    found = ask(model, x, masks, 2, baseline="blur", verify=0)
    expected = loop(model, x, masks.keep, resolve_baseline("blur", x), class_score(2))
    assert (found - expected).abs().max() <= TOLERANCE[x.dtype] * largest_logit(model, x)


@pytest.mark.parametrize("name", ["passed on", "residual in place", "pre-activation", "chunks", "BatchNorm and a skip"])
def test_windows_of_one_size_share_no_memory_that_is_overwritten(name: str) -> None:
    model, x = build(name, name), image(2)
    masks = squares((7, 6), 12, 3).keep  # far from the border nothing is cut off, and tiles are passed on as they are
    keep = torch.ones(12, 1, 1, *SIZE, dtype=x.dtype)
    keep[..., 10:17, 8:14] = masks
    assert agrees(model, x, Given(keep)) == "local"
