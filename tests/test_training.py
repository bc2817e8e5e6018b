"""Features watched while a network learns: what is seen is right, and the training does not notice."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import attrib
from attrib.analysis import Evolution, TrainingWatch, evolution
from attrib.analysis.training.result import rank_correlation
from attrib.core import Neuron, count
from attrib.errors import InputError, LayerError, MissingDependency, ModelError, TargetError
from attrib.plot.training import evolution_panels
from tests import nets

X = nets.batch(7, 8, 6)


def states(n: int = 3) -> dict[int, dict[str, Tensor]]:
    """A network at some epochs."""
    return {2 * e + 1: nets.fill(nets.Chain(nn.ReLU(), nn.ReLU()), seed=e).state_dict() for e in range(n)}


def seen(**how: Any) -> Evolution:
    return evolution(nets.make("module"), states(), X, ["act1", "act2"], **{"channels": 3} | how)


# --- what is seen


def test_the_strongest_example_its_value_and_its_place_are_those_of_the_activations() -> None:
    found = seen()
    model = nets.make("module")
    for e, state in enumerate(states().values()):
        model.load_state_dict(state)
        with torch.no_grad(), attrib.core.capture(model, "act1", "act2") as acts:
            model(X)
        for f, (layer, channel) in enumerate(found.features):
            act = acts[layer][:, channel]
            torch.testing.assert_close(found.response[f, e], act.amax((1, 2)))
            if act.amax((1, 2)).unique().numel() == 1:
                assert found.image[f, e] == -1
                continue
            image, (y, x) = int(found.image[f, e]), found.place[f, e].tolist()
            assert act[image, y, x] == act.max() == found.value[f, e]
    assert found.epochs == (1, 3, 5)


@pytest.mark.parametrize("method", ["deconvnet", "guided", "saliency"])
def test_projections_are_those_of_the_method_for_that_unit(method: Any) -> None:
    found, model = seen(method=method), nets.make("module")
    model.load_state_dict(states()[5])
    explain = attrib.METHODS[method](model, channels="none", absolute=False)  # type: ignore[call-arg]
    shown = 0
    for f, (layer, channel) in enumerate(found.features):
        image = int(found.image[f, 2])
        if image >= 0:
            unit = Neuron(layer, channel, *found.place[f, 2].tolist())
            torch.testing.assert_close(found.projection[f, 2], explain.attribute(X[image : image + 1], unit)[0])
            shown += 1
    assert shown >= 4
    assert found.method == method


def test_batches_do_not_matter_and_the_first_of_two_equal_examples_is_the_strongest() -> None:
    whole, parts = seen(batch_size=99), seen(batch_size=2)
    for name in ("image", "value", "place", "projection", "response", "correlation"):
        torch.testing.assert_close(getattr(whole, name), getattr(parts, name), equal_nan=True)
    assert whole.probe_set == parts.probe_set
    twice = evolution(nets.make("module"), states(), torch.cat([X, X]), ["act1", "act2"], channels=3, batch_size=4)
    assert torch.equal(twice.image, whole.image)


def test_a_feature_that_responds_to_all_alike_has_no_strongest_example() -> None:
    model = nets.make("module")
    with torch.no_grad():
        model.conv1.bias[1] = -100
    (found,) = [evolution(model, [model.state_dict()], X, ["act1"], channels={"act1": [0, 1]})]
    assert found.image[0, 0] >= 0
    assert found.image[1, 0] == -1
    assert not found.projection[1].any()
    assert found.projection[0].any()
    assert found.correlation[1].isnan().all()
    assert "none" in found.to_text()


def test_a_training_that_diverged_can_be_watched_to_its_end() -> None:
    broken = {name: torch.full_like(value, torch.nan) for name, value in states()[1].items()}
    found = evolution(nets.make("module"), [states()[1], broken], X, ["act2"], channels=6)
    assert (found.image[:, 0] >= 0).any()
    assert (found.image[:, 1] == -1).all()
    assert not found.projection[:, 1].any()
    assert found.correlation[:, 0, 1].isnan().all()
    found.plot().canvas.draw()
    assert "none" in found.to_text()


def test_layers_without_locations_have_units_without_a_place() -> None:
    found = evolution(nets.make("module"), states(), X, ["fc"], channels=2)
    assert (found.place == -1).all()
    model = nets.make("module")
    model.load_state_dict(states()[1])
    layer, channel = found.features[0]
    explain = attrib.Deconvnet(model, channels="none", absolute=False)
    image = int(found.image[0, 0])
    expected = explain.attribute(X[image : image + 1], Neuron(layer, channel))[0]
    torch.testing.assert_close(found.projection[0, 0], expected)


def test_channels_are_drawn_from_the_seed_or_given() -> None:
    one, again, other = (seen(seed=seed, channels=2).features for seed in (0, 0, 3))
    assert one == again != other
    assert [layer for layer, _ in one] == ["act1", "act1", "act2", "act2"]
    given = seen(channels={"act1": [3, 0], "act2": [5]}).features
    assert given == (("act1", 3), ("act1", 0), ("act2", 5))
    assert len(seen(channels=99).features) == 4 + 6


def test_rank_correlations_are_spearmans_with_ties() -> None:
    values = torch.randint(0, 4, (2, 3, 9), generator=torch.Generator().manual_seed(0)).float()
    found = rank_correlation(values)
    for f in range(2):
        np.testing.assert_allclose(found[f], scipy.stats.spearmanr(values[f].T.numpy()).statistic, atol=1e-12)
    torch.testing.assert_close(seen().correlation, rank_correlation(seen().response), equal_nan=True)


def made(image: list[list[int]]) -> Evolution:
    f, e = len(image), len(image[0])
    rest: dict[str, Any] = {
        "value": torch.ones(f, e),
        "place": torch.zeros(f, e, 2, dtype=torch.long),
        "projection": torch.randn(f, e, 3, 4, 4, generator=torch.Generator().manual_seed(0)),
        "response": torch.rand(f, e, 9, generator=torch.Generator().manual_seed(0)),
        "correlation": torch.ones(f, e, e),
    }
    features = tuple(("conv", i) for i in range(f))
    epochs = (1, 2, 5, 10)[:e]
    return Evolution(epochs, features, torch.tensor(image), **rest, method="deconvnet", probe_set="0")


def test_a_jump_is_another_example_than_at_the_epoch_before_and_the_dead_do_not_jump() -> None:
    found = made([[4, 4, 7, 7], [-1, 2, -1, 3], [5, 6, 5, 5]])
    assert [(one.channel, one.before, one.after, one.previous, one.image) for one in found.jumps] == [
        (0, 2, 5, 4, 7),
        (2, 1, 2, 5, 6),
        (2, 2, 5, 6, 5),
    ]
    assert found.manifest["jumps"][0] == {
        "layer": "conv",
        "channel": 0,
        "before": 2,
        "after": 5,
        "image": 7,
        "previous": 4,
    }
    lines = found.to_text().splitlines()
    assert lines[0] == "Strongest of 9 examples by epoch (*: another one than before; 3 jumps in 9 steps)"
    assert lines[3].split() == ["conv:0", "4", "4", "7*", "7"]
    assert lines[4].split() == ["conv:1", "none", "2", "none", "3"]
    assert made([[1]]).jumps == ()
    assert "(*: another one than before; 1 jump in 1 step)" in made([[1, 2]]).to_text()


def test_the_figure_has_a_row_for_each_feature_and_marks_the_jumps() -> None:
    figure = made([[4, 4, 7], [-1, 2, 2]]).plot()
    assert [ax.get_title() for ax in figure.axes[:4]] == ["", "epoch 1", "epoch 2", "epoch 5"]
    assert [ax.texts[-1].get_text() for ax in figure.axes if not ax.images] == [
        "channel 0\n1 jump",
        "channel 1\n0 jumps",
        "all alike",
    ]
    assert [ax.spines["left"].get_visible() for ax in figure.axes if ax.images] == [False, False, True, False, False]


def test_a_figure_of_many_features_shows_some_of_each_layer_or_those_asked_for() -> None:
    found = made([[4, 4]] * 40)
    object.__setattr__(found, "features", tuple(("a", i) for i in range(30)) + tuple(("b", i) for i in range(10)))
    words = [ax.texts[-1].get_text() for ax in found.plot().axes if not ax.images]
    assert words == [f"channel {i}\n0 jumps" for i in (*range(12), *range(10))]
    assert found.plot().texts[-1].get_text().replace("\n", " ").endswith(" 22 of 40 features.")
    words = [ax.texts[-1].get_text() for ax in evolution_panels(found, [33, 1]).axes if not ax.images]
    assert words == ["channel 3\n0 jumps", "channel 1\n0 jumps"]


def test_windows_are_around_the_projection_and_as_large_as_the_largest_of_the_layer() -> None:
    found = made([[4, 4]])
    maps = torch.zeros(1, 2, 3, 10, 10)
    maps[0, 0, :, 0:2, 3:5] = 1.0
    maps[0, 1, 0, 6, 4:7] = -1.0
    object.__setattr__(found, "projection", maps)
    shown = [ax.images[0].get_array() for ax in found.plot().axes if ax.images]
    assert [one.shape for one in shown] == [(3, 3, 3)] * 2
    assert (shown[0] > 0.5).sum() == 4 * 3
    assert (shown[1] < 0.5).sum() == 3


def test_everything_is_saved(tmp_path: Path) -> None:
    seen().save(tmp_path / "run", figures=True)
    names = {path.stem for path in (tmp_path / "run" / "arrays").iterdir()}
    assert names == {"image", "value", "place", "projection", "response", "correlation"}
    assert (tmp_path / "run" / "figure.png").stat().st_size > 1000


# --- the training does not notice


class Noisy(Dataset[Any]):
    """Draws from every random state, and gives the same examples all the same."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int) -> Tensor:
        random.random()  # noqa: S311
        np.random.rand()  # noqa: NPY002
        torch.rand(1)
        return X[i]


