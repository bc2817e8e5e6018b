"""Words of a caption are explained by what they name: measured on a captioner trained here, on new pictures."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from captum.attr import NoiseTunnel
from torch import Tensor
from torch.testing import assert_close

from attrib import Attribution, GradCAM, HiResCAM, Occlusion, Saliency, Token
from attrib.core import count
from attrib.errors import InputError, ShapeError
from attrib.models import (
    COLOURS,
    PAD,
    SHAPES,
    VOCABULARY,
    Captioner,
    Scenes,
    coloured_shapes,
    decode,
    encode,
    train_captioner,
    turned,
)

HELD_OUT = coloured_shapes(128, seed=2)  # the captioner is trained with seed 1
X, TOKENS = HELD_OUT.x, HELD_OUT.tokens
LAST = torch.tensor([len(caption.split()) - 1 for caption in HELD_OUT.captions])  # where the second shape is named
# Where each word that names something stands, and which of the two shapes it names.
NAMED: dict[str, tuple[Tensor, int]] = {
    "first colour": (torch.zeros(len(X), dtype=torch.long), 0),
    "first shape": (torch.ones(len(X), dtype=torch.long), 0),
    "second colour": (LAST - 1, 1),
    "second shape": (LAST, 1),
}
COLOUR_WORDS = ("first colour", "second colour")


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    scenes = coloured_shapes(4096, seed=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small matrices; and the same captioner wherever the tests run
    try:
        return train_captioner(scenes.x, scenes.tokens, words=len(VOCABULARY))
    finally:
        torch.set_num_threads(threads)


def shares(maps: Tensor, shape: int, scenes: Scenes = HELD_OUT) -> tuple[Tensor, Tensor, Tensor]:
    """Of the positive part of ``maps``: the share on the named shape, that on the other one, and the shape's area.

    Shapes are grown by 4 pixels, one cell of the encoder's map.
    """
    maps = F.interpolate(maps.relu(), size=(32, 32), mode="bilinear") if maps.shape[2] != 32 else maps.relu()
    grown = F.max_pool2d(scenes.masks.float(), 9, 1, 4)
    inside = (maps * grown).sum((2, 3)) / maps.sum((2, 3)).clamp(min=1e-20)
    return inside[:, shape], inside[:, 1 - shape], grown.mean((2, 3))[:, shape]


def explained(method: Attribution, word: str) -> tuple[Tensor, Tensor, Tensor]:
    place, shape = NAMED[word]
    return shares(method.attribute(X, Token(TOKENS, place), additional_forward_args=TOKENS), shape)


# --- it learned to caption


def test_what_it_says_of_new_pictures_is_true(captioner: Captioner) -> None:
    said = decode(captioner.caption(X))
    true = [one in (caption, turned(caption)) for one, caption in zip(said, HELD_OUT.captions, strict=True)]
    assert sum(true) / len(true) > 0.85
    assert len(set(said)) > 50


def test_told_the_first_colour_it_knows_the_other_words(captioner: Captioner) -> None:
    right = captioner(X, TOKENS).argmax(2) == TOKENS
    counted = TOKENS[:, 1:] != PAD
    assert float(right[:, 1:][counted].float().mean()) > 0.96
    assert 0.3 < float(right[:, 0].float().mean()) < 0.7  # either shape may come first, and it cannot know


def test_it_says_what_it_finds_likeliest_word_by_word(captioner: Captioner) -> None:
    said = captioner.caption(X)
    assert torch.equal(captioner(X, said).argmax(2)[said != PAD], said[said != PAD])
    assert bool(((said == 2).sum(1) == 1).all())  # one end, then padding
    after_end = (said == 2).cumsum(1).roll(1, 1)[:, 1:] > 0
    assert bool((said[:, 1:][after_end] == PAD).all())
    assert torch.equal(captioner.caption(X, length=3), said[:, :3])


def test_a_word_knows_the_words_before_it_and_not_those_after_it(captioner: Captioner) -> None:
    other = TOKENS.clone()
    other[:, 3] = VOCABULARY.index("above")
    clean, changed = captioner(X, TOKENS), captioner(X, other)
    assert torch.equal(clean[:, :4], changed[:, :4])
    assert not torch.allclose(clean[:, 4], changed[:, 4])


# --- maps of words


@pytest.mark.parametrize("word", COLOUR_WORDS)
def test_grad_cam_of_a_colour_falls_on_the_shape_of_that_colour(captioner: Captioner, word: str) -> None:
    own, other, area = explained(GradCAM(captioner, "encoder"), word)
    assert float((own > other).float().mean()) > 0.85
    place, _ = NAMED[word]
    named = TOKENS[torch.arange(len(X)), place]
    for colour in COLOURS:
        these = named == VOCABULARY.index(colour)
        assert int(these.sum()) > 15
        assert float(own[these].mean()) > 1.8 * float(area[these].mean())
        assert float(own[these].mean()) > 3 * float(other[these].mean())


@pytest.mark.parametrize("word", NAMED)
def test_occlusion_of_every_word_falls_on_the_shape_that_it_names(captioner: Captioner, word: str) -> None:
    own, other, area = explained(Occlusion(captioner, window=8, stride=4, baseline=0.5), word)
    assert float((own > other).float().mean()) > 0.8
    assert float(own.mean()) > 2.2 * float(area.mean())


@pytest.mark.parametrize("word", ["first shape", "second shape"])
def test_grad_cam_does_not_tell_the_shapes_apart_where_the_gradient_itself_does(
    captioner: Captioner, word: str
) -> None:
    own, other, _ = explained(GradCAM(captioner, "encoder"), word)  # channels of edges are alive on both
    assert 0.3 < float((own > other).float().mean()) < 0.8
    for method in (Saliency(captioner), HiResCAM(captioner, "encoder")):
        own, other, area = explained(method, word)
        assert float((own > other).float().mean()) > 0.85
        assert float(own.mean()) > 2.2 * float(area.mean())


def test_the_map_of_a_wrong_word_falls_elsewhere(captioner: Captioner) -> None:
    """Asked for the colour of the second shape in the first place, the map is on the second shape."""
    wrong = TOKENS.clone()
    wrong[:, 0] = TOKENS.gather(1, (LAST - 1)[:, None])[:, 0]
    for method in (GradCAM(captioner, "encoder"), Occlusion(captioner, window=8, stride=4, baseline=0.5)):
        maps = method.attribute(X, Token(wrong, position=0), additional_forward_args=TOKENS)
        named_first, named_second, area = shares(maps, 0)
        assert float((named_second > named_first).float().mean()) > 0.8
        assert float(named_first.mean()) < 0.7 * float(area.mean())


def test_a_colour_that_is_not_there_loses_next_to_nothing_where_it_is_not(captioner: Captioner) -> None:
    """Hiding either shape costs the colours that are there more than those that are not."""
    absent = [next(c for c in COLOURS if c not in caption) for caption in HELD_OUT.captions]
    occlusion = Occlusion(captioner, window=8, stride=4, baseline=0.5)

    def most(goals: Tensor) -> Tensor:
        of_each = [Token(int(word), position=0, space="probability") for word in goals]
        return occlusion.attribute(X, of_each, additional_forward_args=TOKENS).flatten(1).amax(1)

    there, missing = most(TOKENS[:, 0]), most(torch.tensor([VOCABULARY.index(colour) for colour in absent]))
    assert float(there.median()) > 0.1
    assert float(missing.median()) < 0.02


def test_an_untrained_captioner_does_not_pass_for_one_that_looks() -> None:
    for seed in (0, 1):
        own, other, area = explained(GradCAM(Captioner(len(VOCABULARY), seed=seed).eval(), "encoder"), "first colour")
        assert float((own > other).float().mean()) < 0.75
        assert float(own.mean()) < 2 * float(area.mean())


# --- whole captions


def test_a_caption_is_as_likely_as_its_words_together(captioner: Captioner) -> None:
    with torch.no_grad():
        out = captioner(X, TOKENS)
    chance = out.softmax(2).gather(2, TOKENS[:, :, None])[:, :, 0]
    expected = torch.stack([row[word != PAD].log().sum() for row, word in zip(chance, TOKENS, strict=True)])
    assert_close(Token(TOKENS, pad=PAD)(out, {}), expected, rtol=1e-4, atol=1e-4)
    by_word = [Token(TOKENS, [place] * len(X))(out, {}) * (TOKENS[:, place] != PAD) for place in range(TOKENS.shape[1])]
    assert_close(Token(TOKENS, pad=PAD)(out, {}), torch.stack(by_word).sum(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [lambda m: GradCAM(m, "encoder", relu=False), lambda m: Occlusion(m, window=8)])
def test_the_signed_map_of_a_caption_is_the_sum_of_those_of_its_words(
    captioner: Captioner, make: Callable[[Captioner], Attribution]
) -> None:
    method, x, tokens = make(captioner), X[:8], TOKENS[:8]
    tokens = tokens[(tokens != PAD).all(1)]
    x = x[: len(tokens)]

    def maps(goal: Token) -> Tensor:
        return method.attribute(x, goal, additional_forward_args=tokens)

    words = [maps(Token(tokens, place)) for place in range(tokens.shape[1])]
    assert_close(maps(Token(tokens)), torch.stack(words).sum(0), rtol=1e-3, atol=1e-4)


def test_the_map_of_a_caption_is_what_the_gradient_of_its_log_probability_says(captioner: Captioner) -> None:
    x, tokens = X[:6].clone().requires_grad_(True), TOKENS[:6]
    log_p = captioner(x, tokens).log_softmax(2).gather(2, tokens[:, :, None])[:, :, 0]
    act = captioner.encoder((x - 0.5) * 4).detach().requires_grad_(True)
    (by_pixel,) = torch.autograd.grad((log_p * (tokens != PAD)).sum(), x)
    goal = Token(tokens, pad=PAD)
    got = Saliency(captioner, channels="none", absolute=False).attribute(X[:6], goal, additional_forward_args=tokens)
    assert_close(got, by_pixel, rtol=1e-3, atol=1e-4)

    def after(value: Tensor) -> Tensor:
        captioner.encoder.register_forward_hook(lambda *_: value)
        try:
            return captioner(X[:6], tokens).log_softmax(2).gather(2, tokens[:, :, None])[:, :, 0]
        finally:
            captioner.encoder._forward_hooks.clear()

    (grad,) = torch.autograd.grad((after(act) * (tokens != PAD)).sum(), act)
    expected = (grad.mean((2, 3), keepdim=True) * act).sum(1, keepdim=True).relu().detach()
    assert_close(GradCAM(captioner, "encoder").attribute(X[:6], goal, additional_forward_args=tokens), expected)


def test_captions_of_different_lengths_do_not_depend_on_each_other(captioner: Captioner) -> None:
    assert len({int(length) for length in LAST[:8]}) > 1
    method = GradCAM(captioner, "encoder")
    together = method.attribute(X[:8], Token(TOKENS[:8], pad=PAD), additional_forward_args=TOKENS[:8])
    for n in range(8):
        own = TOKENS[n : n + 1, : int(LAST[n]) + 2]  # its words and its end
        alone = method.attribute(X[n : n + 1], Token(own[0]), additional_forward_args=own)
        assert_close(together[n : n + 1], alone, rtol=1e-3, atol=1e-5)


def test_occlusion_hides_what_each_caption_is_about_and_repeats_its_words(captioner: Captioner) -> None:
    x, tokens, goal = X[:3], TOKENS[:3], Token(TOKENS[:3], pad=PAD)
    with count() as cost:
        maps = Occlusion(captioner, window=16, stride=16, baseline=0.5).attribute(
            x, goal, additional_forward_args=tokens
        )
    assert cost.backwards == 0
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        hidden = x.clone()
        hidden[:, :, 16 * i : 16 * i + 16, 16 * j : 16 * j + 16] = 0.5
        with torch.no_grad():
            drop = goal(captioner(x, tokens), {}) - goal(captioner(hidden, tokens), {})
        assert_close(maps[:, 0, 16 * i, 16 * j], drop, rtol=1e-3, atol=1e-4)


def test_noisy_copies_of_captioned_pictures_keep_their_captions(captioner: Captioner) -> None:
    goals = [Token(row, position=0) for row in TOKENS[:4]]
    torch.manual_seed(0)
    noisy = NoiseTunnel(GradCAM(captioner, "encoder"))
    maps = noisy.attribute(X[:4], target=goals, additional_forward_args=TOKENS[:4], nt_samples=5, stdevs=0.02)
    own, other, area = shares(maps, 0, Scenes(X[:4], HELD_OUT.captions[:4], TOKENS[:4], HELD_OUT.masks[:4]))
    assert bool((own > other).all())
    assert float(own.mean()) > 2 * float(area.mean())


# --- training


def test_training_is_repeatable_and_leaves_random_state_and_gradient_mode() -> None:
    few = coloured_shapes(64, seed=3)

    def trained(**options: int) -> list[Tensor]:
        net = train_captioner(few.x, few.tokens, words=len(VOCABULARY), **{"steps": 3, "batch": 16, **options})
        assert not net.training
        return [weight.detach() for weight in net.parameters()]

    before = torch.get_rng_state()
    once = trained()
    with torch.no_grad():
        again = trained()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    for changed in ({"seed": 1}, {"steps": 4}, {"batch": 8}):
        assert not torch.equal(trained(**changed)[0], once[0])


def test_training_lowers_the_loss() -> None:
    few = coloured_shapes(64, seed=3)

    def loss(steps: int) -> float:
        net = train_captioner(few.x, few.tokens, words=len(VOCABULARY), steps=steps, batch=32)
        with torch.no_grad():
            return -float(Token(few.tokens, pad=PAD)(net(few.x, few.tokens), {}).mean())

    assert loss(60) < 0.7 * loss(1)


def test_captions_and_pictures_must_fit() -> None:
    net = Captioner(len(VOCABULARY))
    with pytest.raises(ShapeError, match=r"tokens must have shape \(N=2, T\); got \(1, 7\)"):
        net(X[:2], TOKENS[:1])
    with pytest.raises(ShapeError, match=r"pictures must have shape"):
        train_captioner(X[:, :1], TOKENS, words=len(VOCABULARY))
    with pytest.raises(ShapeError, match=r"tokens must have shape \(N=128, T\)"):
        train_captioner(X, TOKENS[:5], words=len(VOCABULARY))
    with pytest.raises(InputError, match="length must be an integer >= 1; got 0"):
        net.caption(X, length=0)
    with pytest.raises(InputError, match="words must be an integer >= 1"):
        Captioner(0)


# --- the pictures


def test_a_caption_says_what_is_in_the_picture() -> None:
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    apart = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}
    seen = set()
    for n, caption in enumerate(HELD_OUT.captions):
        words = caption.split()
        (colour, shape), place, (other, other_shape) = words[:2], " ".join(words[2:-2]), words[-2:]
        seen |= {colour, shape, place, other, other_shape}
        centres = [torch.stack([y[mask].mean(), x[mask].mean()]) for mask in HELD_OUT.masks[n]]
        step = centres[0] - centres[1]
        wide = step.abs() == step.abs().amax()
        assert (step.sign() * wide).tolist() == list(apart[place])
        assert float(step.abs().amax()) > 1.5 * float(step.abs().amin())  # no doubt which
        for mask, name in zip(HELD_OUT.masks[n], (colour, other), strict=True):
            assert_close(X[n][:, mask].mean(1), torch.tensor(COLOURS[name]), rtol=0, atol=0.06)
        assert not bool((F.max_pool2d(HELD_OUT.masks[n].float(), 3, 1, 1).sum(0) > 1).any())  # they do not touch
    assert seen == {*COLOURS, *SHAPES, *apart}


def test_each_shape_has_its_own_outline() -> None:
    filled: dict[str, list[float]] = {shape: [] for shape in SHAPES}
    for n, caption in enumerate(HELD_OUT.captions):
        mask = HELD_OUT.masks[n, 0]
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        filled[caption.split()[1]].append(float(mask.sum() / (rows * columns)))
        assert abs(int(rows) - int(columns)) <= 2
    share = {shape: sum(values) / len(values) for shape, values in filled.items()}
    assert share["square"] == 1
    assert 0.7 < share["circle"] < 0.9  # pi / 4
    assert 0.4 < share["triangle"] < 0.65  # one half


def test_pictures_depend_on_the_seed_and_on_nothing_else() -> None:
    before = torch.get_rng_state()
    once, again, other = coloured_shapes(8, seed=5), coloured_shapes(8, seed=5), coloured_shapes(8, seed=6)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(once.x, again.x)
    assert once.captions == again.captions != other.captions
    assert coloured_shapes(8, seed=5, size=48).x.shape[2:] == (48, 48)
    assert float(coloured_shapes(8, noise=0).x[:, :, 0].std()) == 0
    assert len(once) == 8


def test_captions_are_written_and_read_as_numbers() -> None:
    assert decode(TOKENS) == HELD_OUT.captions
    assert torch.equal(encode(HELD_OUT.captions), TOKENS)
    assert all(turned(turned(caption)) == caption for caption in HELD_OUT.captions)
    assert decode(torch.tensor([[5, 7, 0, 0]])) == ["red circle"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: encode(["red circel"]), "captions must be of known words; got 'circel'. Did you mean 'circle'"),
        (lambda: encode(["red circle left of blue square above"]), "at most 6 words"),
        (lambda: coloured_shapes(0), "number of pictures must be an integer >= 1"),
        (lambda: coloured_shapes(1, size=8), "size must be an integer >= 24; got 8"),
        (lambda: coloured_shapes(1, noise=-1), "noise must be a finite number"),
    ],
)
def test_pictures_that_cannot_be_drawn_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()
