"""The loop that makes images: against plain loops and closed forms, and what it promises beside its numbers."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from attrib.core import Channel, ClassScore, Each, Neuron, count
from attrib.core.objectives.features import Energy, Guided, Match
from attrib.core.synth import (
    L2,
    AlphaNorm,
    Bounds,
    Fourier,
    Generated,
    Jitter,
    Move,
    NotFiniteError,
    PixelSpace,
    Rotate,
    Scale,
    Search,
    Step,
    TotalVariation,
    synthesize,
)
from attrib.errors import InputError, LayerError, ModelError, ShapeError, TargetError
from tests import nets
from tests.oracles import synth as oracle

START = torch.zeros(1, 3, 10, 10)


@pytest.fixture
def net() -> nn.Module:
    return nets.make("module")


def noise(seed: int = 0, n: int = 1) -> Tensor:
    return torch.randn(n, 3, 10, 10, generator=torch.Generator().manual_seed(seed))


def linear(weight: Tensor) -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(weight.numel(), 1, bias=False))
    net[1].weight.data = weight.reshape(1, -1).clone()  # type: ignore[union-attr]
    return net.eval()


class TestTheFormula:
    def test_is_the_class_formula_from_zero_as_written(self, net: nn.Module) -> None:
        found = synthesize(net, 2, START, Search(steps=6, move=Move(0.7), penalties=(L2(0.01),)))
        wanted = oracle.simonyan(lambda i: net(i)[0, 2], (1, 3, 10, 10), 0.01, 0.7, 6)
        torch.testing.assert_close(found.image, wanted)

    def test_ends_at_w_over_two_lambda_on_a_linear_network(self) -> None:
        weight = noise(1)[0]
        found = synthesize(linear(weight), 0, START, Search(steps=80, move=Move(0.5), penalties=(L2(0.4),)))
        torch.testing.assert_close(found.image[0], weight / 0.8)
        torch.testing.assert_close(found.total[-1], (weight.square().sum() / 1.6)[None], rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("norm", ["raw", "unit", "l1", "sign"])
    def test_one_step_of_each_norm(self, norm: Any) -> None:
        weight = noise(1)[0]
        sizes = {"raw": 1.0, "unit": float(weight.norm()), "l1": float(weight.abs().mean())}
        wanted = weight.sign() if norm == "sign" else weight / sizes[norm]
        found = synthesize(linear(weight), 0, START, Search(steps=1, move=Move(0.5, norm)))
        torch.testing.assert_close(found.image[0], 0.5 * wanted)

    def test_adam_is_torchs(self, net: nn.Module) -> None:
        found = synthesize(net, 2, noise(), Search(steps=5, move=Move(0.1, optimiser="adam")))
        wanted = oracle.adam(lambda x: oracle.slope(lambda i: net(i)[0, 2], x), noise(), 0.1, 5)
        torch.testing.assert_close(found.image, wanted)

    def test_momentum_adds_up_on_a_linear_network(self) -> None:
        weight = noise(1)[0]
        found = synthesize(linear(weight), 0, START, Search(steps=3, move=Move(1.0, momentum=0.5)))
        torch.testing.assert_close(found.image[0], (1 + 1.5 + 1.75) * weight)

    def test_a_schedule_holds_its_last_rate_and_a_function_is_asked_each_step(self) -> None:
        weight = noise(1)[0]
        rates = synthesize(linear(weight), 0, START, Search(steps=4, move=Move([(1.0, 1), (0.5, 2)])))
        torch.testing.assert_close(rates.image[0], 2.5 * weight)
        asked = synthesize(linear(weight), 0, START, Search(steps=3, move=Move(lambda step: 10.0**-step)))
        torch.testing.assert_close(asked.image[0], 1.11 * weight)

    def test_what_is_recorded_is_the_score_and_each_penalty_at_every_image(self, net: nn.Module) -> None:
        steps: list[Step] = []
        how = Search(steps=3, move=Move(0.5), penalties=(L2(0.01), TotalVariation(0.1)), on_step=steps.append)
        found = synthesize(net, 2, noise(), how)
        images = [step.image for step in steps] + [found.image]
        torch.testing.assert_close(found.score[:, 0], torch.stack([net(i)[0, 2].detach() for i in images]))
        torch.testing.assert_close(found.penalties["L2"][:, 0], torch.stack([0.01 * i.square().sum() for i in images]))
        assert found.penalties["TotalVariation"].shape == (4, 1)
        torch.testing.assert_close(found.total, found.score - sum(found.penalties.values()))


class TestNetworksThatAreHardToRun:
    def test_a_network_that_views_its_input_as_rows_is_run_in_the_usual_layout(self) -> None:
        weight, asked = noise(1)[0], list[bool]()

        def rows(x: Tensor) -> Tensor:
            asked.append(x.is_contiguous())
            return x.view(len(x), -1) @ weight.reshape(-1, 1)

        found = synthesize(rows, 0, START, Search(steps=2, move=Move(0.5)))
        torch.testing.assert_close(found.image[0], weight)
        assert asked == [False, True, True, True, True]

    def test_other_failures_of_a_network_are_told(self) -> None:
        with pytest.raises(ModelError, match="the model failed on inputs"):
            synthesize(nn.Linear(3, 2), 0, START)

    def test_a_generator_is_evaluated_and_left_as_found(self, net: nn.Module) -> None:
        generator = nn.Sequential(nn.Linear(4, 300), nn.BatchNorm1d(300), nn.Unflatten(1, (3, 10, 10))).train()
        before = {name: value.clone() for name, value in generator.state_dict().items()}
        code = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))
        found = synthesize(net, 2, code, Search(steps=3, parameters=Generated(generator)))
        assert float(found.score[-1]) > float(found.score[0])  # BatchNorm in training refuses a batch of one
        assert generator.training
        assert all(weight.requires_grad and weight.grad is None for weight in generator.parameters())
        assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ({"views": Jitter(2)}, r"views must be a sequence of View; got Jitter\(pixels=2\)"),
            ({"penalties": [Jitter(2)]}, "penalties must be of attrib.core.synth.Penalty; got Jitter"),
            ({"move": 0.1}, "move must be of attrib.core.synth.Move; got 0.1"),
            ({"parameters": "fourier"}, "parameters must be of attrib.core.synth.Parameters; got 'fourier'"),
        ],
    )
    def test_settings_of_the_wrong_kind_are_refused(self, how: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            Search(**how)

    def test_half_precision_cannot_be_searched_by_frequency(self, net: nn.Module) -> None:
        with pytest.raises(InputError, match=r"float32 or float64 .* got torch.bfloat16"):
            synthesize(net, 2, START.bfloat16(), Search(parameters=Fourier()))

    def test_every_size_and_number_of_channels_comes_back_from_its_frequencies(self) -> None:
        for shape in ((1, 1, 1, 1), (2, 1, 5, 4), (1, 3, 7, 9), (1, 4, 2, 3)):
            start = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).clamp(0.02, 0.98)
            back = Fourier(decay=1.3).image(Fourier(decay=1.3).encode(start), start.shape)
            torch.testing.assert_close(back, start)


class TestPenalties:
    @given(st.floats(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
    def test_total_variation_is_the_sum_written_out(self, beta: float, high: int, wide: int, seed: int) -> None:
        image = torch.randn(2, high, wide, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        wanted = oracle.total_variation(image, beta)
        assert float(TotalVariation(beta=beta)(image[None])) == pytest.approx(wanted, abs=1e-9)

    @pytest.mark.parametrize("penalty", [TotalVariation(beta=1.0), TotalVariation(beta=1.5), AlphaNorm(alpha=1.0)])
    def test_a_flat_image_has_a_gradient_of_zero_and_not_nan(self, penalty: Any) -> None:
        image = torch.zeros(1, 1, 3, 3, requires_grad=True)
        (found,) = torch.autograd.grad(penalty(image).sum(), image)
        assert torch.equal(found, torch.zeros_like(image))

    def test_gradients_are_those_of_finite_differences(self) -> None:
        image = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
        for penalty in (TotalVariation(beta=1.0), TotalVariation(beta=3.0), AlphaNorm(alpha=3.0), L2()):
            assert torch.autograd.gradcheck(penalty, (image,))

    def test_powers_below_one_are_refused(self) -> None:
        with pytest.raises(InputError, match=r"beta must be a finite number in \[1, inf\]; got 0.5"):
            TotalVariation(beta=0.5)
        with pytest.raises(InputError, match="alpha must be"):
            AlphaNorm(alpha=0.9)

    def test_two_of_a_kind_would_share_a_name(self) -> None:
        with pytest.raises(InputError, match="different kinds; got L2, L2"):
            Search(penalties=(L2(), L2(2.0)))


class TestViews:
    def test_nothing_changes_when_nothing_is_drawn(self) -> None:
        image, generator = noise(), torch.Generator()
        for view in (Jitter(0), Rotate(0.0), Scale(1.0, 1.0)):
            torch.testing.assert_close(view(image, generator), image, atol=1e-5, rtol=0)

    def test_a_dot_goes_where_the_angle_says_in_an_image_that_is_not_square(self) -> None:
        down, across = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(61.0) - 30, indexing="ij")
        dot = torch.exp(-(down.square() + (across - 12).square()) / 8)[None, None]
        angle = math.radians(-70 + 140 * float(torch.rand((), generator=torch.Generator().manual_seed(3))))
        seen = Rotate(70.0)(dot, torch.Generator().manual_seed(3))[0, 0]
        centre = [float((seen * axis).sum() / seen.sum()) for axis in (down, across)]
        assert abs(math.degrees(angle)) > 5
        assert math.hypot(*centre) == pytest.approx(12, abs=0.1)
        assert abs(math.degrees(math.atan2(centre[0], centre[1]))) == pytest.approx(abs(math.degrees(angle)), abs=0.5)

    def test_twice_as_large_shows_the_middle_half(self) -> None:
        image = torch.zeros(1, 1, 8, 6)
        image[..., 2:6, 2:4] = 1.0
        seen = Scale(2.0, 2.0)(image, torch.Generator())
        assert float(seen[0, 0, 1:7, 2:4].min()) == pytest.approx(1.0)

    def test_the_search_sees_them_and_the_gradient_comes_back(self, net: nn.Module) -> None:
        found = synthesize(net, 2, noise(), Search(steps=1, move=Move(1.0), views=(Jitter(3),), seed=5))
        down, across = torch.randint(-3, 4, (2,), generator=torch.Generator().manual_seed(5)).tolist()
        wanted = oracle.slope(lambda i: net(i.roll((down, across), (-2, -1)))[0, 2], noise())
        assert (down, across) != (0, 0)
        torch.testing.assert_close(found.image, noise() + wanted)


class TestParameters:
    @given(st.integers(2, 9), st.integers(2, 9), st.sampled_from([1, 3]), st.floats(0, 2))
    def test_frequencies_give_the_start_back(self, high: int, wide: int, channels: int, decay: float) -> None:
        space = PixelSpace(0.4, 0.5)
        start = torch.rand(2, channels, high, wide, dtype=torch.float64, generator=torch.Generator().manual_seed(high))
        start = space.to_input(0.02 + 0.96 * start)
        way = Fourier(space, decay)
        torch.testing.assert_close(way.image(way.encode(start), start.shape), start)

    def test_frequencies_never_leave_black_and_white(self, net: nn.Module) -> None:
        space = PixelSpace((0.4, 0.5, 0.6), (0.2, 0.3, 0.2))
        found = synthesize(net, 2, START, Search(steps=4, move=Move(50.0), parameters=Fourier(space)))
        assert 0 <= float(space.to_picture(found.image).min()) < float(space.to_picture(found.image).max()) <= 1

    def test_the_gradient_goes_back_through_them(self, net: nn.Module) -> None:
        way = Fourier(PixelSpace(0.5, 0.5))
        found = synthesize(net, 2, noise(), Search(steps=1, move=Move(0.5), parameters=way, penalties=(L2(0.1),)))
        code = way.encode(noise())
        wanted = oracle.slope(
            lambda z: net(way.image(z, noise().shape))[0, 2] - 0.1 * way.image(z, noise().shape).square().sum(), code
        )
        torch.testing.assert_close(found.unfinished.parameters, code + 0.5 * wanted)

    def test_the_code_of_a_generator_is_searched(self, net: nn.Module) -> None:
        basis = noise(3, 4)

        def generator(code: Tensor) -> Tensor:
            return torch.einsum("nk,kchw->nchw", code, basis)

        found = synthesize(net, 2, torch.zeros(2, 4), Search(steps=3, move=Move(0.1), parameters=Generated(generator)))
        assert found.image.shape == (2, 3, 10, 10)
        assert found.unfinished.parameters.shape == (2, 4)
        torch.testing.assert_close(found.image, generator(found.unfinished.parameters))
        assert (found.score[-1] > found.score[0]).all()

    def test_a_generator_of_something_else_is_refused(self, net: nn.Module) -> None:
        with pytest.raises(ShapeError, match=r"one image per code, \(2, C, H, W\); got \(1, 3, 10, 10\)"):
            synthesize(net, 2, torch.zeros(2, 4), Search(parameters=Generated(lambda _: START)))
        with pytest.raises(InputError, match="generator must be a callable; got str"):
            Generated("gan")  # type: ignore[arg-type]

    def test_projections_act_on_pixels_only(self) -> None:
        with pytest.raises(InputError, match="projections must be left out where Fourier is searched over; got 1"):
            Search(parameters=Fourier(), projections=(Bounds(),))


SETTINGS: dict[str, Callable[[], Search]] = {
    "plain": lambda: Search(steps=4, move=Move(0.3, momentum=0.5)),
    "views": lambda: Search(steps=4, move=Move(0.3, "unit"), views=(Jitter(2), Rotate(9.0), Scale(0.9, 1.2))),
    "fourier": lambda: Search(
        steps=4, move=Move(0.1, optimiser="adam"), parameters=Fourier(), views=(Jitter(2),), penalties=(L2(0.01),)
    ),
}


class TestPromises:
    @pytest.mark.parametrize("how", SETTINGS)
    def test_an_image_does_not_depend_on_those_beside_it(self, net: nn.Module, how: str) -> None:
        start = noise(1, 3)
        together = synthesize(net, [2, 0, 4], start, SETTINGS[how]())
        for n, unit in enumerate([2, 0, 4]):
            alone = synthesize(net, unit, start[n : n + 1], SETTINGS[how]())
            torch.testing.assert_close(together.image[n : n + 1], alone.image)
            torch.testing.assert_close(together.score[:, n : n + 1], alone.score)
            assert together.best_step[n] == alone.best_step[0]

    @pytest.mark.parametrize("how", SETTINGS)
    def test_to_go_on_is_as_if_it_had_never_stopped(self, net: nn.Module, how: str) -> None:
        start, search = noise(1, 2), SETTINGS[how]()
        whole = synthesize(net, 2, start, Search(**{**vars(search), "steps": 7}))
        first = synthesize(net, 2, start, search)
        both = synthesize(net, 2, start, Search(**{**vars(search), "steps": 3}), resume=first)
        for name in ("image", "best", "best_step", "score", "dead"):
            assert torch.equal(getattr(both, name), getattr(whole, name)), name
        assert both.unfinished.steps == 7

    def test_going_on_from_another_start_is_refused(self, net: nn.Module) -> None:
        first = synthesize(net, 2, START, Search(steps=1))
        with pytest.raises(InputError, match=r"the one that the search began with, of \(1, 3, 10, 10\); got \(2, 3"):
            synthesize(net, 2, noise(0, 2), Search(steps=1), resume=first)

    def test_the_best_image_is_kept(self) -> None:
        net = nn.Sequential(nn.Flatten(), _Hill())
        found = synthesize(net, 0, torch.full((1, 1, 1, 1), 2.5), Search(steps=4, move=Move(1.0, "sign")))
        assert (found.image.item(), found.best.item(), found.best_step.item()) == (0.5, 0.5, 2)
        assert found.score[:, 0].tolist() == [-6.25, -2.25, -0.25, -0.25, -0.25]
        once = synthesize(net, 0, torch.full((1, 1, 1, 1), 2.5), Search(steps=3, move=Move(1.0, "sign")))
        assert (once.image.item(), once.best.item()) == (-0.5, 0.5)

    def test_it_ends_when_it_is_told_to(self, net: nn.Module) -> None:
        found = synthesize(net, 2, START, Search(steps=50, on_step=lambda step: step.number == 3))
        assert (found.stopped, found.unfinished.steps, len(found.score)) == ("asked", 3, 4)

    def test_ctrl_c_keeps_what_is_there(self, net: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
        def interrupt(step: Step) -> None:
            if step.number == 2:
                raise KeyboardInterrupt

        with caplog.at_level(logging.WARNING, "attrib"):
            found = synthesize(net, 2, noise(), Search(steps=50, move=Move(0.1), on_step=interrupt))
        assert (found.stopped, len(found.score)) == ("interrupted", 3)
        assert "interrupted at step 2" in caplog.text
        more = synthesize(net, 2, noise(), Search(steps=3, move=Move(0.1)), resume=found)
        whole = synthesize(net, 2, noise(), Search(steps=5, move=Move(0.1)))
        assert torch.equal(more.image, whole.image)

    def test_a_dead_unit_is_said_and_searched_on_by_penalties(
        self, net: nn.Module, caplog: pytest.LogCaptureFixture
    ) -> None:
        dead = nn.Sequential(nn.Flatten(), nn.Linear(300, 2), nn.ReLU())
        with torch.no_grad():
            dead[1].bias.copy_(torch.tensor([-1e6, 1e3]))  # type: ignore[union-attr, operator]
        how = Search(steps=2, move=Move(0.1), penalties=(L2(1.0),))
        with caplog.at_level(logging.WARNING, "attrib"):
            found = synthesize(dead, [0, 1], noise(0, 2), how)
        assert found.dead.tolist() == [True, False]
        assert "the score of image 0 does not change" in caplog.text
        torch.testing.assert_close(found.image[0], 0.64 * noise(0, 2)[0])

    def test_numbers_that_leave_the_numbers_stop_with_the_last_good_image(self) -> None:
        net = nn.Sequential(nn.Flatten(), _Explodes())
        with pytest.raises(
            NotFiniteError, match="objective must stay finite; it became NaN or infinite at step 2"
        ) as info:
            synthesize(net, 0, torch.ones(1, 1, 1, 1), Search(steps=9, move=Move(1.0)))
        assert info.value.step == 2
        assert info.value.found.image.item() == 2.0
        assert len(info.value.found.score) == 2

    def test_nothing_is_touched(self, net: nn.Module) -> None:
        net.train()
        before = {name: value.clone() for name, value in net.state_dict().items()}
        start, random = noise(), torch.get_rng_state()
        kept = start.clone()
        how = Search(steps=2, views=(Jitter(3), Rotate(3.0), Scale()), parameters=Fourier())
        synthesize(net, 2, start, how)
        assert torch.equal(start, kept)
        assert torch.equal(torch.get_rng_state(), random)
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
        assert net.training
        assert all(w.grad is None and w.requires_grad for w in net.parameters())

    def test_costs_what_it_says(self, net: nn.Module) -> None:
        with count() as cost:
            synthesize(net, 2, noise(0, 2), Search(steps=5))
        assert (cost.forwards, cost.backwards) == (2 * 7, 2 * 5)

    def test_what_is_open_is_settled_on_the_start(self, net: nn.Module) -> None:
        start = noise()
        label = int(net(start).argmax())
        away = Search(steps=3, move=Move(1.0))
        found = synthesize(net, "predicted", start, away)
        torch.testing.assert_close(found.score, synthesize(net, label, start, away).score)


class _Hill(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return -x.square()


class _Explodes(nn.Module):
    """Fine up to 2, and NaN beyond."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 2.5, torch.nan, x)


