"""Objectives for outputs that are not one score per class: what they compute, and what they refuse."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import NoiseTunnel
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import (
    Box,
    ClassScore,
    Custom,
    GradCAM,
    Label,
    Neuron,
    Objective,
    Occlusion,
    Predicted,
    Region,
    Saliency,
    Similarity,
    Token,
    attribute_all,
    explain,
)
from attrib.core import Each, Query, Windows, as_objective, capture, frozen, sweep
from attrib.core.objectives.detection import overlaps
from attrib.errors import InputError, ModelError, TargetError
from tests import nets, tiny
from tests.sweeps import in_order
from tests.test_properties import DOUBLE, few, noise, seeds

X = nets.batch(3, 8, 6)
NET = nets.make("module")
PIXELS = nets.fill(nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1)))
FOUND = PIXELS(X).argmax(1).flatten(1).mode(1).values.tolist()  # a class that each example has somewhere
ROWS = torch.tensor([2, 0, 0, 1])
SPACES: tuple[Any, ...] = ("logit", "probability", "log_probability", "log_odds")


class Speaker(nn.Module):
    """Five scores at each of four places, ``(N, 4, 5)``."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = nets.Chain()
        self.later = nn.Linear(5, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.later(self.chain(x)).unflatten(1, (4, 5))


class Spotter(nn.Module):
    """Per example two boxes and their scores, from nothing but convolutions; some fall below the threshold."""

    def __init__(self, threshold: float = 0.0) -> None:
        super().__init__()
        self.chain = nets.Chain()
        self.threshold = threshold

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        found = []
        for a, b, c, d, e in self.chain(x).sigmoid():
            boxes = torch.stack([torch.stack([a, b, 4 + c, 4 + d]), torch.stack([c, d, 3 + a, 5 + b])])
            scores = torch.stack([e, a])
            keep = scores > self.threshold
            found.append({"boxes": boxes[keep], "labels": torch.tensor([1, 2])[keep], "scores": scores[keep]})
        return found


SPEAKER, SPOTTER = nets.fill(Speaker()), nets.fill(Spotter())
MASK = torch.zeros(8, 6)
MASK[2:5, 1:4] = 1
WORDS = torch.tensor([[0, 1, 2, 9], [3, 4, 9, 9], [1, 1, 1, 1]])  # 9 is padding
# Every kind of goal, with a network that has such outputs; one question for all examples, or one for each.
GOALS: dict[str, tuple[nn.Module, Objective]] = {
    "label": (NET, Label(3, "probability")),
    "label of each": (NET, Label([3, 0, 1], "log_probability")),
    "region": (PIXELS, Region(2, MASK)),
    "region found": (PIXELS, Region(FOUND, reduce="sum", space="log_odds")),
    "region of each": (PIXELS, Region([1, 2, 3], torch.stack([MASK, 1 - MASK, MASK.flip(0)]), space="probability")),
    "similarity": (NET, Similarity(torch.arange(5.0))),
    "similarity of each": (NET, Similarity(noise(3, 5, seed=1), "dot")),
    "word": (SPEAKER, Token([0, 1, 2, 3], position=1)),
    "word of each": (SPEAKER, Token(WORDS, position=[0, 1, 3], pad=9, space="log_odds")),
    "caption of each": (SPEAKER, Token(WORDS, pad=9)),
    "box": (SPOTTER, Box((0, 0, 4, 4), 1)),
    "box of each": (SPOTTER, Box([[0, 0, 4, 4], [1, 1, 4, 5], [0, 0, 3, 5]], [1, 2, 2])),
    "list": (NET, Each((lambda out: out[3], Label(2), Neuron("conv2", 1)))),
}


def asked(net: nn.Module, goal: Objective, x: Tensor = X) -> Tensor:
    """The scores of ``x``."""
    with torch.no_grad(), capture(net, *goal.layers) as acts:
        output = net(x)
    return goal.bind(output, acts)(output, acts)


def only(goal: Objective, n: int) -> Objective:
    """What is asked of example ``n``."""
    return goal.rows(torch.tensor([n]))


@pytest.fixture(params=GOALS)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Objective]:
    return GOALS[request.param]


# --- what every objective does


def test_each_example_is_asked_on_its_own(case: tuple[nn.Module, Objective]) -> None:
    net, goal = case
    alone = [asked(net, only(goal, n), X[n : n + 1]) for n in range(3)]
    assert_close(asked(net, goal), torch.cat(alone))
    assert len({round(float(score), 6) for score in asked(net, goal)}) == 3  # so that a mixed-up batch would show


def test_rows_ask_the_same_of_the_same_examples_before_and_after_binding(case: tuple[nn.Module, Objective]) -> None:
    net, goal = case
    with torch.no_grad(), capture(net, *goal.layers) as acts:
        output = net(X[ROWS])
    expected = asked(net, goal)[ROWS]
    assert_close(asked(net, goal.rows(ROWS), X[ROWS]), expected)
    with torch.no_grad(), capture(net, *goal.layers) as clean:
        bound = goal.bind(net(X), clean)
    assert_close(bound.rows(ROWS)(output, acts), expected)


