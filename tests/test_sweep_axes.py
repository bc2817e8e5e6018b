"""Sweeps over anything with examples along the first axis: signals, volumes, tokens, vectors, channels of layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attrib.core import ClassScore, Given, Query, frozen, resolve_baseline, sweep
from attrib.errors import InputError, LayerError, ShapeError
from tests import nets
from tests.incremental import agrees, ask, class_score, loop

DOUBLE = torch.float64


def filled(model: nn.Module) -> nn.Module:
    nets.fill(model)
    model.get_buffer("1.running_var").abs_().add_(0.5)
    return model.double()


def signals() -> nn.Module:
    return filled(
        nn.Sequential(
            *(nn.Conv1d(2, 6, 5, padding=2), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(6, 4, 3)),
            *(nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 5)),
        )
    )


def volumes(pool: nn.Module | None = None) -> nn.Module:
    return filled(
        nn.Sequential(
            *(nn.Conv3d(2, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(6, 4, 2)),
            *(nn.ReLU(), pool or nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 5)),
        )
    )


class Tokens(nn.Module):
    """Attention between tokens ``(N, T, D)``, each example for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.norm(x)
        x = x + self.attention(seen, seen, seen, need_weights=False)[0]
        out: Tensor = self.fc(x.mean(1))
        return out


def noise(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def holes(*shape: int, seed: int = 4) -> Given:
    return Given((torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) > 0.4).double())


def vectors() -> nn.Module:
    return nets.fill(nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 5))).double()


INPUTS: dict[str, tuple[Any, tuple[int, ...], str]] = {
    "signals": (signals, (2, 2, 24), "replayed"),
    "volumes": (volumes, (2, 2, 6, 4, 8), "replayed"),
    "volumes and their maximum": (lambda: volumes(nn.AdaptiveMaxPool3d(1)), (2, 2, 6, 4, 8), "replayed"),
    "vectors": (vectors, (2, 7), "replayed"),
    "tokens": (lambda: nets.fill(Tokens()).double(), (2, 5, 8), "transpose.int moves the batch axis"),
}


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", INPUTS)
def test_inputs_of_any_number_of_axes_are_masked_as_by_hand(name: str, own: bool) -> None:
    make, shape, way = INPUTS[name]
    model, x = make(), noise(*shape)
    masks = holes(9, 2 if own else 1, 1 if len(shape) > 2 else 7, *shape[2:])
    expected = loop(model, x, masks.keep, torch.tensor(0.3, dtype=DOUBLE), class_score(1))
    torch.testing.assert_close(ask(model, x, masks, baseline=0.3), expected, rtol=1e-9, atol=1e-12)
    assert agrees(model, x, masks, baseline=0.3) == way


@pytest.mark.parametrize("name", ["signals", "volumes"])
def test_channels_of_a_layer_are_masked_without_being_spread_over_locations(name: str) -> None:
    make, shape, _ = INPUTS[name]
    model, x = make(), noise(*shape)
    keep = 1 - torch.eye(6, dtype=DOUBLE).reshape(6, 1, 6, *(1 for _ in shape[2:]))
    assert agrees(model, x, Given(keep), at="2", baseline="mean") == "replayed"
    act = model[:3](x).detach()  # type: ignore[index]
    mean = act.flatten(2).mean(2).reshape(2, 6, *(1 for _ in shape[2:]))
    expected = loop(model[3:], act, keep, mean, class_score(1))  # type: ignore[index]
    torch.testing.assert_close(ask(model, x, Given(keep), at="2", baseline="mean"), expected, rtol=1e-9, atol=1e-12)


def test_channel_masks_of_a_picture_layer_are_served_by_a_replay_from_that_layer_on() -> None:
    model, x = nets.make("residual", DOUBLE), nets.batch(2, 9, 12, dtype=DOUBLE)
    keep = 1 - torch.eye(4, dtype=DOUBLE)[:, None, :, None, None]
    spread = Given(keep.expand(4, 1, 4, 5, 6).contiguous())
    assert agrees(model, x, Given(keep), at="conv", baseline=0.2) == "replayed"
    narrow, wide = (ask(model, x, masks, at="conv", baseline=0.2) for masks in (Given(keep), spread))
    torch.testing.assert_close(narrow, wide, rtol=1e-12, atol=1e-12)


