"""Layouts that shapes alone would get wrong, or cannot tell: the modules tell, or the layer is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import METHODS, AttentionRollout, GradCAM, GradientAttention
from attrib.core import auto_layer
from attrib.core.network.geometry import Layout, layout_of
from attrib.errors import LayerError
from tests import nets

ROW, COLUMN = 5, 3


class Wide(nn.Module):
    """Strides that differ make a square map of 16 x 8 of inputs of 16 x 16: height by half of the width."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(1, 8, 3, (1, 2), 1), nn.BatchNorm2d(8), nn.ReLU()
        self.fc = nn.Linear(8, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.relu(self.bn(self.conv(x))).mean((2, 3)))
        return out


class Read(nn.Module):
    """A part that makes maps or tokens, and a head on the mean over all but the channels, at ``axis``."""

    def __init__(self, part: nn.Module, axis: int, width: int) -> None:
        super().__init__()
        self.part, self.axis, self.fc = part, axis, nn.Linear(width, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.part(x).movedim(self.axis, 1).flatten(2).mean(2))
        return out


class Swap(nn.Module):
    """Channels go last, or first again."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


def expected(model: nn.Module, layer: str, x: Tensor, axis: int) -> Tensor:
    """Grad-CAM by its definition, where the channels are known."""
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _m, _a, out: kept.append(out))
    score = model(x)[:, 2].sum()
    handle.remove()
    act, grad = (t.detach().movedim(axis, 1) for t in (kept[0], torch.autograd.grad(score, kept[0])[0]))
    places = tuple(range(2, act.ndim))
    return (act * grad.mean(places, keepdim=True)).sum(1, keepdim=True)


def signals(n: int = 2, k: int = 1, length: int = 20) -> Tensor:
    return torch.randn(n, k, length, generator=torch.Generator().manual_seed(0))


def encoder(width: int, depth: int = 1) -> nn.Module:
    layer = nn.TransformerEncoderLayer(width, 2, 8, batch_first=True, dropout=0.0)
    return nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)


CASES: dict[str, tuple[nn.Module, Tensor, str, int]] = {
    "unequal strides": (Wide(), nets.batch(2, 32, 32)[:, :1], "relu", 1),
    "unequal strides, a Sequential": (
        Read(nn.Sequential(nn.Conv2d(1, 64, 3, (1, 2), 1), nn.BatchNorm2d(64), nn.ReLU()), 1, 64),
        torch.rand(2, 1, 128, 256, generator=torch.Generator().manual_seed(0)), "part.2", 1,
    ),
    "as many channels as rows": (
        Read(nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU()), 1, 8), nets.batch(2, 8, 8), "part", 1,
    ),
    "as many channels as rows, last": (
        Read(nn.Sequential(nn.Conv2d(3, 8, 1), Swap(0, 2, 3, 1), nn.Linear(8, 8), nn.GELU()), -1, 8),
        nets.batch(2, 8, 8), "part", -1,
    ),
    "a signal, behind a transformer": (
        Read(nn.Sequential(nn.Conv1d(1, 4, 3), Swap(0, 2, 1), encoder(4)), -1, 4), signals(), "part", -1,
    ),
    "a signal in patches": (
        Read(nn.Sequential(nn.Conv1d(2, 4, 5, 5), Swap(0, 2, 1), encoder(4)), -1, 4), signals(k=2), "part.2", -1,
    ),
    "a volume, channels last": (
        Read(nn.Sequential(nn.Conv3d(1, 4, 2, (1, 2, 2)), Swap(0, 2, 3, 4, 1), nn.LayerNorm(4)), -1, 4),
        torch.rand(2, 1, 4, 6, 8, generator=torch.Generator().manual_seed(0)), "part", -1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_grad_cam_is_the_definition_where_shapes_mislead(name: str) -> None:
    model, x, layer, axis = CASES[name]
    nets.fill(model)
    found = GradCAM(model, layer, relu=False).attribute(x, 2)
    assert_close(found, expected(model, layer, x, axis))
    assert found.any()
    assert GradCAM(model, relu=False).attribute(x, 2).shape == found.shape


def test_what_no_module_tells_is_refused_where_both_readings_fit() -> None:
    model = nets.fill(Read(nn.Sequential(nn.Conv2d(3, 8, 1), Swap(0, 2, 3, 1)), -1, 8))
    with pytest.raises(LayerError, match=r"'part.1' must be spatial.*reshape= maps other layouts"):
        GradCAM(model, "part.1").attribute(nets.batch(2, 8, 8), 2)
    assert GradCAM(model, "part.1").attribute(nets.batch(2, 8, 6), 2).shape == (2, 1, 8, 6)


def test_a_patch_convolution_does_not_tell_how_its_module_lays_out_the_patches() -> None:
    class Embed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = nn.Conv2d(3, 6, 2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.proj(x).permute(0, 2, 3, 1)

    model = nn.Sequential(Embed())
    assert layout_of(model, "0", (2, 6, 6, 6), (2, 3, 12, 12)) is None
    assert layout_of(model, "0", (2, 5, 7, 6), (2, 3, 10, 14)) == Layout("channels_last", (5, 7))
    assert layout_of(model, "0.proj", (2, 6, 6, 6), (2, 3, 12, 12)) == Layout("channels_first", (6, 6))


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("conv", "channels_first"),
        ("conv@input", "channels_first"),
        ("act", "channels_first"),
        ("fc", "channels_last"),
        ("fc@input", "channels_last"),
        ("both", "channels_last"),  # of the last module in it
        ("both@input", "channels_first"),  # of the first
        ("swap", None),
        ("own", "channels_last"),  # says it itself
        ("drop", "channels_last"),  # of what goes before
    ],
)
def test_the_modules_tell_where_the_channels_are(layer: str, expected: str | None) -> None:
    parts: dict[str, nn.Module] = {
        "conv": nn.Conv2d(3, 4, 1),
        "act": nn.ReLU(),
        "swap": Swap(0, 2, 3, 1),
        "fc": nn.Linear(4, 4),
        "drop": nn.Dropout(),
        "both": nn.Sequential(nn.Conv2d(4, 4, 1), Swap(0, 2, 3, 1), nn.LayerNorm(4)),
    }
    parts["own"] = Swap(0, 2, 3, 1)
    parts["own"].data_format = "channels_last"  # type: ignore[assignment]
    model = nn.Sequential()
    for name, part in parts.items():
        model.add_module(name, part)
    found = layout_of(model, layer, (2, 4, 4, 4), (2, 3, 4, 4))
    assert (found and found.kind) == expected


# --- the examples


class Boxes(nn.Module):
    """Cuts each picture into two, as detectors do with boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, nets.CLASSES)
        self.cut = nn.Unflatten(3, (2, -1))
        self.crops = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        crops = self.crops(self.cut(self.conv(x)).permute(0, 3, 1, 2, 4).flatten(0, 1))
        out: Tensor = self.fc(crops.mean((2, 3)).unflatten(0, (-1, 2)).mean(1))
        return out


