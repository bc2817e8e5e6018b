"""Probing layer by layer: splits that are fair, features that fit into memory, a table that says what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from attrib.analysis import (
    LeastSquares,
    Pooling,
    Shots,
    Softmax,
    Stratified,
    layer_features,
    probe_features,
    probe_layers,
)
from attrib.core import capture, count
from attrib.errors import InputError, LayerError
from attrib.plot import probe_curves
from tests import nets, transformers

ONE = (LeastSquares(),)


def labelled(n: int = 40, classes: int = 2) -> tuple[Tensor, Tensor]:
    return nets.batch(n, 8, 6), torch.arange(n) % classes


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def told(features: dict[str, Tensor], labels: Tensor, **how: Any) -> Any:
    return probe_features(features, labels, **how)


# --- splits


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(2, 9), min_size=2, max_size=4), st.floats(0.05, 0.95), st.integers(0, 9))
def test_stratified_splits_take_the_same_share_of_every_class(counts: list[int], train: float, seed: int) -> None:
    labels = torch.cat([torch.full((n,), 5 * c) for c, n in enumerate(counts)])
    (folds,) = Stratified(train, repeats=3).folds(labels, seed=seed)
    assert len(folds) == 3
    for fold in folds:
        assert sorted([*fold.train.tolist(), *fold.test.tolist()]) == list(range(len(labels)))
        for c, n in enumerate(counts):
            share = int((labels[fold.train] == 5 * c).sum())
            assert share == min(max(round(train * n), 1), n - 1)


def test_shots_are_nested_share_their_test_set_and_are_as_many_for_every_class() -> None:
    labels = torch.arange(60) % 3
    split = Shots((2, 5, 9), test=6, repeats=4)
    folds = split.folds(labels, seed=1)
    assert split.sizes == ("2/class", "5/class", "9/class")
    for few, some, many in zip(*folds, strict=True):
        assert set(few.train.tolist()) < set(some.train.tolist()) < set(many.train.tolist())
        assert torch.equal(few.test, many.test)
        assert not set(many.train.tolist()) & set(many.test.tolist())
        for fold, shots in ((few, 2), (some, 5), (many, 9)):
            assert torch.bincount(labels[fold.train]).tolist() == [shots] * 3
            assert torch.bincount(labels[fold.test]).tolist() == [6] * 3
    assert len({tuple(sorted(fold.train.tolist())) for fold in folds[0]}) == 4
    everything = Shots((2,), test=None, repeats=1).folds(labels, seed=1)[0][0]
    assert len(everything.test) == 60 - 6


def test_the_papers_protocol_is_the_default() -> None:
    assert Shots().sizes == ("15/class", "30/class", "45/class", "60/class")
    assert (Shots().test, Shots().repeats) == (50, 5)


@pytest.mark.parametrize("split", [Stratified(repeats=2), Shots((3,), repeats=2)])
def test_splits_depend_on_the_seed_alone(split: Any) -> None:
    labels, state = torch.arange(40) % 4, torch.random.get_rng_state()
    one, again, other = (split.folds(labels, seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(one[0].train, again[0].train)
    assert not torch.equal(one[0].train, other[0].train)
    assert not torch.equal(one[0].train, one[1].train)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_classes_with_too_few_examples_are_named() -> None:
    labels = torch.tensor([0, 0, 0, 7, 7, 3])
    with pytest.raises(InputError, match=r"at least 2 examples, .*; got 1 of class 3"):
        Stratified().folds(labels, seed=0)
    with pytest.raises(InputError, match=r"at least 4 examples, to learn from 3 .*; got 1 of class 3"):
        Shots((1, 3)).folds(labels, seed=0)
    with pytest.raises(InputError, match=r"per_class must ascend; got \(3, 1\)"):
        Shots((3, 1))
    with pytest.raises(InputError, match="train must lie between 0 and 1"):
        Stratified(train=1.0)


# --- features


def test_a_grid_averages_cells_and_is_never_finer_than_the_layer() -> None:
    act = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    found = Pooling(side=2)(act).reshape(2, 3, 2, 2)
    torch.testing.assert_close(found[1, 2, 1, 0], act[1, 2, 2:, :3].mean())
    torch.testing.assert_close(Pooling("mean")(act), act.mean((2, 3)))
    assert torch.equal(Pooling("flatten")(act), act.flatten(1))
    assert torch.equal(Pooling(side=9)(act), act.flatten(1))
    signal, volume = torch.rand(2, 3, 8), torch.rand(2, 3, 4, 4, 4)
    torch.testing.assert_close(Pooling(side=2)(signal)[0, 1], signal[0, 0, 4:].mean())
    torch.testing.assert_close(Pooling(side=2)(volume)[0, 0], volume[0, 0, :2, :2, :2].mean())
    assert torch.equal(Pooling("mean")(act[:, :, 0, 0]), act[:, :, 0, 0])  # no locations


def test_a_grid_gets_coarser_to_stay_within_the_cap_and_what_cannot_is_refused() -> None:
    act = torch.rand(2, 10, 8, 8)
    assert [Pooling(side=4, cap=cap)(act).shape[1] for cap in (160, 159, 40, 39)] == [160, 90, 40, 10]
    with pytest.raises(InputError, match=r"features of conv must be at most cap=9; got 10\. Raise cap, or pool"):
        Pooling(side=4, cap=9)(act, "conv")
    with pytest.raises(InputError, match="at most cap=600; got 640"):
        Pooling("flatten", cap=600)(act)


def test_features_come_from_one_pass_whatever_the_batches() -> None:
    model, (x, y) = nets.make("module"), labelled(7)
    model.train()
    with count() as cost:
        found = layer_features(model, DataLoader(TensorDataset(x, y), batch_size=3), ["conv1", "act2", "fc"])
    assert cost.forwards == 7
    assert model.training
    whole = layer_features(model, [(x, y)], ["conv1", "act2", "fc"])
    with torch.no_grad():
        conv1 = model.get_submodule("conv1")(x)
    torch.testing.assert_close(found.features["conv1"], Pooling()(conv1))
    for layer, features in whole.features.items():
        torch.testing.assert_close(found.features[layer], features)
    torch.testing.assert_close(found.features["fc"], model.eval()(x).detach())
    assert torch.equal(found.labels, y)


def test_tokens_are_put_back_in_their_places_without_the_class_token() -> None:
    model, x = transformers.make(size=(12, 12)), torch.rand(3, 3, 12, 12)
    layer = next(name for name, part in model.named_modules() if name.count(".") == 1)
    found = layer_features(model, [(x, torch.arange(3))], [layer], pooling=Pooling("mean"))
    with torch.no_grad(), capture(model, layer) as acts:
        model(x)
    torch.testing.assert_close(found.features[layer], acts[layer][:, -9:].mean(1), atol=1e-5, rtol=1e-4)


def test_what_has_no_labels_no_such_layer_or_no_room_is_refused() -> None:
    model, (x, y) = nets.make("module"), labelled(4)
    with pytest.raises(InputError, match="data must have labels"):
        layer_features(model, x, ["conv1"])
    with pytest.raises(InputError, match="labels must be integers"):
        layer_features(model, [(x, y.float())], ["conv1"])
    with pytest.raises(LayerError, match="no layer 'conv9'"):
        layer_features(model, [(x, y)], ["conv9"])
    with pytest.raises(InputError, match="features must fit into gigabytes=1e-08"):
        layer_features(model, [(x, y)], ["conv1"], pooling=Pooling(gigabytes=1e-8))
    with pytest.raises(InputError, match="layers must be a list"):
        layer_features(model, [(x, y)], "conv1")
    with pytest.raises(InputError, match="at least one example"):
        layer_features(model, [], ["conv1"])
    sequence = nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 2, 1))
    with pytest.raises(LayerError, match="layer '1' must give"):
        layer_features(sequence, [(x, y)], ["1"])


# --- probing


def test_a_class_that_is_in_the_features_is_read_off_and_shuffled_labels_are_not() -> None:
    y = torch.arange(200) % 4
    noise = normal(200, 6)
    features = {"noise": noise, "signal": noise + 4 * torch.nn.functional.one_hot(y, 6)}
    found = told(features, y)
    assert (found.layers, found.features, found.probes) == (("noise", "signal"), (6, 6), ("least squares", "softmax"))
    assert found.accuracy[1].min() > 0.9
    assert abs(found.accuracy[0].mean() - 0.25) < 0.1
    assert abs(found.shuffled.mean() - 0.25) < 0.05
    assert (found.train, found.test, found.classes) == ((160,), (40,), 4)


def test_accuracy_is_what_a_fit_to_each_fold_gives() -> None:
    x, y = normal(60, 3), torch.arange(60) % 3
    split = Shots((3, 9), test=5, repeats=2)
    found = told({"x": x}, y, split=split, seed=8)
    for j, probe in enumerate((LeastSquares(), Softmax())):
        for k, folds in enumerate(split.folds(y, seed=8)):
            for r, fold in enumerate(folds):
                right = probe.fit(x[fold.train], y[fold.train]).predict(x[fold.test]) == y[fold.test]
                assert found.accuracy[0, j, k, r].item() == pytest.approx(right.double().mean().item())


def test_the_same_seed_gives_the_same_table_and_the_model_stays() -> None:
    model, (x, y) = nets.make("regularised").train(), labelled()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    layers = [name for name, _ in model.named_modules() if name][1:3]
    one, again, other = (probe_layers(model, [(x, y)], layers, probes=ONE, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.accuracy, again.accuracy)
    assert torch.equal(one.shuffled, again.shuffled)
    assert not torch.equal(one.accuracy, other.accuracy)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.training


def test_intervals_are_students_and_wider_where_splits_share_most_of_what_they_learn_from() -> None:
    found = told({"x": normal(50, 2)}, torch.arange(50) % 2, split=Stratified(repeats=6), probes=ONE)
    values = found.accuracy[0, 0, 0].numpy()
    (one,) = found.scores()
    half = scipy.stats.t.ppf(0.975, 5) * values.std(ddof=1) * np.sqrt(1 / 6 + 10 / 40)
    assert (one.mean, one.sd) == (pytest.approx(values.mean()), pytest.approx(values.std(ddof=1)))
    assert (one.low, one.high) == (pytest.approx(max(0, values.mean() - half)), pytest.approx(values.mean() + half))
    (wide,) = found.scores(level=0.99)
    assert wide.low <= one.low <= one.high <= wide.high
    assert found.interval == "corrected"
    (plain,) = found.scores("t")
    assert plain.high - plain.mean == pytest.approx(scipy.stats.t.ppf(0.975, 5) * values.std(ddof=1) / np.sqrt(6))
    (boot,) = found.scores("bootstrap")
    assert one.low < boot.low <= boot.mean <= boot.high < one.high
    few = told({"x": normal(50, 2)}, torch.arange(50) % 2, split=Shots((3, 10), repeats=3), probes=ONE)
    assert few.interval == "t"
    assert few.scores() == few.scores("t")
    with pytest.raises(InputError, match="interval must be one of"):
        found.scores("normal")


def test_one_split_has_no_spread() -> None:
    found = told({"x": normal(50, 2)}, torch.arange(50) % 2, split=Stratified(repeats=1))
    assert np.isnan([found.scores()[0].sd, found.scores()[0].low]).all()
    assert "±" not in found.to_text().splitlines()[-1]
    found.plot().canvas.draw()


def test_the_table_has_a_row_for_each_layer_and_the_control_beside_it() -> None:
    y = torch.arange(80) % 2
    features = {"layer_1": normal(80, 2), "layer_2": normal(80, 2) + 9 * y[:, None]}
    found = told(features, y, split=Shots((5, 20), test=10, repeats=3))
    text = found.to_text()
    assert text.startswith(
        "Accuracy in %, averaged over 2 classes (chance 50.0): mean ± sd [95% interval] of 3 splits."
    )
    head, first, second = text.split("softmax\n")[1].splitlines()[:3]
    assert head.split() == ["layer", "features", "5/class", "20/class", "shuffled", "labels"]
    assert first.split()[0] == "layer_1"
    assert second.split()[:5] == ["layer_2", "2", "100.0", "±", "0.0"]
    assert "| layer_2 |" in found.to_text(markdown=True)
    latex = found.to_latex()
    assert latex.count(r"\\") == 1 + 4
    assert r"softmax (layer\_2) & $100.0 \pm 0.0$ & $100.0 \pm 0.0$ \\" in latex


def test_fits_without_a_unique_solution_are_counted() -> None:
    y = torch.arange(20) % 2
    found = told({"few": normal(20, 3), "many": normal(20, 30)}, y, split=Stratified(repeats=2), probes=ONE)
    assert found.notes == ("2 of 4 fits: least squares, columns depend on each other: solution of smallest norm.",)
    assert found.notes[0] in found.to_text()


def test_everything_is_saved(tmp_path: Path) -> None:
    found = told({"x": normal(20, 2)}, torch.arange(20) % 2, split=Stratified(repeats=2))
    found.save(tmp_path / "run", figures=True)
    written = {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*.*")}
    assert {"arrays/accuracy.npy", "arrays/shuffled.npy", "found.md", "manifest.json", "figure.png"} == written
    assert found.manifest["scores"][1]["probe"] == "softmax"
    np.testing.assert_array_equal(np.load(tmp_path / "run" / "arrays" / "accuracy.npy"), found.accuracy.numpy())


def test_one_panel_for_one_size_and_one_for_each_probe_with_several() -> None:
    y = torch.arange(80) % 2
    features = {"a": normal(80, 2), "b": normal(80, 2) + 9 * y[:, None]}
    one = told(features, y, split=Stratified(repeats=2))
    (ax,) = probe_curves(one).axes
    assert ax.lines[0].get_ydata().tolist() == pytest.approx(one.accuracy[:, 0, 0].mean(1).tolist())
    assert ax.lines[1].get_ydata().tolist() == pytest.approx(one.shuffled[:, 0, 0].mean(1).tolist())
    several = probe_curves(told(features, y, split=Shots((5, 20), repeats=2)))
    assert [ax.get_title() for ax in several.axes] == ["least squares", "softmax"]
    assert [text.get_text() for text in several.legends[0].get_texts()][:2] == ["5/class", "20/class"]


def test_features_and_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"features of 'x' must have shape \(4, d\); got \(3, 2\)"):
        probe_features({"x": torch.rand(3, 2)}, torch.arange(4))
    with pytest.raises(InputError, match="there must be features and probes; got 0 layers and 2 probes"):
        probe_features({}, torch.arange(4))
    with pytest.raises(InputError, match="at least two classes"):
        probe_features({"x": torch.rand(4, 2)}, torch.zeros(4, dtype=torch.long))
