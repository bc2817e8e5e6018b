"""Further arguments of a model: those with one entry per example follow the examples, and must belong to them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attrib import METHODS, RISE, ClassScore, GradCAM, Occlusion
from attrib.core import count
from attrib.errors import InputError, TargetError
from tests import nets

N = 2
X = nets.batch(N, 8, 8)
WORDS = torch.tensor([[1, 2, 3], [4, 0, 2]])


class Prompted(nn.Module):
    """In the manner of CLIP: every picture is compared with every text, or with its own."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.sees = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.reads, self.own = nn.Embedding(5, 6), own

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        seen, read = self.sees(x), self.reads(words).mean(1)
        return (seen * read).sum(1, keepdim=True).expand(-1, N) if self.own else seen @ read.T


TOWERS, PAIRS = nets.fill(Prompted(own=False)), nets.fill(Prompted(own=True))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
@pytest.mark.parametrize("n", [1, N])
@pytest.mark.parametrize("space", ["logit", "probability"])
def test_texts_that_all_pictures_meet_are_refused_whatever_the_batch(batch_size: int, n: int, space: Any) -> None:
    occlusion = Occlusion(TOWERS, window=4, stride=4, batch_size=batch_size)
    with pytest.raises(
        InputError, match="Keep what all examples share, such as the texts of classes, inside the model"
    ):
        occlusion.attribute(X[:n], ClassScore(0, space), additional_forward_args=(WORDS[:n],))


@pytest.mark.parametrize(
    "make", [lambda m: RISE(m, n=8, cells=2), lambda m: METHODS["integrated_gradients"](m, n_steps=4)]
)
def test_so_they_are_by_everything_that_repeats_examples(make: Any) -> None:
    with pytest.raises(InputError, match="so that each example meets the entries of all"):
        make(TOWERS).attribute(X, [0, 1], additional_forward_args=WORDS)


def test_each_texts_own_picture_is_explained_the_same_in_every_batch() -> None:
    whole = Occlusion(PAIRS, window=4, stride=4).attribute(X, 0, additional_forward_args=WORDS)
    for batch_size in (1, 2, 3):
        maps = Occlusion(PAIRS, window=4, stride=4, batch_size=batch_size).attribute(
            X, 0, additional_forward_args=WORDS
        )
        torch.testing.assert_close(maps, whole)
    for i in range(N):
        alone = Occlusion(PAIRS, window=4, stride=4).attribute(
            X[i : i + 1], 0, additional_forward_args=WORDS[i : i + 1]
        )
        torch.testing.assert_close(alone, whole[i : i + 1])


def test_nothing_is_asked_twice_where_examples_are_not_repeated_or_no_axis_could_be_theirs() -> None:
    with count() as cost:
        GradCAM(TOWERS, "sees.1").attribute(X, [0, 1], additional_forward_args=WORDS)
    assert cost.forwards == N
    three = torch.cat([X, X[:1]]), torch.cat([WORDS, WORDS[:1]])  # the output has two columns
    with count() as cost:
        Occlusion(PAIRS, window=4, stride=4).attribute(three[0], 0, additional_forward_args=three[1])
    assert cost.forwards == 3 + 3 * 4


class Keyed(nn.Module):
    """Texts come in a dictionary, beside what all examples share."""

    def forward(self, x: Tensor, given: dict[str, Any]) -> Tensor:
        out: Tensor = PAIRS(x, given["words"]) * given["more"][0]
        return out


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_tensors_in_dictionaries_and_lists_follow_the_examples(batch_size: int) -> None:
    given = {"words": WORDS, "more": [torch.ones(())], "name": "texts"}
    maps, plain = (
        Occlusion(model, window=4, stride=4, batch_size=batch_size).attribute(X, 0, additional_forward_args=extra)
        for model, extra in ((Keyed(), given), (PAIRS, WORDS))
    )
    torch.testing.assert_close(maps, plain)
    assert given["words"] is WORDS


class Bag:
    """What holds a tensor where it is not found."""

    words = WORDS


def test_a_tensor_that_does_not_follow_is_told_by_the_shape_of_the_score() -> None:
    with pytest.raises(TargetError, match=r"one number per example, shape \(1,\); got \(2,\)"):
        Occlusion(lambda x, bag: PAIRS(x, bag.words), window=4, stride=4, batch_size=1).attribute(
            X, 0, additional_forward_args=Bag()
        )
