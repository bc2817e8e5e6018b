"""The sweep engine: scores do not depend on how it runs, and it survives what models and machines do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import attrib
from attrib.core import (
    Given,
    Query,
    Ranked,
    Windows,
    as_objective,
    count,
    frozen,
    gaussian_blur,
    resolve_baseline,
    sweep,
)
from attrib.core.masking.options import auto_rows
from attrib.errors import InputError, ModelError, ShapeError
from tests.incremental import watched
from tests.sweeps import in_order

X = torch.randn(3, 3, 12, 10, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    ).eval()


def scores(model: nn.Module, masks: object, target: object = (1), x: Tensor = X, **options: object) -> Tensor:
    extra = options.pop("extra", ())
    with frozen(model):
        query = Query(model, (x,), as_objective(target), None, extra)  # type: ignore[arg-type]
        return in_order(sweep(query, masks, **options))  # type: ignore[arg-type]


def loop(model: nn.Module, masks: object, target: int = 1, x: Tensor = X, base: float = 0.0) -> Tensor:
    """One mask and one example at a time."""
    keeps = masks.batch(0, len(masks), x)  # type: ignore[attr-defined]
    rows = []
    for keep in keeps:
        pairs = zip(x.split(1), keep.expand(len(x), *keep.shape[1:]), strict=True)
        rows.append([model(one * k + base * (1 - k))[0, target] for one, k in pairs])
    return torch.tensor([[float(score.detach()) for score in row] for row in rows])


WINDOWS = Windows((12, 10), (4, 3), (3, 2))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 100, "auto"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_scores_equal_a_plain_loop_for_every_batch_size(
    net: nn.Module, batch_size: object, channels_last: bool
) -> None:
    got = scores(net, WINDOWS, batch_size=batch_size, channels_last=channels_last, baseline=0.3)
    torch.testing.assert_close(got, loop(net, WINDOWS, base=0.3), rtol=1e-5, atol=1e-6)


def test_masks_may_differ_between_examples_and_channels(net: nn.Module) -> None:
    keep = Given((torch.rand(4, 3, 3, 12, 10, generator=torch.Generator().manual_seed(2)) > 0.5).float())
    torch.testing.assert_close(scores(net, keep, batch_size=2), loop(net, keep), rtol=1e-5, atol=1e-6)


def test_per_example_goals_stay_with_their_example(net: nn.Module) -> None:
    got = scores(net, WINDOWS, target=[4, 0, 2], batch_size=2)
    expected = torch.stack([loop(net, WINDOWS, t)[:, i] for i, t in enumerate([4, 0, 2])], 1)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_the_class_is_decided_on_the_clean_input_only() -> None:
    class Flip(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            s = x.mean((1, 2, 3))
            return torch.stack([s, -s], 1)

    x = torch.ones(1, 1, 4, 4)
    got = scores(Flip(), Given(torch.zeros(1, 1, 1, 4, 4)), "predicted", x, baseline=-1.0)
    assert got.item() == -1.0  # class 0, which was predicted; class 1 would score 1


def test_additional_arguments_are_repeated_with_their_examples() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor, scale: Tensor, power: int) -> Tensor:
            return (x.mean((1, 2, 3)) * scale) ** power

    scale = torch.tensor([1.0, 10.0, 100.0])
    got = scores(Scaled(), Given(torch.ones(5, 1, 1, 12, 10)), None, extra=(scale, 2), batch_size=2)
    torch.testing.assert_close(got, ((X.mean((1, 2, 3)) * scale) ** 2).expand(5, 3))


@pytest.mark.parametrize("message", ["DefaultCPUAllocator: can't allocate memory", None])
def test_the_batch_is_halved_when_memory_runs_out(net: nn.Module, message: str | None) -> None:
    sizes = []

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            if len(x) > 3:
                raise RuntimeError(message) if message else torch.OutOfMemoryError("CUDA out of memory")
            return self.net(x)

    found = scores(Small(), WINDOWS, batch_size=24, exact_dense=True)
    torch.testing.assert_close(found, loop(net, WINDOWS), rtol=1e-5, atol=1e-6)
    assert sizes[:5] == [3, 24, 12, 6, 3]


def test_memory_that_is_short_even_for_one_row_is_an_error() -> None:
    calls = []

    class Never(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            if len(calls) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return x.mean((1, 2, 3))

    with pytest.raises(torch.OutOfMemoryError):
        scores(Never(), WINDOWS, None, batch_size=8, exact_dense=True)
    assert calls[-1] == 1


def test_models_that_cannot_take_channels_last_are_fed_plain_tensors() -> None:
    class View(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(360, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.view(len(x), -1))

    model = View()
    torch.testing.assert_close(scores(model, WINDOWS), loop(model, WINDOWS), rtol=1e-5, atol=1e-6)


def test_other_failures_of_the_model_are_told_with_the_shape(net: nn.Module) -> None:
    with pytest.raises(ModelError, match=r"the model failed on inputs \(3, 1, 12, 10\)"):
        scores(net, WINDOWS, x=X[:, :1])


def test_autocast_rounds_but_agrees(net: nn.Module) -> None:
    got = scores(net, WINDOWS, autocast=torch.bfloat16)
    assert got.dtype == torch.float32
    assert not torch.equal(got, loop(net, WINDOWS))
    torch.testing.assert_close(got, loop(net, WINDOWS), rtol=0.05, atol=0.02)


def test_progress_goes_to_standard_error(net: nn.Module, capsys: pytest.CaptureFixture[str]) -> None:
    scores(net, WINDOWS, show_progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{len(WINDOWS)}/{len(WINDOWS)}" in err
    scores(net, WINDOWS)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("bad", [{"batch_size": 0}, {"batch_size": 1.5}, {"batch_size": True}])
def test_bad_batch_sizes_are_refused_when_the_method_is_made(net: nn.Module, bad: dict[str, object]) -> None:
    with pytest.raises(InputError, match="batch_size must be an integer >= 1"):
        attrib.Occlusion(net, **bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("channels_last", "no", "channels_last must be True or False; got 'no'"),
        ("exact_dense", 1, "exact_dense must be True or False; got 1"),
        ("autocast", "bfloat16", "autocast must be a torch.dtype, such as torch.bfloat16, or None; got 'bfloat16'"),
    ],
)
def test_malformed_options_are_refused_when_the_method_is_made(
    net: nn.Module, option: str, value: object, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        attrib.Occlusion(net, **{option: value})  # type: ignore[arg-type]


def test_unknown_options_are_refused_with_a_suggestion(net: nn.Module) -> None:
    with pytest.raises(TypeError, match=r"no option 'batchsize'\. Did you mean 'batch_size'"):
        attrib.Occlusion(net, batchsize=3)


def test_masks_and_copies_are_made_one_batch_at_a_time(net: nn.Module) -> None:
    made = []

    class Lazy(Windows):
        def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
            made.append(stop - start)
            return super().batch(start, stop, like)

    masks = Lazy((12, 10), (4, 3), (1, 1))
    with frozen(net):
        found = sweep(Query(net, (X,), as_objective(1)), masks, batch_size=6, exact_dense=True)
        next(iter(found))
        assert made == [2]
        assert torch.is_grad_enabled()  # the generator does not leak its no_grad
        found.close()


def test_passes_are_counted_in_examples(net: nn.Module) -> None:
    with count() as cost:
        attrib.Occlusion(net, window=(4, 3), stride=(3, 2), exact_dense=True).attribute(X, 1)
    assert (cost.forwards, cost.backwards) == (3 + 3 * len(WINDOWS), 0)
    with (
        count() as cost,
        watched() as ways,
    ):  # beside them: recorded, replayed on the clean inputs, verified under one mask
        attrib.Occlusion(net, window=(4, 3), stride=(3, 2)).attribute(X, 1)
    assert ways == ["local"]
    assert (cost.forwards, cost.backwards) == (3 + 3 * len(WINDOWS) + 3 + 3 + 3, 0)
    with count() as outer, count() as inner:
        attrib.GuidedGradCAM(net, "0").attribute(X, 1)
    assert outer == inner
    assert (inner.forwards, inner.backwards) == (3, 6)


def test_the_automatic_batch_is_eight_photos_on_a_cpu_and_more_for_small_images() -> None:
    assert auto_rows(torch.empty(1, 3, 224, 224)) == 8
    assert auto_rows(torch.empty(1, 3, 32, 32)) == 392
    assert auto_rows(torch.empty(1, 3, 4000, 4000)) == 1
    assert auto_rows(torch.empty(1, 3, 2, 2)) == 512


def test_baselines_are_what_their_names_say() -> None:
    assert resolve_baseline("zero", X).item() == 0.0
    assert resolve_baseline(0.25, X).item() == 0.25
    torch.testing.assert_close(resolve_baseline("mean", X), X.mean((2, 3), keepdim=True))
    torch.testing.assert_close(resolve_baseline("blur", X), gaussian_blur(X, 11, 5.0))
    assert torch.equal(resolve_baseline(lambda x: x.flip(0), X), X.flip(0))
    image = torch.rand(3, 12, 10)
    assert torch.equal(resolve_baseline(image, X), image)


def test_the_blur_is_a_literal_gaussian_average() -> None:
    x = torch.zeros(1, 1, 15, 15, dtype=torch.float64)
    x[0, 0, 7, 7] = 1
    weights = [torch.tensor(-((i - 5) ** 2) / 50.0).double().exp().item() for i in range(11)]
    total = sum(weights)
    got = gaussian_blur(x)
    for dy in (-5, 0, 3):
        for dx in (-2, 4):
            expected = weights[dy + 5] * weights[dx + 5] / total**2
            assert got[0, 0, 7 + dy, 7 + dx].item() == pytest.approx(expected, rel=1e-6)
    assert got[0, 0, 0, 0] == 0


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ("grey", InputError, "must be one of 'zero', 'mean', 'blur'"),
        (float("nan"), InputError, "finite"),
        (torch.zeros(5, 1, 1), ShapeError, r"must broadcast to the input \(3, 3, 12, 10\)"),
        (torch.zeros(2, 3, 3, 12, 10), ShapeError, "must broadcast"),
        (torch.full((3, 1, 1), float("inf")), InputError, "finite"),
        (None, InputError, "finite number"),
    ],
)
def test_bad_baselines_are_refused(bad: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        resolve_baseline(bad, X)  # type: ignore[arg-type]


def test_ranked_masks_hide_the_first_ranks_of_each_example() -> None:
    rank = torch.stack([torch.arange(6).reshape(2, 3), torch.arange(6).flip(0).reshape(2, 3)])
    keep = Ranked(rank, torch.tensor([0, 2, 6])).batch(0, 3, X)
    assert keep.shape == (3, 2, 1, 2, 3)
    assert keep[0].all()
    assert not keep[2].any()
    assert keep[1].flatten(1).tolist() == [[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]
    reverse = Ranked(rank, torch.tensor([0, 2, 6]), reverse=True).batch(1, 2, X)
    assert torch.equal(reverse, 1 - keep[1:2])


def test_strides_that_skip_pixels_are_refused() -> None:
    with pytest.raises(InputError, match=r"stride must be at most the window.*along x"):
        Windows((12, 10), (4, 3), (4, 5))


def test_hiding_at_a_layer_equals_editing_its_activation(net: nn.Module) -> None:
    masks = Windows((12, 10), (6, 5), (6, 5))
    with frozen(net):
        query = Query(net, (X,), as_objective(1), "0")
        got = in_order(sweep(query, masks, at="0", baseline=0.1, batch_size=4))
    act = net[0](X).detach()  # type: ignore[index]
    expected = [net[1:](act * k + 0.1 * (1 - k))[:, 1] for k in masks.batch(0, len(masks), act)]  # type: ignore[index]
    torch.testing.assert_close(got, torch.stack(expected).detach(), rtol=1e-5, atol=1e-6)