class TestObjectives:
    def test_the_forward_pass_ends_where_the_layer_is(self, net: nn.Module) -> None:
        ran: list[str] = []
        for name, module in net.named_modules():
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
        names = [name for name, _ in net.named_modules() if name]
        first = next(name for name in names if "conv" in name)
        for goal in (Energy(first), Channel(first, 0), Neuron(first, 1), Each((Energy(first),)), Energy(first) * 2.0):
            ran.clear()
            synthesize(net, goal, noise(), Search(steps=1))
            assert ran
            assert "" not in ran
        ran.clear()
        synthesize(net, Energy(first) + ClassScore(0), noise(), Search(steps=1))
        assert "" in ran

    def test_a_pass_that_ends_early_has_the_same_numbers(self, net: nn.Module) -> None:
        first = next(name for name, m in net.named_modules() if isinstance(m, nn.Conv2d))
        early = synthesize(net, Channel(first, 1), noise(), Search(steps=3, move=Move(0.1)))
        whole = synthesize(net, Channel(first, 1) + 0.0 * ClassScore(0), noise(), Search(steps=3, move=Move(0.1)))
        torch.testing.assert_close(early.image, whole.image)

    def test_half_the_gradient_of_the_energy_is_the_activation(self) -> None:
        act = torch.randn(2, 3, 4, 4, requires_grad=True)
        (found,) = torch.autograd.grad(Energy("a")(None, {"a": act}).sum(), act)
        torch.testing.assert_close(found / 2, act.detach())

    def test_a_guide_pulls_each_place_to_the_place_most_like_it(self) -> None:
        act, guide = torch.randn(1, 3, 2, 2, requires_grad=True), torch.randn(3, 2, 3)
        (found,) = torch.autograd.grad(Guided("a", guide)(None, {"a": act}).sum(), act)
        flat = guide.flatten(1)
        for place in range(4):
            f = act.detach().flatten(2)[0, :, place]
            best = max(range(6), key=lambda q: float(f @ flat[:, q]))
            torch.testing.assert_close(found.flatten(2)[0, :, place], flat[:, best])

    def test_features_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(
            ShapeError, match=r"features must have the shape that 'a' gives, \(1, 3, 2, 2\); got \(1, 3, 4"
        ):
            Match("a", torch.ones(1, 3, 4, 4))(None, {"a": torch.ones(1, 3, 2, 2)})
        with pytest.raises(TargetError, match="features of 'a' must not all be 0"):
            Match("a", torch.zeros(1, 3))
        with pytest.raises(ShapeError, match="guide must be"):
            Guided("a", torch.ones(2, 4, 4))(None, {"a": torch.ones(1, 3, 2, 2)})
        with pytest.raises(LayerError, match="must have places"):
            Guided("a", torch.ones(3, 4))(None, {"a": torch.ones(1, 3)})

    def test_a_score_without_a_gradient_is_refused(self, net: nn.Module) -> None:
        for goal in (lambda out: out.argmax(1).float(), lambda out: out.detach()[:, 0]):
            with pytest.raises(ModelError, match="the score must depend on the image"):
                synthesize(net, goal, noise(), Search(steps=1))

    def test_a_unit_that_is_not_there_is_refused(self, net: nn.Module) -> None:
        with pytest.raises(TargetError, match="99"):
            synthesize(net, 99, START, Search(steps=1))
        first = next(name for name, m in net.named_modules() if isinstance(m, nn.Conv2d))
        with pytest.raises(TargetError, match="channel must lie in"):
            synthesize(net, Channel(first, 99), START, Search(steps=1))


