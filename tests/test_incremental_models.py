"""What models take and give in a replay: packed outputs, inputs, hooks, hidden layers, precisions, tiny images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attrib.core import Windows
from attrib.errors import AttribError
from attrib.methods import Occlusion
from tests import nets
from tests.architectures import build, conv, same
from tests.incremental import agrees, ask
from tests.test_incremental_traps import MASKS, Net, image


class Opaque:
    """Holds tensors where nobody looks."""

    def __init__(self, out: Tensor) -> None:
        self.out = out


Pair = dataclasses.make_dataclass("Pair", ["out"])


@pytest.mark.parametrize("pack", [Opaque, Pair], ids=["object", "dataclass"])
@pytest.mark.parametrize("n", [1, 8])
def test_outputs_that_hide_their_tensors_are_not_replayed(pack: Any, n: int) -> None:
    model = build("strided", pack=pack)
    with pytest.raises(ValueError, match="max"):  # there is no logit to see
        agrees(model, image(n), MASKS, lambda out: out.out[:, 1])
    fast, dense = (ask(model, image(n), MASKS, lambda out: out.out[:, 1], exact_dense=d) for d in (False, True))
    assert torch.equal(fast, dense)


PACKS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "dictionary": (lambda out: {"out": out, "aux": None}, lambda out: out["out"][:, 1]),
    "nested": (lambda out: [(out, {"more": out * 2})], lambda out: out[0][1]["more"][:, 2]),
    "with a constant": (lambda out: (out, torch.tensor(3.0)), lambda out: out[0][:, 0] * out[1]),
    "twice": (lambda out: (out, out), lambda out: out[0][:, 0] + out[1][:, 1]),
}


@pytest.mark.parametrize("name", PACKS)
def test_packed_outputs_are_replayed(name: str) -> None:
    pack, target = PACKS[name]
    assert agrees(build("strided", pack=pack), image(), MASKS, target) == "local"


class Returns(nn.Module):
    """Returns more than scores."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.stem = conv(3, into=3)
        self.fc = nn.Linear(4, nets.CLASSES)
        self.what = what

    def forward(self, x: Tensor) -> Any:
        y, where = F.max_pool2d(self.stem(x), 2, return_indices=True)
        return {"out": self.fc(y.mean((2, 3))), "input": x, "map": y, "places": where, "weight": self.fc.weight}[
            self.what
        ], self.fc(y.mean((2, 3)))


@pytest.mark.parametrize("what", ["out", "input", "map", "places", "weight"])
def test_whatever_is_returned_comes_out_as_it_is(what: str) -> None:
    model = nets.fill(Returns(what)).double()

    def target(out: Any) -> Tensor:
        extra = out[0].double()
        extra = extra.flatten(1).sum(1) if what != "weight" else extra.sum()
        return out[1][:, 2] + extra

    way = agrees(model, image(), MASKS, target)
    assert way == ("it returns a side result of an operation" if what == "places" else "local")


def test_hooks_of_the_user_are_part_of_the_model() -> None:
    model = build("residual")
    handles = [
        model.stem.register_forward_hook(lambda m, a, out: out * 2 + 1),
        model.last.register_forward_pre_hook(lambda m, a: (a[0].relu(),)),
    ]
    seen: list[Tensor] = []
    handles.append(model.fc.register_forward_hook(lambda m, a, out: seen.append(out)))
    assert agrees(model, image(), MASKS) == "local"
    for handle in handles:
        handle.remove()
    plain = ask(model, image(), MASKS)
    assert plain.std() > 0


@pytest.mark.parametrize("at", ["body.relu#0", "body.relu#1", "body.relu#1@input", "body.id", "body.relu_#0"])
def test_hiding_at_a_layer_hides_only_what_leaves_it(at: str) -> None:
    def body(s: Any, x: Tensor) -> Tensor:
        y = s.relu(s.id(x)) + x
        z = s.relu(s.conv(y)) + y
        return z + s.relu_(z) * 2

    at = at.replace("relu_#0", "relu_")
    layers = {"relu": nn.ReLU(), "relu_": nn.ReLU(inplace=True), "id": nn.Identity(), "conv": same()}
    model = nets.fill(Net(body, **layers)).double()
    assert agrees(model, image(), MASKS, at=at, baseline=0.5) == "local"


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("layers", ["plain", "in place"])
def test_scripted_models_are_replayed(layers: str) -> None:
    inplace = layers == "in place"
    parts = [nn.Conv2d(3, 4, 3), nn.ReLU(inplace), nn.Conv2d(4, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = torch.jit.script(nets.fill(nn.Sequential(*parts)).double())
    assert agrees(model, image(), MASKS) == "local"


def test_compiled_models_are_unwrapped() -> None:
    model = build("residual")
    assert agrees(torch.compile(model, backend="eager"), image(), MASKS) == "local"


def test_autocast_of_the_caller_is_the_model_s_own_precision() -> None:
    model = build("BatchNorm behind", dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        fast, dense = (ask(model, image(dtype=torch.float32), MASKS, exact_dense=d) for d in (False, True))
    assert torch.equal(fast, dense)


def test_half_precision_inputs_run_through_the_model() -> None:
    model = build("residual", dtype=torch.bfloat16)
    x = image(dtype=torch.bfloat16)
    assert torch.equal(ask(model, x, MASKS), ask(model, x, MASKS, exact_dense=True))


def test_inference_tensors_and_gradients_do_no_harm() -> None:
    model = build("residual")
    with torch.inference_mode():
        x = image()
    assert agrees(model, x.clone().requires_grad_(), MASKS) == "local"


class Two(nn.Module):
    """Two pictures, and what is added."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = build("strided"), build("residual", seed=1)

    def forward(self, x: Tensor, y: Tensor, shift: Any = 0.0, scale: float = 1.0) -> Tensor:
        out: Tensor = scale * self.a(x + 0.1 * y) * self.b(y) + torch.as_tensor(shift, dtype=x.dtype).reshape(-1, 1)
        return out


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("extra", [(), (0.3, 2.0), (torch.tensor([0.1]),)], ids=["none", "numbers", "one tensor"])
def test_each_of_several_inputs_can_be_hidden(index: int, extra: Any) -> None:
    inputs = (image(3), image(3).flip(2))
    assert agrees(Two(), inputs, MASKS, index=index, extra=extra) == "local"


def test_arguments_for_each_example_run_through_the_model() -> None:
    shift = torch.tensor([0.1, 0.2, 0.3])
    way = agrees(Two(), (image(3), image(3).flip(2)), MASKS, extra=(shift,))
    assert "differ from example to example" in way


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 4)])
@pytest.mark.parametrize("window", [1, 9])
def test_tiny_images_and_windows_as_large_as_the_image(size: tuple[int, int], window: int) -> None:
    model, x = build("residual"), nets.batch(8, *size, dtype=torch.float64)
    assert agrees(model, x, Windows(size, (window,) * 2, (1, 1))) in {"local", "replayed"}


def test_no_examples_are_refused_in_words() -> None:
    with pytest.raises(AttribError):
        Occlusion(build("residual")).attribute(image()[:0], target=1)