def test_an_objective_knows_of_how_many_examples_it_speaks() -> None:
    several = {name for name, (_, goal) in GOALS.items() if goal.entries == 3}
    assert several == {name for name in GOALS if "of each" in name or name in ("region found", "list")}
    assert {GOALS[name][1].entries for name in GOALS.keys() - several} == {1}


def test_a_sweep_scores_each_masked_copy_as_the_model_does(case: tuple[nn.Module, Objective]) -> None:
    net, goal = case
    masks = Windows((8, 6), (3, 3), (2, 2))
    with frozen(net):
        query = Query(net, (X,), goal)
        swept = in_order(sweep(query, masks, baseline="zero", batch_size=4))
        bound = query.clean.goal
    for position in range(len(masks)):
        hidden = X * masks.batch(position, position + 1, X)[0]
        with torch.no_grad(), capture(net, *goal.layers) as acts:
            expected = bound(net(hidden), acts)
        assert_close(swept[position], expected, rtol=1e-4, atol=1e-5)


def test_a_shared_pass_gives_what_each_question_gives_alone(case: tuple[nn.Module, Objective]) -> None:
    net, goal = case
    layer = next(name for name, part in net.named_modules() if isinstance(part, nn.Conv2d))
    methods = {"saliency": Saliency(net), "gradcam": GradCAM(net, layer, relu=False)}
    together = attribute_all(methods, X, [goal, goal * 2])
    for label, method in methods.items():
        assert torch.equal(together[label][0], method.attribute(X, goal))
        assert_close(together[label][1], 2 * together[label][0])


def test_the_map_is_the_gradient_of_the_score(case: tuple[nn.Module, Objective]) -> None:
    net, goal = case
    net, x = copy.deepcopy(net).double(), X.double().requires_grad_(True)
    with capture(net, *goal.layers) as acts:
        output = net(x)
    (expected,) = torch.autograd.grad(goal.bind(output, acts)(output, acts).sum(), x)
    got = Saliency(net, channels="none", absolute=False).attribute(X.double(), goal)
    assert_close(got, expected)
    assert bool((got.flatten(1).abs().amax(1) > 0).all())


def test_noise_tunnel_averages_the_maps_of_noisy_copies(case: tuple[nn.Module, Objective]) -> None:
    net, goal = case
    target = goal if goal.entries == 1 else [only(goal, n) for n in range(3)]
    torch.manual_seed(0)
    maps = NoiseTunnel(Saliency(net)).attribute(X, nt_samples=4, stdevs=0.01, target=target)
    torch.manual_seed(0)
    copies = torch.normal(X.repeat_interleave(4, 0), 0.01)
    by_hand = [Saliency(net).attribute(copies[4 * n : 4 * n + 4], goal.rows(torch.tensor([n] * 4))) for n in range(3)]
    assert_close(maps, torch.stack([some.mean(0) for some in by_hand]), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in GOALS if "of each" in name])
def test_what_an_objective_holds_for_each_example_does_not_fit_noisy_copies_and_says_so(name: str) -> None:
    net, goal = GOALS[name]
    with pytest.raises(TargetError, match="one entry per example"):
        NoiseTunnel(Saliency(net)).attribute(X, nt_samples=4, stdevs=0.01, target=goal)


def test_asking_changes_nothing_in_the_objective(case: tuple[nn.Module, Objective]) -> None:
    net, goal = case
    before = repr(goal)
    asked(net, goal.rows(ROWS), X[ROWS])
    Saliency(net).attribute(X, goal)
    assert repr(goal) == before


@few
@given(st.sampled_from(sorted(GOALS)), st.floats(-3, 3), seeds)
def test_objectives_of_every_kind_add_and_scale_as_their_values_do(name: str, c: float, seed: int) -> None:
    net, goal = GOALS[name]
    other = Custom(lambda out: torch.ones(3))
    assert_close(asked(net, c * goal - other), c * asked(net, goal) - 1)


# --- labels


@few
@given(seeds, st.integers(0, 4))
def test_a_label_is_a_sigmoid_of_its_own_output(seed: int, label: int) -> None:
    out = noise(3, 5, seed=seed, scale=5.0)
    p = torch.tensor([1 / (1 + math.exp(-float(z))) for z in out[:, label]], dtype=DOUBLE)
    found = {space: Label(label, space)(out, {}) for space in SPACES}
    assert_close(found["probability"], p)
    assert_close(found["log_probability"], p.log())
    assert_close(found["log_odds"], (p / (1 - p)).log(), rtol=1e-6, atol=1e-6)
    assert torch.equal(found["logit"], out[:, label])
    others = out + noise(1, 5, seed=seed + 1) * (torch.arange(5) != label)  # what it is not asked about
    assert_close(Label(label, "probability")(others, {}), p)
    assert not torch.allclose(ClassScore(label, "probability")(others, {}), ClassScore(label, "probability")(out, {}))