def test_token_layers_are_masked_by_token_and_by_channel() -> None:
    model, x = nets.fill(Tokens()).double(), noise(2, 5, 8)
    act = model.norm(x).detach()

    class Rest(nn.Module):
        """What comes after the norm of one example, whose input is ``x[n]``."""

        def __init__(self, n: int) -> None:
            super().__init__()
            self.n = n

        def forward(self, seen: Tensor) -> Tensor:
            out = x[self.n : self.n + 1] + model.attention(seen, seen, seen, need_weights=False)[0]
            result: Tensor = model.fc(out.mean(1))
            return result

    for keep in (1 - torch.eye(5, dtype=DOUBLE)[:, None, :, None], 1 - torch.eye(8, dtype=DOUBLE)[:, None, None]):
        got = ask(model, x, Given(keep), at="norm", baseline=0.5)
        rows = [loop(Rest(n), act[n : n + 1], keep, torch.tensor(0.5), class_score(1)) for n in range(2)]
        torch.testing.assert_close(got, torch.cat(rows, 1), rtol=1e-9, atol=1e-12)


def test_the_mean_of_tokens_is_taken_over_tokens_and_that_of_maps_with_channels_last_over_their_places() -> None:
    x = noise(2, 3, 4, 5)
    assert torch.equal(resolve_baseline("mean", x, channels=3), x.mean((1, 2), keepdim=True))
    assert torch.equal(resolve_baseline("mean", x[:, :, :, 0], channels=2), x[:, :, :, 0].mean(1, keepdim=True))
    whole = x.flatten(2).mean(2)[:, :, None]
    torch.testing.assert_close(resolve_baseline("mean", x.flatten(2)), whole)
    volume = noise(2, 3, 4, 5, 6)
    torch.testing.assert_close(resolve_baseline("mean", volume), volume.flatten(2).mean(2).reshape(2, 3, 1, 1, 1))


def test_the_blur_follows_the_channels_and_refuses_what_has_no_two_axes_of_locations() -> None:
    x = noise(2, 3, 14, 15)
    last = resolve_baseline("blur", x.movedim(1, 3), channels=3)
    torch.testing.assert_close(last.movedim(3, 1), resolve_baseline("blur", x))
    for shape in ((2, 3), (2, 3, 9), (2, 3, 4, 5, 6)):
        with pytest.raises(InputError, match=r"'blur' needs two axes of locations.*Pass 'zero'"):
            resolve_baseline("blur", noise(*shape))
    with pytest.raises(InputError, match="'mean' needs locations"):
        resolve_baseline("mean", noise(2, 3))


def test_masks_that_do_not_fit_what_is_hidden_are_refused() -> None:
    model, x = signals(), noise(2, 2, 24)
    for shape in ((3, 1, 1, 23), (3, 1, 1, 1, 24), (3, 3, 1, 24)):
        with pytest.raises(ShapeError, match=r"masks must have shape \(k, 1 or 2, 1 or 2, 1 or 24\) here"):
            ask(model, x, holes(*shape))
    with pytest.raises(ShapeError, match=r"keep masks must have shape \(K, 1 or N, \.\.\.\)"):
        Given(torch.ones(3, 1))


def test_layers_that_do_not_keep_the_examples_apart_are_refused() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.inner(x.reshape(-1, 4)).reshape(len(x), -1)
            return out

    model, x = Cut(), torch.ones(2, 8)
    with frozen(model), pytest.raises(LayerError, match=r"one activation per example.*gives \(4, 4\)"):
        next(iter(sweep(Query(model, (x,), ClassScore(1), "inner"), Given(torch.ones(1, 1, 4)), at="inner")))
