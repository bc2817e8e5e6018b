"""Replayed and local sweeps leave no trace, and let go of what they held."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attrib.core import Query, Windows, as_objective, frozen, sweep
from attrib.errors import AttribError
from tests import nets
from tests.architectures import build
from tests.incremental import ask
from tests.sweeps import in_order

SIZE = (26, 24)
MASKS = Windows(SIZE, (4, 4), (4, 4))


def image(n: int = 2, dtype: Any = torch.float64) -> Tensor:
    return nets.batch(n, *SIZE, dtype=dtype)


def state(model: nn.Module) -> list[Any]:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return [
        {k: (id(t), t._version, t.stride(), t.data_ptr(), t.requires_grad, t.grad is None) for k, t in tensors.items()},
        {k: t.detach().clone().tolist() for k, t in tensors.items()},
        [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()],
        [m.training for m in model.modules()],
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        torch._C._len_torch_dispatch_stack(),
        torch._C._len_torch_function_stack(),
    ]


class Fails(nn.Module):
    """Fails the given number of calls after the first ones."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.net, self.calls, self.at = build("residual in place"), 0, at

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise RuntimeError("as told")
        out: Tensor = self.net(x)
        return out


@pytest.mark.parametrize("at", [1, 2, 3])
def test_nothing_is_left_behind_when_the_model_fails(at: int) -> None:
    model, x = Fails(at).train(), image()
    before, kept = state(model), x.clone()
    with pytest.raises(AttribError, match="as told"):
        ask(model, x, MASKS)
    assert state(model) == before
    assert torch.equal(x, kept)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(
    "name", ["BatchNorm behind", "weights made on the fly", "LayerNorm, channels last", "GroupNorm"]
)
def test_nothing_is_left_behind(name: str, grad: bool) -> None:
    model, x = build("BatchNorm before", name).train(), image()
    base = image().flip(1)
    before, kept = state(model), (x.clone(), base.clone())
    with torch.set_grad_enabled(grad):
        ask(model, x, MASKS, baseline=base)
        ask(model, x, MASKS, at="last", baseline="mean")
        assert torch.is_grad_enabled() is grad
    assert state(model) == before
    assert torch.equal(x, kept[0])
    assert torch.equal(base, kept[1])


@pytest.mark.parametrize("dense", [False, True])
def test_a_sweep_left_early_keeps_the_caller_s_gradient_mode(dense: bool) -> None:
    model = build("residual")
    with torch.no_grad():
        with frozen(model), torch.no_grad():
            running = sweep(Query(model, (image(),), as_objective(1)), MASKS, exact_dense=dense)
            next(running)
            assert not torch.is_grad_enabled()
        del running
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize("name", ["BatchNorm behind", "instance"])
def test_weights_and_maps_are_let_go_after_a_sweep(name: str) -> None:
    """No collector of cycles needed: what is held by a cycle may stay until memory is short."""
    model: nn.Module = build("BatchNorm behind")
    if name == "instance":
        model = nn.Sequential(nn.InstanceNorm2d(3), model)  # is not replayed, and says why
    x = image()
    gc.collect()
    gc.disable()
    try:
        with frozen(model):
            query = Query(model, (x.clone(),), as_objective(1))
            in_order(sweep(query, MASKS))
            watched_for = [weakref.ref(query), weakref.ref(query.inputs[0])]
            for replay in query.__dict__["_replays"].values():
                watched_for += [weakref.ref(replay)] if not isinstance(replay, str) else []
                made = [] if isinstance(replay, str) else replay.weights.values()
                own = {t.data_ptr() for t in model.state_dict().values()}
                watched_for += [weakref.ref(t) for t in made if t.data_ptr() not in own]
            del query, made, replay
        assert [ref() for ref in watched_for] == [None] * len(watched_for)
        assert len(watched_for) > (4 if name == "BatchNorm behind" else 1)
        weight = weakref.ref(next(iter(model.parameters())))
        del model
        assert weight() is None
    finally:
        gc.enable()


def test_random_numbers_of_the_caller_are_not_touched() -> None:
    model = build("dropout")
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    ask(model, image(), MASKS, verify=2)
    assert torch.equal(torch.rand(3), expected)