def test_a_label_takes_every_form_that_a_class_takes() -> None:
    dense = nets.fill(nn.Conv2d(3, 4, 3, padding=1))
    at = torch.tensor([[1, 5, 2], [0, 3, 3], [2, 0, 0]])
    assert_close(asked(dense, Label(at, "probability")), asked(dense, ClassScore(at)).sigmoid())
    assert_close(asked(NET, Label(np.array([3, 0, 1]))), asked(NET, ClassScore([3, 0, 1])))
    assert isinstance(Label(3).bind(NET(X), {}).rows(ROWS).in_space("probability"), Label)


# --- regions


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_a_region_is_the_score_of_its_pixels(space: Any, reduce: Any) -> None:
    out = PIXELS(X).detach()
    masks = (noise(3, 8, 6, seed=4) > 0).float()
    expected = []
    for n in range(3):
        scores = [
            ClassScore((2, y, x), space)(out[n : n + 1], {})[0] for y in range(8) for x in range(6) if masks[n, y, x]
        ]
        expected.append(sum(scores) / (len(scores) if reduce == "mean" else 1))
    assert_close(Region(2, masks, reduce=reduce, space=space)(out, {}), torch.stack(expected), rtol=1e-4, atol=1e-4)
    assert_close(
        Region(2, masks.bool().numpy(), reduce=reduce).in_space(space)(out, {}),
        torch.stack(expected),
        rtol=1e-4,
        atol=1e-4,
    )


def test_weights_of_a_region_weigh() -> None:
    out, weights = PIXELS(X).detach(), noise(8, 6, seed=2).abs().float()
    assert_close(Region(1, weights)(out, {}), (out[:, 1] * weights).sum((1, 2)) / weights.sum())
    assert_close(Region(1, weights)(out, {}), Region(1, 7 * weights)(out, {}))
    assert_close(Region(1, 7 * weights, reduce="sum")(out, {}), 7 * Region(1, weights, reduce="sum")(out, {}))


def test_a_region_that_is_not_given_is_where_the_class_wins_and_stays_there() -> None:
    out = PIXELS(X).detach()
    bound = Region(FOUND).bind(out, {})
    assert torch.equal(torch.as_tensor(bound.mask), out.argmax(1) == torch.tensor(FOUND)[:, None, None])
    other = out.roll(3, 3) + 1
    inside = torch.as_tensor(bound.mask).float()
    own = other[torch.arange(3), FOUND]
    assert_close(bound(other, {}), (own * inside).sum((1, 2)) / inside.sum((1, 2)))


def test_with_one_class_the_region_is_where_its_score_is_positive() -> None:
    out = noise(2, 1, 4, 5, seed=3)
    assert_close(Region(0)(out, {}), torch.stack([one[one > 0].mean() for one in out]))
    assert_close(Region(0, space="probability")(out, {}), torch.stack([one[one > 0].sigmoid().mean() for one in out]))


def test_a_dictionary_is_read_at_its_key_also_under_occlusion() -> None:
    packed = nets.Packed(lambda out: {"out": out, "aux": -out})
    packed.chain = PIXELS
    by_key = Occlusion(packed, window=4, stride=4).attribute(X, Region(2, MASK, key="out"))
    assert_close(by_key, Occlusion(PIXELS, window=4, stride=4).attribute(X, Region(2, MASK)), rtol=1e-4, atol=1e-5)
    assert_close(asked(packed, Region(2, MASK, key="aux")), -asked(PIXELS, Region(2, MASK)))


def test_a_segmentation_network_of_torchvision_is_explained() -> None:
    segmentation = pytest.importorskip("torchvision.models.segmentation")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3).eval()
    x = nets.batch(1, 32, 48)
    mask = torch.zeros(32, 48)
    mask[:8, :8] = 1  # a corner: what is far from it matters less
    maps = Saliency(net).attribute(x, Region(1, mask, key="out"))[0, 0]
    with torch.no_grad():
        assert_close(asked(net, Region(1, mask, key="out"), x), net(x)["out"][:, 1, :8, :8].mean((1, 2)))
    assert maps.shape == (32, 48)
    assert float(maps[:16, :16].mean()) > float(maps[:, 32:].mean())
    cam = GradCAM(net, "backbone.16", relu=False).attribute(x, Region(1, mask, key="out"))
    assert bool(cam.abs().amax() > 0)


# --- similarity


@few
@given(seeds, st.floats(0.1, 10))
def test_cosine_similarity_ignores_lengths_and_the_dot_product_does_not(seed: int, scale: float) -> None:
    out, reference = noise(3, 5, seed=seed), noise(5, seed=seed + 1)
    cosine, dot = Similarity(reference), Similarity(reference, "dot")
    by_hand = [sum(a * b for a, b in zip(row, reference, strict=True)) for row in out]
    assert_close(dot(out, {}), torch.stack(by_hand))
    norms = torch.stack([row.square().sum().sqrt() for row in out]) * reference.square().sum().sqrt()
    assert_close(cosine(out, {}), torch.stack(by_hand) / norms)
    assert_close(cosine(scale * out, {}), cosine(out, {}))
    assert_close(Similarity(scale * reference, "dot")(out, {}), scale * dot(out, {}))


