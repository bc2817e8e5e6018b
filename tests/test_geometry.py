"""Layouts of activations are found from model and input; what is not found is refused, or reshaped by the user."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import GradCAM, GuidedGradCAM
from attrib.core import auto_layer, layer_table
from attrib.core.network.geometry import Layout, find_layout, patch_of
from attrib.errors import InputError, LayerError, ShapeError
from tests import nets

X = nets.batch(2, 8, 12)


class Permute(nn.Module):
    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


class Patches(nn.Module):
    """Patches of 2 x 2; the same features as maps, channels last and as tokens behind a class token."""

    def __init__(self, prefix: int = 1, read: str = "patches") -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 5, 2, 2)
        self.relu = nn.ReLU()
        self.last = Permute(0, 2, 3, 1)
        self.tokens = nn.Identity()
        self.fc = nn.Linear(5, nets.CLASSES)
        self.learned = nn.Parameter(torch.zeros(1, prefix, 5))
        self.prefix, self.read = prefix, read

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.relu(self.embed(x)))
        rows = x.flatten(1, 2)
        rows = self.tokens(torch.cat([rows.mean(1, keepdim=True).expand(-1, self.prefix, -1), rows], 1))
        seen = rows[:, : self.prefix] if self.read == "class" else rows[:, self.prefix :]
        out: Tensor = self.fc(seen.square().mean(1))
        return out


@pytest.mark.parametrize(
    ("shape", "image", "patch", "expected"),
    [
        ((2, 64, 7, 7), (2, 3, 224, 224), None, Layout("channels_first", (7, 7))),
        ((2, 7, 7, 64), (2, 3, 224, 224), None, Layout("channels_last", (7, 7))),
        ((2, 7, 10, 64), (2, 3, 224, 320), None, Layout("channels_last", (7, 10))),
        ((2, 7, 7, 7), (2, 3, 224, 224), None, None),  # both fit
        ((2, 3, 8, 8), (2, 3, 8, 8), None, Layout("channels_first", (8, 8))),  # the input's own axes
        ((3, 64, 7, 7), (2, 3, 224, 224), None, None),  # boxes, not examples
        ((2, 512, 7, 7), (2, 3, 224, 320), None, Layout("channels_first", (7, 7))),  # neither fits: adaptive pooling
        ((2, 197, 8), (2, 3, 224, 224), (16, 16), Layout("tokens", (14, 14), 1)),
        ((2, 196, 8), (2, 3, 224, 224), (16, 16), Layout("tokens", (14, 14), 0)),
        ((2, 201, 8), (2, 3, 224, 224), (16, 16), None),  # more than a class token, and none learned
        ((2, 211, 8), (2, 3, 224, 230), (16, 16), Layout("tokens", (14, 15), 1)),  # filled up to whole patches
        ((2, 29, 8), (2, 3, 64, 112), (16, 16), Layout("tokens", (4, 7), 1)),
        ((2, 100, 8), (2, 3, 224, 224), (16, 16), None),
        ((2, 300, 8), (2, 3, 224, 224), (16, 16), None),
        ((2, 197, 8), (2, 3, 224, 224), None, None),
        ((2, 8), (2, 3, 224, 224), None, None),
        ((2, 8, 50), (2, 1, 100), None, None),  # both fit
        ((2, 8, 4, 4, 4), (2, 1, 8, 8, 8), None, Layout("channels_first", (4, 4, 4))),
        ((2, 8, 4, 4), (2, 16), None, Layout("channels_first", (4, 4))),  # a picture made from a vector
    ],
)
def test_the_layout_follows_from_the_shapes(shape: Any, image: Any, patch: Any, expected: Layout | None) -> None:
    assert find_layout(shape, image, patch) == expected


@pytest.mark.parametrize(
    ("learned", "tokens", "prefix"), [((1, 4), 201, 5), ((1, 4), 200, 4), ((1, 1), 198, 2), ((3,), 201, None)]
)
def test_tokens_without_a_place_are_those_that_the_model_has_learned(
    learned: tuple[int, ...], tokens: int, prefix: int | None
) -> None:
    expected = None if prefix is None else Layout("tokens", (14, 14), prefix)
    assert find_layout((2, tokens, 8), (2, 3, 224, 224), (16, 16), learned=learned) == expected


def test_a_layout_puts_the_channels_first() -> None:
    act = torch.arange(2 * 7 * 5.0).reshape(2, 7, 5)
    maps = Layout("tokens", (2, 3), 1).maps(act)
    assert maps.shape == (2, 5, 2, 3)
    assert all(torch.equal(maps[:, :, y, x], act[:, 1 + 3 * y + x]) for y in range(2) for x in range(3))
    last = torch.arange(2 * 4 * 3 * 5.0).reshape(2, 4, 3, 5)
    assert torch.equal(Layout("channels_last", (4, 3)).maps(last), last.permute(0, 3, 1, 2))
    kinds = [Layout("channels_first", (2, 3)), Layout("channels_last", (2, 3)), Layout("tokens", (2, 3), 1)]
    assert [kind.channels for kind in kinds] == [1, 3, 2]


def test_patches_are_those_of_the_first_convolution() -> None:
    assert patch_of(nn.Sequential(nn.Conv2d(3, 4, 16, 16), nn.Conv2d(4, 4, 2, 2))) == (16, 16)
    assert patch_of(nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 2, 2))) is None
    assert patch_of(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 2, 2))) is None
    assert patch_of(nn.Linear(2, 2)) is None
    assert patch_of(lambda x: x) is None


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_gradcam_of_tokens_and_channels_last_is_that_of_the_map(prefix: int) -> None:
    model = nets.fill(Patches(prefix))
    first, last, tokens = (GradCAM(model, at, relu=False).attribute(X, 2) for at in ("relu", "last", "tokens"))
    assert first.shape == (2, 1, 4, 6)
    assert_close(last, first)
    if prefix == 0:  # else a part of the gradient goes through the class token, after the map
        assert_close(tokens, first)
    assert tokens.shape == first.shape


def test_reshape_goes_before_what_is_recognised() -> None:
    model = nets.fill(Patches(0))
    flipped = GradCAM(model, "tokens", reshape=lambda act: act.transpose(1, 2).reshape(len(act), -1, 4, 6).flip(3))
    assert_close(flipped.attribute(X, 2), GradCAM(model, "relu").attribute(X, 2).flip(3))
    guided = GuidedGradCAM(model, "tokens", reshape=lambda act: act.transpose(1, 2).reshape(len(act), -1, 4, 6))
    assert_close(guided.attribute(X, 2), GuidedGradCAM(model, "relu").attribute(X, 2))


@pytest.mark.parametrize("reshape", [lambda act: act[0], lambda act: act.flatten(1), lambda _: None])
def test_a_reshape_that_makes_no_maps_is_refused(reshape: Any) -> None:
    with pytest.raises(ShapeError, match=r"reshape must make \(N, K, h, w\) of \(2, 25, 5\) at 'tokens'; got "):
        GradCAM(nets.fill(Patches()), "tokens", reshape=reshape).attribute(X, 2)
    with pytest.raises(InputError, match="reshape must be a function"):
        GradCAM(nets.fill(Patches()), reshape="tokens")  # type: ignore[arg-type]


def test_patches_that_nobody_reads_are_refused() -> None:
    model = nets.fill(Patches(read="class"))
    with pytest.raises(LayerError, match="behind it only the class token is read"):
        GradCAM(model, "tokens").attribute(X, 2)
    assert GradCAM(model, "last", relu=False).attribute(X, 2).any()


def test_unknown_layouts_are_refused_with_the_remedy() -> None:
    with pytest.raises(LayerError, match=r"it gives \(2, 5\).*reshape= maps other layouts"):
        GradCAM(nets.fill(Patches()), "fc").attribute(X, 2)


class Encoder(nn.Module):
    """Two blocks of a transformer; the class token is read."""

    def __init__(self, prefix: int = 1) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 4, 2, 2)
        self.blocks = nn.ModuleList(nn.ModuleDict({"norm": nn.LayerNorm(4), "attn": Attention()}) for _ in range(2))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, nets.CLASSES)
        self.prefix = prefix

    def forward(self, x: Tensor) -> Tensor:
        rows = self.embed(x).flatten(2).transpose(1, 2)
        rows = torch.cat([rows[:, : self.prefix], rows], 1)
        for block in self.blocks:
            rows = rows + block["attn"](block["norm"](rows))  # type: ignore[index]
        out: Tensor = self.head(self.norm(rows)[:, 0] if self.prefix else self.norm(rows).mean(1))
        return out


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        out: Tensor = (q @ k.transpose(1, 2)).softmax(-1) @ v
        return out


def test_auto_is_before_the_last_attention_where_a_class_token_is_read() -> None:
    model = nets.fill(Encoder())
    assert auto_layer(model, (X,)) == "blocks.1.norm"
    assert GradCAM(model, relu=False).attribute(X, 2).abs().amax((1, 2, 3)).min() > 0
    assert auto_layer(nets.fill(Encoder(0)), (X,)) == "norm"


def test_the_layer_table_says_where_the_locations_are() -> None:
    rows = {row.address: row for row in layer_table(nets.fill(Patches()), X)}
    assert [rows[a].layout for a in ("relu", "last", "tokens", "fc")] == [
        Layout("channels_first", (4, 6)), Layout("channels_last", (4, 6)), Layout("tokens", (4, 6), 1), None,
    ]  # fmt: skip
    assert [rows[a].spatial for a in ("relu", "last", "tokens", "fc")] == [True, True, True, False]


@pytest.mark.parametrize(("conv", "size"), [(nn.Conv1d, (9,)), (nn.Conv3d, (4, 5, 6))])
def test_gradcam_explains_signals_and_volumes(conv: Any, size: tuple[int, ...]) -> None:
    body = nn.Sequential(conv(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(2))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.fc = body, nn.Linear(4, nets.CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(self.body(x).mean(2))
            return out

    model = nets.fill(Net())
    x = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        act = body[:2](x)
        expected = torch.einsum("k,nk...->n...", model.fc.weight[2], act)[:, None] / act[0, 0].numel()
    assert_close(GradCAM(model, "body.1", relu=False).attribute(x, 2), expected)
    maps = GradCAM(model, "body.1", relu=False, upsample=True).attribute(x, 2)
    assert_close(maps, expected)  # the layer has the input's size


class TakesNoLayer(GradCAM):
    """Explains inputs only."""

    needs_layer = False
    takes_layer = False


def test_a_method_that_explains_inputs_only_refuses_a_layer() -> None:
    model = nets.make("module")
    with pytest.raises(LayerError, match="TakesNoLayer explains the inputs only; got layer 'pool'"):
        TakesNoLayer(model, "pool")
    with pytest.raises(LayerError, match="explains the inputs only"):
        TakesNoLayer(model).attribute(X, 2, "pool")


def test_an_activation_registered_behind_the_head_has_the_layout_of_the_layer_that_it_follows() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head, self.act = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 5), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.act(self.conv(x)).mean((2, 3)))
            return out

    assert GradCAM(Net().eval(), "act").attribute(torch.rand(1, 3, 8, 8), target=1).shape == (1, 1, 8, 8)