def train(watch: Callable[[nn.Module, int], object], generator: torch.Generator) -> dict[str, Any]:
    """Dropout, BatchNorm, Adam with momentum, shuffled batches, noise of three random states."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        model = nets.make("regularised").train()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        loader = DataLoader(TensorDataset(X, torch.arange(7) % 5), batch_size=3, shuffle=True, generator=generator)
        for epoch in range(1, 4):
            for x, y in loader:
                noise = random.random() + np.random.rand() + torch.rand(x.shape)  # noqa: S311, NPY002
                optimizer.zero_grad()
                F.cross_entropy(model(x + 0.1 * noise), y).backward()
                optimizer.step()
            schedule.step()
            watch(model, epoch)
        return {
            **model.state_dict(),
            **{f"grad {name}": value.grad for name, value in model.named_parameters()},
            **{f"adam {i}": one["exp_avg_sq"] for i, one in optimizer.state_dict()["state"].items()},
            "rate": torch.tensor(schedule.get_last_lr()),
            "next": torch.rand(3),
            "modes": torch.tensor([part.training for part in model.modules()]),
            "wanted": torch.tensor([value.requires_grad for value in model.parameters()]),
        }


@pytest.mark.parametrize("method", ["deconvnet", "saliency"])
def test_training_with_and_without_the_watch_gives_the_same_bits(method: Any) -> None:
    mine = torch.Generator().manual_seed(1)
    probe = DataLoader(Noisy(), batch_size=2, generator=mine)  # the loop's own generator
    watch = TrainingWatch(probe, ["features.2"], channels=2, epochs=None, method=method)
    plain = train(lambda model, epoch: None, torch.Generator().manual_seed(1))
    watched = train(watch, mine)
    assert watch.found().epochs == (1, 2, 3)
    assert plain.keys() == watched.keys()
    for name, value in plain.items():
        assert torch.equal(value, watched[name]), name
    assert len(set(watch.found().value.amax(0).tolist())) == 3  # it did learn


def test_a_failing_look_leaves_no_trace_either() -> None:
    watch = TrainingWatch(X, ["features.9"])
    model = nets.make("regularised").train()
    with pytest.raises(LayerError, match=r"no layer 'features\.9'"):
        watch(model, 1)
    assert all(part.training for part in model.modules())
    assert all(value.requires_grad for value in model.parameters())


# --- when it looks


def test_it_looks_at_the_papers_epochs_unless_told_otherwise() -> None:
    model = nets.make("module")
    watch = TrainingWatch(X, ["act1"], channels=1)
    assert [epoch for epoch in range(1, 70) if watch(model, epoch)] == [1, 2, 5, 10, 20, 30, 40, 64]
    assert watch.found().epochs == (1, 2, 5, 10, 20, 30, 40, 64)
    assert not watch.found().jumps
    assert watch.found().correlation.min() > 1 - 1e-9


def test_the_cost_is_what_it_says() -> None:
    watch = TrainingWatch(X, ["act1", "act2"], channels=2, epochs=None)
    watch(nets.make("module"), 1)  # draws the channels too
    with count() as cost:
        watch(nets.make("module"), 2)
    alive = int((watch.found().image[:, 1] >= 0).sum())
    assert (cost.forwards, cost.backwards) == (7 + alive, alive)


def test_another_probe_set_is_noticed() -> None:
    shuffled = DataLoader(X, batch_size=7, shuffle=True)  # type: ignore[arg-type]
    watch, model = TrainingWatch(shuffled, ["act1"], epochs=None), nets.make("module")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        watch(model, 1)
        torch.manual_seed(1)
        with pytest.raises(InputError, match="probe set must be the same at every epoch; got another one at epoch 2"):
            watch(model, 2)
    assert watch.found().epochs == (1,)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"layers": "act1"}, InputError, "layers must be a list"),
        ({"layers": []}, InputError, "layers must be a list"),
        ({"layers": [nets.make("module").act1]}, InputError, "layers must be addresses"),
        ({"channels": 0}, InputError, "channels must be an integer >= 1"),
        ({"channels": {"act2": [1]}}, InputError, r"channels must be given for each layer, \['act1'\]; got \['act2'\]"),
        ({"channels": {"act1": [1, 1]}}, InputError, "channels of 'act1' must be different numbers"),
        ({"channels": {"act1": [9]}}, TargetError, r"channels of layer 'act1' must lie in \[0, 3\]; got 9"),
        ({"method": "gradcam"}, InputError, "method must be one of 'deconvnet', 'guided', 'saliency'; got 'gradcam'"),
        ({"epochs": [1.5]}, InputError, "epoch must be an integer"),
        ({"data": []}, InputError, "data must hold at least one example"),
    ],
)
def test_wrong_arguments_are_told_as_such(wrong: dict[str, Any], error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        TrainingWatch(**{"data": X, "layers": ["act1"]} | wrong)(nets.make("module"), 1)


def test_epochs_ascend_and_nothing_is_found_before_the_first() -> None:
    watch = TrainingWatch(X, ["act1"], epochs=(3, 4))
    with pytest.raises(InputError, match=r"at least one epoch must have been watched; got none of \[3, 4\]"):
        watch.found()
    watch(nets.make("module"), 4)
    with pytest.raises(InputError, match="epoch must ascend; got 3 after 4"):
        watch(nets.make("module"), 3)


# --- checkpoints


def test_files_and_states_with_a_prefix_are_the_same_and_the_model_stays(tmp_path: Path) -> None:
    files, model = {}, nets.make("module")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for epoch, state in states().items():
        files[epoch] = tmp_path / f"{epoch}.pt"
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, files[epoch])
    found = evolution(model, files, X, [model.act1, "act2"], channels=3)
    assert found.epochs == (1, 3, 5)
    assert torch.equal(found.projection, seen().projection)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert evolution(model, list(files.values()), X, ["act1"]).epochs == (1, 2, 3)


def test_missing_unexpected_and_misshapen_names_are_told() -> None:
    state = states()[1]
    fewer = {name: value for name, value in state.items() if name != "fc.bias"}
    with pytest.raises(InputError, match=r"checkpoint of epoch 4.*must fit Chain; got 1 missing \(fc.bias\)"):
        evolution(nets.make("module"), {1: state, 4: fewer}, X, ["act1"])
    with pytest.raises(InputError, match=r"1 unexpected \(more\)"):
        evolution(nets.make("module"), [state | {"more": torch.ones(1)}], X, ["act1"])
    with pytest.raises(InputError, match=r"1 of another shape \(fc.bias: file \(3,\), model \(5,\)\)"):
        evolution(nets.make("module"), [state | {"fc.bias": torch.ones(3)}], X, ["act1"])


def test_checkpoints_that_are_none_are_refused() -> None:
    for wrong in ([], {}, "model.pt"):
        with pytest.raises(InputError, match="checkpoints must be files or state dicts"):
            evolution(nets.make("module"), wrong, X, ["act1"])
    with pytest.raises(InputError, match=r"the checkpoint of epoch 2 must be an existing file; got 'no\.pt'"):
        evolution(nets.make("module"), [{}, "no.pt"], X, ["act1"])  # and the first was not loaded
    with pytest.raises(InputError, match="layers must be a list of at least one layer; got 'act1'"):
        evolution(nets.make("module"), states(), X, "act1")
    with pytest.raises(ModelError, match=r"model must be an nn\.Module"):
        evolution(lambda x: x, [{}], X, ["act1"])


# --- Lightning


class FitsEpochs:
    """What Lightning's Trainer does for callbacks, as far as it matters here."""

    def __init__(self, callbacks: list[Any], epochs: int, *, rank: int = 0) -> None:
        self.callbacks, self.epochs, self.is_global_zero, self.current_epoch = callbacks, epochs, rank == 0, 0

    def fit(self, module: nn.Module) -> None:
        for epoch in range(self.epochs):
            self.current_epoch = epoch
            for one in self.callbacks:
                one.on_train_epoch_end(self, module)


@pytest.fixture
def lightning(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in with the one class that is used."""
    package, module = ModuleType("lightning"), ModuleType("lightning.pytorch")
    module.Callback = type("Callback", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightning", package)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", module)
    return SimpleNamespace(pytorch=module)


def test_lightnings_callback_counts_epochs_from_one_and_watches_the_network_inside(lightning: Any) -> None:
    module = nn.ModuleDict({"net": nets.make("module")})
    watch = TrainingWatch(X, ["act1"], channels=1, epochs=(1, 3))
    callback = watch.lightning("net")
    assert isinstance(callback, lightning.pytorch.Callback)
    FitsEpochs([callback], 4).fit(module)
    assert watch.found().epochs == (1, 3)


def test_only_one_of_several_processes_watches(lightning: Any) -> None:
    watch = TrainingWatch(X, ["act1"], epochs=None)
    FitsEpochs([watch.lightning()], 2, rank=1).fit(nets.make("module"))
    with pytest.raises(InputError, match="at least one epoch"):
        watch.found()


def test_without_lightning_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match="pip install lightning"):
        TrainingWatch(X, ["act1"]).lightning()