def test_a_picture_is_most_like_itself_and_its_saliency_there_is_nearly_nothing() -> None:
    reference = NET(X)  # with a graph, which must not be entered
    assert_close(asked(NET, Similarity(reference)), torch.ones(3))
    assert float(Saliency(NET).attribute(X, Similarity(reference)).amax()) < 1e-5  # the best that there is: no slope
    assert float(Saliency(NET).attribute(X.flip(0), Similarity(reference)).amax()) > 1e-3


def test_two_towers_meet_in_one_embedding() -> None:
    class Towers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sees, self.reads = nets.Chain(), nn.EmbeddingBag(20, 5)

        def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
            out: Tensor = F.cosine_similarity(self.sees(x), self.reads(tokens))
            return out

    towers = nets.fill(Towers())
    tokens = torch.tensor([[1, 2], [3, 4], [5, 6]])
    together = Saliency(towers).attribute(X, additional_forward_args=tokens)
    assert_close(together, Saliency(towers.sees).attribute(X, Similarity(towers.reads(tokens))))


# --- words


def by_words(out: Tensor, tokens: list[int], pad: int | None = None) -> Tensor:
    """Log-probability of one caption, word by word, straight from the definition."""
    total = torch.zeros((), dtype=out.dtype)
    for place, word in enumerate(tokens):
        if word != pad:
            total = total + (out[place, word].exp() / out[place].exp().sum()).log()
    return total


@few
@given(seeds, st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), min_size=3, max_size=3))
def test_a_caption_is_the_sum_of_its_words_without_padding(seed: int, words: list[list[int]]) -> None:
    out, pad = noise(3, 4, 5, seed=seed), 5  # outside of the vocabulary
    words = [[0, *row[1:]] for row in words]
    expected = torch.stack([by_words(one, row, pad) for one, row in zip(out, words, strict=True)])
    goal = Token(words, pad=pad)
    assert_close(goal(out, {}), expected)
    assert_close(goal.in_space("probability")(out, {}), expected.exp())
    assert_close(goal.in_space("log_odds")(out, {}), expected - (1 - expected.exp()).log())
    raw = [sum(one[t, word] for t, word in enumerate(row) if word != pad) for one, row in zip(out, words, strict=True)]
    assert_close(goal.in_space("logit")(out, {}), torch.stack(raw))
    one_by_one = [
        Token(torch.tensor(words)[:, t].tolist()[0], position=t)(out[:1], {}) for t in range(4) if words[0][t] != pad
    ]
    assert_close(torch.stack(one_by_one).sum(0), goal(out, {})[:1])


@few
@given(seeds, st.integers(0, 3), st.integers(0, 4))
def test_the_probabilities_of_all_words_at_a_place_sum_to_one(seed: int, place: int, word: int) -> None:
    out = noise(2, 4, 5, seed=seed, scale=3.0)
    every = [Token(w, position=place, space="probability")(out, {}) for w in range(5)]
    assert_close(torch.stack(every).sum(0), torch.ones(2, dtype=DOUBLE))
    elsewhere = out.clone()
    elsewhere[:, [t for t in range(4) if t != place]] += 1.0
    assert torch.equal(Token(word, position=place)(elsewhere, {}), Token(word, position=place)(out, {}))


def test_a_sure_caption_has_odds_that_a_probability_cannot_tell() -> None:
    out = torch.zeros(1, 2, 3, dtype=DOUBLE)
    out[0, 0, 1] = out[0, 1, 2] = 60.0
    assert float(Token([1, 2], space="probability")(out, {})) == 1
    assert math.isclose(float(Token([1, 2], space="log_odds")(out, {})), 60 - math.log(4), rel_tol=1e-9)


# --- boxes


def detections(*found: tuple[list[float], int, float]) -> dict[str, Tensor]:
    boxes, labels, scores = zip(*found, strict=True) if found else ((), (), ())
    return {
        "boxes": torch.tensor(boxes, dtype=DOUBLE).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.long),
        "scores": torch.tensor(scores, dtype=DOUBLE),
    }


@few
@given(
    st.lists(st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(1, 6)] * 2), min_size=1, max_size=4), st.integers(0, 3)
)
def test_overlap_is_what_counting_pixels_gives(corners: list[tuple[int, int, int, int]], shift: int) -> None:
    boxes = [(x, y, x + w, y + h) for x, y, w, h in corners]
    goal = (shift, 1, shift + 4, 6)

    def pixels(box: tuple[int, ...]) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    expected = [len(pixels(goal) & pixels(box)) / len(pixels(goal) | pixels(box)) for box in boxes]
    got = overlaps(torch.tensor(goal, dtype=DOUBLE), torch.tensor(boxes, dtype=DOUBLE))
    assert_close(got, torch.tensor(expected, dtype=DOUBLE))


def test_a_box_takes_the_best_product_of_its_own_label() -> None:
    out = [
        detections(([0, 0, 4, 4], 2, 0.99), ([0, 0, 4, 2], 1, 0.8), ([0, 0, 4, 4], 1, 0.3)),  # 0.5 * 0.8 beats 0.3
        detections(([2, 0, 6, 4], 1, 0.6)),
    ]
    assert_close(Box((0, 0, 4, 4), 1)(out, {}), torch.tensor([0.4, 0.2], dtype=DOUBLE))
    assert_close(Box((0, 0, 4, 4), 1, iou=0.75)(out, {}), torch.tensor([0.3, 0.0], dtype=DOUBLE))
    assert_close(Box((0, 0, 4, 4), [2, 1])(out, {}), torch.tensor([0.99, 0.2], dtype=DOUBLE))
    assert_close(Box([[0, 0, 4, 2], [2, 0, 6, 4]], 1)(out, {}), torch.tensor([0.8, 0.6], dtype=DOUBLE))