def test_boxes_are_no_examples() -> None:
    model, x = nets.fill(Boxes()), nets.batch(2, 8, 12)
    with pytest.raises(LayerError, match=r"one row per example, 2; it gives \(4, 4, 8, 6\): its first axis are boxes"):
        GradCAM(model, "crops").attribute(x, 2)
    with pytest.raises(LayerError, match=r"one for each of 2 examples; got \(4, 4, 8, 6\)"):
        METHODS["input_x_gradient"](model, "crops", channels="none").attribute(x, 2)
    with pytest.raises(LayerError, match=r"in the output of 'crops', \(4, 8, 6\) for each.*spatial is 'conv'"):
        GradCAM(model).attribute(x, 2)


def test_sequence_first_tokens_are_refused_also_where_there_are_as_many_examples() -> None:
    class SequenceFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.fc = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, nets.CLASSES)
            self.block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(self.block(self.embed(x).flatten(2).permute(2, 0, 1)).mean(0))
            return out

    model = nets.fill(SequenceFirst())
    for n in (2, 6):  # six patches
        with pytest.raises(LayerError):
            GradCAM(model, "block").attribute(nets.batch(n, 8, 12), 2)


# --- attention of signals, and beside the image


@pytest.mark.parametrize("method", [AttentionRollout, GradientAttention])
def test_attention_among_pieces_of_a_signal_is_a_signal(method: Any) -> None:
    model, x, *_ = CASES["a signal in patches"]
    nets.fill(model)
    assert method(model).attribute(x, 2).shape == (2, 1, 4)
    assert method(model, upsample=True).attribute(x, 2).shape == (2, 1, 20)


class Towers(nn.Module):
    """A picture and a text, each with a transformer of its own, and how well they go together."""

    def __init__(self, depth: int = 2) -> None:
        super().__init__()
        self.embed, self.words = nn.Conv2d(3, 8, 4, 4), nn.Embedding(20, 8)
        self.seeing, self.reading = encoder(8, depth), encoder(8, depth)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        text = self.reading(self.words(text))
        seen = self.seeing(self.embed(x).flatten(2).transpose(1, 2))
        return 10 * torch.nn.functional.cosine_similarity(seen.mean(1), text.mean(1))


class Alone(nn.Module):
    """The same for one text."""

    def __init__(self, towers: Towers, text: Tensor) -> None:
        super().__init__()
        self.embed, self.seeing = towers.embed, towers.seeing
        with torch.no_grad():
            self.text = towers.reading(towers.words(text)).mean(1)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.seeing(self.embed(x).flatten(2).transpose(1, 2))
        return 10 * torch.nn.functional.cosine_similarity(seen.mean(1), self.text)


@pytest.mark.parametrize("words", [6, 9])  # as many as patches, and more
@pytest.mark.parametrize("method", [GradCAM, AttentionRollout, GradientAttention])
def test_a_second_tower_of_tokens_does_not_count(method: Any, words: int) -> None:
    towers, x = nets.fill(Towers()), nets.batch(2, 8, 12)
    text = torch.arange(2 * words).reshape(2, words) % 20
    assert auto_layer(towers, (x,), (text,)) == "seeing"
    found = method(towers).attribute(x, additional_forward_args=text)
    assert_close(found, method(Alone(towers.eval(), text)).attribute(x))
    assert found.any()