class TestTiles:
    def test_one_tile_is_the_whole(self, net: nn.Module) -> None:
        first = next(name for name, m in net.named_modules() if isinstance(m, nn.Conv2d))
        plain = synthesize(net, Energy(first), noise(), Search(steps=3, views=(Jitter(2),)))
        tiled = synthesize(net, Energy(first), noise(), Search(steps=3, views=(Jitter(2),), tile=10))
        torch.testing.assert_close(tiled.image, plain.image)
        torch.testing.assert_close(tiled.score, plain.score)

    def test_tiles_add_up_where_pixels_do_not_look_at_each_other(self) -> None:
        net = nn.Conv2d(3, 4, 1)
        start = noise()[..., :7]
        how: dict[str, Any] = {"steps": 3, "move": Move(0.1), "views": (Jitter(2), Rotate(5.0))}
        plain = synthesize(net, lambda out: out.flatten(1).square().sum(1), start, Search(**how))
        tiled = synthesize(net, lambda out: out.flatten(1).square().sum(1), start, Search(**how, tile=4))
        torch.testing.assert_close(tiled.image, plain.image)
        torch.testing.assert_close(tiled.score, plain.score)

    def test_no_pass_sees_more_than_a_tile(self) -> None:
        net, sizes = nn.Conv2d(3, 4, 3), []
        net.register_forward_hook(lambda _, args, __: sizes.append(tuple(args[0].shape[2:])))
        synthesize(net, lambda out: out.flatten(1).sum(1), noise(), Search(steps=1, tile=6))
        assert set(sizes) == {(5, 5)}