def test_a_box_pulls_at_boxes_and_scores() -> None:
    box, score = torch.tensor([[0.0, 0, 4, 3]], requires_grad=True), torch.tensor([0.5], requires_grad=True)
    out = [{"boxes": box, "labels": torch.tensor([1]), "scores": score}]
    by_box, by_score = torch.autograd.grad(Box((0, 0, 4, 4), 1)(out, {}).sum(), (box, score))
    assert_close(by_score, torch.tensor([0.75]))
    assert_close(by_box[0, 3], torch.tensor(0.5 / 4))  # a lower edge that moves down covers a quarter more per pixel


@pytest.mark.parametrize(
    ("threshold", "goal"), [(1.0, Box((0, 0, 4, 4), 1)), (0.0, Box((0, 0, 4, 4), 7)), (0.0, Box((90, 90, 99, 99), 1))]
)
def test_a_box_that_nothing_matches_scores_zero_with_zero_gradient_and_a_warning(threshold: float, goal: Box) -> None:
    net = nets.fill(Spotter(threshold))
    with pytest.warns(UserWarning, match="no detection on the clean input matches the box of example 0, 1, 2"):
        maps = Saliency(net).attribute(X, goal)
    assert not bool(maps.any())
    with pytest.warns(UserWarning, match="no detection on the clean input"):
        assert not bool(Occlusion(net, window=4, stride=4).attribute(X, goal).any())


def test_a_box_that_is_lost_only_under_occlusion_loses_its_whole_score_without_a_warning() -> None:
    x, goal = torch.full_like(X[:1], -5), Box((0, 0, 4, 4), 1)
    clean, hidden = (float(SPOTTER(picture)[0]["scores"][0].detach()) for picture in (x, -x))
    assert clean > hidden
    net = nets.fill(Spotter((clean + hidden) / 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        swept = Occlusion(net, window=(8, 6), stride=1, baseline=5.0).attribute(x, goal)
    assert_close(swept, asked(net, goal, x).reshape(1, 1, 1, 1).expand_as(swept))
    assert float(swept.amin()) > 0.01


@pytest.fixture(scope="module")
def detector() -> Iterator[nn.Module]:
    """A detector of torchvision with random weights, small pictures, and nothing thrown away for a low score."""
    detection = pytest.importorskip("torchvision.models.detection")
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    backbone = nn.Sequential(nn.Conv2d(3, 8, 7, 4, 3), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
    backbone.out_channels = 16
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = detection.FasterRCNN(
            backbone, 3, rpn_anchor_generator=AnchorGenerator(((16, 32),), ((1.0,),)), min_size=64, max_size=96,
            box_roi_pool=None, box_score_thresh=0.0, box_detections_per_img=20, rpn_post_nms_top_n_test=50,
        )  # fmt: skip
    return nets.fill(net, seed=1)


def test_a_detector_of_torchvision_is_explained_by_gradients_and_by_occlusion(detector: nn.Module) -> None:
    x = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        clean = detector(x)
    goal = Box(torch.stack([one["boxes"][0] for one in clean]), torch.stack([one["labels"][0] for one in clean]))
    assert_close(asked(detector, goal, x), torch.stack([one["scores"][0] for one in clean]))
    cam = GradCAM(detector, "backbone.3", relu=False).attribute(x, goal)
    assert cam.shape == (2, 1, 8, 12)
    assert bool((cam.flatten(1).abs().amax(1) > 0).all())
    occlusion = Occlusion(detector, window=32, stride=32, batch_size=5)
    maps = occlusion.attribute(x, goal)
    for n, (i, j) in ((0, (0, 0)), (1, (1, 2))):
        hidden = x[n : n + 1].clone()
        hidden[:, :, 32 * i : 32 * i + 32, 32 * j : 32 * j + 32] = 0
        drop = asked(detector, only(goal, n), x[n : n + 1]) - only(goal, n)(detector(hidden), {})
        assert_close(maps[n, 0, 32 * i, 32 * j], drop.detach()[0], rtol=1e-3, atol=1e-5)


# --- a list with a question for each example, and the targets of pytorch-grad-cam


def test_a_list_holds_a_question_for_each_example() -> None:
    questions = [lambda out: out[3], ClassScore(1, "probability"), Neuron("conv2", 2)]
    maps = Saliency(NET).attribute(X, questions)
    for n, one in enumerate((3, ClassScore(1, "probability"), Neuron("conv2", 2))):
        assert_close(maps[n], Saliency(NET).attribute(X[n : n + 1], one)[0])
    assert_close(Saliency(NET).attribute(X, [Predicted()] * 3), Saliency(NET).attribute(X, "predicted"))


def test_a_list_is_settled_once_for_each_example() -> None:
    bound = as_objective([Predicted(), Predicted(), Region]).rows(torch.tensor([0, 1])).bind(NET(X[:2]), {})
    flipped = -NET(X[:2])
    assert_close(bound(flipped, {}), -NET(X[:2]).amax(1))


def test_a_list_reads_dictionaries_and_detections_of_its_example() -> None:
    packed = nets.Packed(lambda out: {"out": out, "aux": -out})
    packed.chain = PIXELS
    goal = as_objective([Region(1, MASK, key="out"), lambda one: one["aux"][0].mean(), Region(2, MASK, key="aux")])
    out = PIXELS(X)
    inside = [out[0, 1, 2:5, 1:4].mean(), -out[1, 0].mean(), -out[2, 2, 2:5, 1:4].mean()]
    assert_close(asked(packed, goal), torch.stack(inside))
    boxes = [Box((0, 0, 4, 4), 1), lambda one: one["scores"].sum(), Box((1, 1, 4, 5), 2)]
    alone = [asked(SPOTTER, boxes[0], X[:1]), SPOTTER(X)[1]["scores"].sum()[None], asked(SPOTTER, boxes[2], X[2:])]
    assert_close(asked(SPOTTER, as_objective(boxes)), torch.cat(alone))


def test_a_list_takes_its_score_space_to_its_objectives() -> None:
    goal = as_objective([Label(1), ClassScore(2), Label(0)]).in_space("probability")
    assert_close(asked(NET, goal)[1], asked(NET, ClassScore(2, "probability"))[1])
    with pytest.raises(TargetError, match="'probability' must be asked of a class; got the callable"):
        as_objective([lambda out: out[0]]).in_space("probability")
    callables = as_objective([lambda out: out[0]] * 3)
    assert_close(asked(NET, callables.in_space("logit")), asked(NET, ClassScore(0)))


PEER = {
    "ClassifierOutputTarget": (NET, lambda make, n: make(n + 1), lambda out, n: out[n, n + 1]),
    "ClassifierOutputSoftmaxTarget": (NET, lambda make, n: make(n + 1), lambda out, n: out[n].softmax(0)[n + 1]),
    "SemanticSegmentationTarget": (
        PIXELS, lambda make, n: make(n, MASK.numpy()), lambda out, n: out[n, n, 2:5, 1:4].sum()
    ),
    "FasterRCNNBoxScoreTarget": (
        SPOTTER, lambda make, n: make([1], [np.array([0, 0, 4.5, 4.5])], 0.1), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PEER)
def test_targets_of_pytorch_grad_cam_mean_the_same_here(name: str) -> None:
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    net, make, by_hand = PEER[name]
    goals = [make(getattr(targets, name), n) for n in range(3)]
    out = net(X)
    theirs = torch.stack(
        [goal(one).reshape(()) for goal, one in zip(goals, out, strict=True)]
    )  # as its base class does
    assert_close(asked(net, as_objective(goals)), theirs.detach())
    assert bool(theirs.any())
    if by_hand:
        assert_close(theirs, torch.stack([by_hand(out, n) for n in range(3)]))
    occluded = Occlusion(net, window=4, stride=4).attribute(X, goals)
    assert occluded.shape == (3, 1, 8, 6)


def test_grad_cam_of_pytorch_grad_cam_gives_the_same_map_for_its_target() -> None:
    theirs = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, SemanticSegmentationTarget

    with theirs.GradCAM(PIXELS, [PIXELS[0]]) as cam:
        expected = cam(X[:1], [SemanticSegmentationTarget(2, MASK.numpy())])
    ours = GradCAM(PIXELS, "0").attribute(X[:1], [SemanticSegmentationTarget(2, MASK.numpy())])[:, 0]
    low, high = ours.amin(), ours.amax()
    assert_close(torch.from_numpy(expected), (ours - low) / (high - low), rtol=1e-4, atol=1e-5)
    one_for_all = Saliency(NET).attribute(X, ClassifierOutputTarget(3))  # reads a whole batch, too
    assert_close(one_for_all, Saliency(NET).attribute(X, 3))


# --- what cannot be meant

DICTIONARY = nets.Packed(lambda out: {"out": out, "aux": -out})
DICTIONARY.chain = PIXELS


@dataclass
class Named:
    """Outputs that go by the names of fields."""

    hidden: Tensor
    logits: Tensor


REFUSED: list[tuple[nn.Module, Any, str]] = [
    (NET, Label(9), r"target must lie in \[0, 4\] for a model with 5 outputs; got 9"),
    (NET, Region(1), r"a region needs outputs of shape \(N, C, H, W\); the model gives \(3, 5\)"),
    (PIXELS, Region(4), r"class of a region must lie in \[0, 3\] for this output; got 4"),
    (PIXELS, Region([1, 2]), r"class of a region must have one entry per example \(N=3\), or one for all; got 2"),
    (PIXELS, Region(1, torch.ones(4, 3)), r"mask must have the size of the output, \(8, 6\); got \(4, 3\). Resize it"),
    (PIXELS, Region(1, torch.ones(2, 8, 6)), r"mask must have one entry per example \(N=3\), or one for all; got 2"),
    (PIXELS, Region(1, torch.zeros(8, 6)), "at least one pixel; example 0 has none: its mask is all zero. Pass a mask"),
    (PIXELS, Region([1, 1, 1], key="out"), "needs a dictionary that has it; the model gave a Tensor"),
    (nets.make("dict"), Region(1), r"it returned a dict with keys \['aux', 'out'\]. Say which with key="),
    (nets.make("dict"), Region(1, key="aut"), r"with key='aut' needs a dictionary that .* keys \['aux', 'out'\]"),
    (nets.make("dict"), Region(1, key="out"), r"a region of 'out' needs outputs of shape \(N, C, H, W\)"),
    (nets.make("tuple"), Similarity(torch.ones(5)), "it returned a tuple. Wrap the model in one that picks it"),
    (PIXELS, Similarity(torch.ones(5)), r"a similarity needs outputs of shape \(N, D\); .* gives \(3, 4, 8, 6\)"),
    (NET, Similarity(torch.ones(4)), "reference must have the 5 dimensions of the output; got 4. Are both made"),
    (NET, Similarity(torch.ones(2, 5)), r"reference must have one entry per example \(N=3\), or one for all; got 2"),
    (NET, Token([0, 1]), r"a token needs outputs of shape \(N, T, V\); the model gives \(3, 5\)"),
    (SPEAKER, Token([0, 1, 2]), "one entry for each of 4 places of the output; got 3. Where the output is"),
    (SPEAKER, Token([0, 1, 2, 5]), r"tokens must lie in \[0, 4\] for this output; got 5"),
    (SPEAKER, Token([[0, 1, 2, 3]] * 2), r"tokens must have one entry per example \(N=3\), or one for all; got 2"),
    (SPEAKER, Token([0, 1, 2, 3], position=4), r"position must lie in \[0, 3\] for this output; got 4"),
    (SPEAKER, Token(WORDS, position=2, pad=9), r"a word that counts; example 1 has padding at its position \(9\)"),
    (SPEAKER, Token([9, 9, 9, 9], pad=9), r"a word that counts; example 0 has only padding \(9\)"),
    (NET, Box((0, 0, 4, 4), 1), "a list with a dictionary per example; it returned a Tensor"),
    (SPOTTER, Box([(0, 0, 4, 4)] * 2, 1), r"box must have one entry per example \(N=3\), or one for all; got 2"),
    (NET, [ClassScore(1)], "must have one entry per example; got 1 for 3 examples. For the same question everywhere"),
    (NET, [lambda out: out[:2]] * 3, r"must return one number; got \(2,\) for example 0"),
    (NET, [lambda out: 3.0] * 3, "must return one number; got float for example 0"),
    (NET, (ClassScore(1), Label(2), Label(3)), "must be a list; got a tuple of 3, .* Pass list"),
    (NET, (lambda out: out[3],) * 3, "must be a list; got a tuple of 3"),
    (SPOTTER, 1, r"returned a list of 3. For a detector use Box\(box, label\), pass a callable"),
    (DICTIONARY, 1, r"a dict with keys \['aux', 'out'\]. For a segmentation use Region\(class, key='out'\)"),
    (nets.make("dict"), 1, r"a dict with keys .*Name the entry, as in lambda out: out\['out'\]\[:, 3\]"),
    (nets.Packed(lambda out: {"maps": out[..., None, None], "logits": out}), 1, r"as in lambda out: out\['logits'\]"),
    (nets.Packed(lambda out: Named(out[0], out)), 1, r"a Named. Name the entry, as in lambda out: out\.logits\[:, 3\]"),
    (nets.make("tuple"), 1, r"a tuple of 2. Name the entry, as in lambda out: out\[0\]\[:, 3\]"),
    (NET, [ClassScore(1), 2, 3], "must hold objectives or callables only; got 2 among them. Write ClassScore"),
    (NET, lambda out: out[2, 3], r"got \(\). One that reads the output of a single example goes into a list"),
]  # fmt: skip


@pytest.mark.parametrize(("net", "target", "message"), REFUSED)
def test_a_goal_that_does_not_fit_the_output_is_refused(net: nn.Module, target: Any, message: str) -> None:
    for method in (Saliency(net), Occlusion(net)):
        with pytest.raises((TargetError, ModelError, IndexError), match=message):
            method.attribute(X, target)


def test_a_class_that_is_found_nowhere_has_no_region() -> None:
    never = next(c for c in range(4) if c not in PIXELS(X).argmax(1).unique())
    with pytest.raises(TargetError, match=f"example 0 has none: class {never} is the highest nowhere. Pass a mask"):
        Saliency(PIXELS).attribute(X, Region(never))


@pytest.mark.parametrize("found", [{"boxes": torch.zeros(2, 4)}, detections() | {"scores": torch.zeros(2)}])
def test_detections_that_do_not_fit_together_are_refused(found: dict[str, Tensor]) -> None:
    with pytest.raises(ModelError, match=r"must have boxes, labels and scores; got|boxes \(M, 4\), labels \(M,\)"):
        Box((0, 0, 4, 4), 1)([found], {})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Label(1, "odds"), "score space must be one of"),
        (lambda: Region(1, reduce="max"), "reduce must be one of 'mean', 'sum'; got 'max'"),
        (lambda: Region(1, space="odds"), "score space must be one of"),
        (lambda: Region(1.5), "class of a region must hold whole numbers; got 1.5"),
        (lambda: Region(True), "class of a region must hold whole numbers; got True"),
        (lambda: Region("cat"), "class of a region must hold whole numbers; got 'cat'"),
        (lambda: Region([]), "class of a region must hold whole numbers"),
        (lambda: Region([[1]]), r"class of a region must have 0 or 1 axes; got shape \(1, 1\)"),
        (lambda: Region(1, torch.ones(3)), r"mask must have shape \(H, W\) or \(N, H, W\); got \(3,\)"),
        (lambda: Region(1, -torch.ones(3, 3)), "finite weights of at least 0"),
        (lambda: Region(1, torch.full((3, 3), float("nan"))), "finite weights of at least 0"),
        (lambda: Similarity(torch.ones(5), "euclidean"), "kind must be one of 'cosine', 'dot'; got 'euclidean'"),
        (lambda: Similarity(torch.ones(1, 3, 8, 8)), r"\(D,\) or \(N, D\); got \(1, 3, 8, 8\) .* not the picture"),
        (lambda: Similarity(torch.ones(5).long()), "reference must hold floats"),
        (lambda: Similarity(torch.zeros(5)), "must be finite, and have a direction"),
        (lambda: Similarity(torch.full((5,), float("inf")), "dot"), "must be finite, and have a direction"),
        (lambda: Token(3), "tokens must have 1 or 2 axes"),
        (lambda: Token([0.5, 1.0]), "tokens must hold whole numbers"),
        (lambda: Token([1, 2], pad=0.5), "pad must be an integer"),
        (lambda: Token([1, 2], position=[0.5]), "position must hold whole numbers"),
        (lambda: Token([1, 2], space="odds"), "score space must be one of"),
        (lambda: Box((0, 0, 4), 1), r"box must have shape \(4,\) or \(N, 4\)"),
        (lambda: Box("cat", 1), r"box must have shape \(4,\) or \(N, 4\)"),
        (lambda: Box((4, 4, 2, 2), 1), "x1 < x2 and y1 < y2, in pixels; .* Convert xywh boxes"),
        (lambda: Box((2, 4, 4, 4), 1), "x1 < x2 and y1 < y2, in pixels; .* overlaps nothing: take another detection"),
        (lambda: Box((2, 4, float("nan"), 4), 1), "x1 < x2 and y1 < y2, in pixels"),
        (lambda: Box((0, 0, 4, 4), 1.5), "label of a box must hold whole numbers"),
        (lambda: Box((0, 0, 4, 4), 1, iou=2), r"iou must be a finite number in \[0, 1\]; got 2"),
        (lambda: Similarity(torch.ones(5)).in_space("probability"), "'probability' must be asked of a class"),
        (lambda: Box((0, 0, 4, 4), 1).in_space("log_odds"), "'log_odds' must be asked of a class"),
    ],
)
def test_an_objective_of_an_output_that_makes_no_sense_cannot_be_built(build: Any, message: str) -> None:
    with pytest.raises((InputError, TargetError), match=message):
        build()


# --- through the door that most users take


def test_a_name_that_no_class_has_is_told_with_those_that_are_like_it() -> None:
    with pytest.raises(TargetError, match=r"or one of 5 names of classes; got 'ants'\. Did you mean 'ant'"):
        explain(tiny.loaded(), tiny.picture(0), methods=["saliency"], target="ants")
    with pytest.raises(TargetError, match=r"got 'ants'\. A LoadedModel knows"):
        explain(NET, X, methods=["saliency"], target="ants")


def test_explain_takes_goals_of_other_outputs_and_counts_their_entries() -> None:
    network, pictures = tiny.loaded(), [tiny.picture(seed) for seed in range(2)]
    found = explain(network, pictures, methods=["saliency"], targets={"ant": Label(0), "each": [Label(1), Label(2)]})
    x = network.inputs(pictures)
    for words, goal in (("ant", Label(0)), ("each", Label([1, 2]))):
        assert_close(found.maps["saliency"][words], Saliency(network.model).attribute(x, goal))
    chance = Label(0, "probability")(network.model(x), {}).tolist()
    assert [one.probability for one in found.asked["ant"]] == pytest.approx(chance)
    assert [one.index for one in found.asked["each"]] == [None, None]  # more than a class
    assert [one.name for one in found.asked["ant"]] == ["ant", "ant"]
    at = torch.tensor([0, 1, 0])
    many = (Label([1, 2, 3]), Similarity(torch.ones(3, 5)), [ClassScore(1)] * 3, Label([1, 2, 3]) - Label(0))
    for goal in (*many, Neuron("conv2", 1, at, at)):
        with pytest.raises(TargetError, match="one for each of 2 images; got 3"):
            explain(network, pictures, methods=["saliency"], target=goal)
