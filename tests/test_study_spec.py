"""The plan of a study: one form for each meaning, one hash for each form, refused early where it cannot be right."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attrib.errors import AttribError, InputError, RegistryError, TargetError
from attrib.io import load_model, open_samples
from attrib.metrics import Metric, Protocol
from attrib.registry import METRICS
from attrib.study import Study
from attrib.study.plain import hashed
from attrib.study.running import part
from attrib.study.work import Worker
from tests import nets, studies
from tests.tiny import picture, refuse_constants

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return studies.photos(tmp_path / "photos")


def shuffled(value: Any, source: random.Random) -> Any:
    """The same with its keys in another order."""
    if isinstance(value, list):
        return [shuffled(one, source) for one in value]
    if not isinstance(value, dict):
        return value
    keys = list(value)
    source.shuffle(keys)
    return {key: shuffled(value[key], source) for key in keys}


@given(st.dictionaries(st.text(), PLAIN), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_change_a_hash(spec: dict[str, Any], source: random.Random) -> None:
    assert hashed(spec) == hashed(shuffled(spec, source))


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 9))
def test_shards_and_parts_of_jobs_hold_each_image_once(images: int, size: int, jobs: int) -> None:
    study = Study(studies.network(), dict.fromkeys(map(str, range(images)), picture()), ["saliency"], shard_size=size)
    dealt = [shard for i in range(jobs) for shard in part(study.shards(), (i, jobs))]
    found = [image for shard in dealt for image in study.images(shard)]
    assert sorted(found) == list(range(images))
    assert all(len(study.images(shard)) <= size for shard in dealt)


def test_a_spec_is_strict_json_and_makes_the_same_study_again(table: Path) -> None:
    study = studies.make(
        table,
        methods={"narrow": {"name": "occlusion", "window": (3, 4)}, "saliency": "saliency"},
        method_options={"saliency": {"channels": "l2"}},
        metric_options={"deletion": {"normalised": True}},
        target="label",
        controls=["random"],
    )
    text = json.dumps(study.spec, allow_nan=False)
    again = Study.from_spec(json.loads(text, parse_constant=refuse_constants))
    assert again == study
    assert {study: 1}[again] == 1
    assert again.spec == study.spec
    windows = Worker(again).measuring.methods["narrow"].method
    assert windows.window == Worker(study).measuring.methods["narrow"].method.window


def test_a_hash_is_the_same_in_another_process(table: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests import studies; print(studies.make(Path(sys.argv[1])).hash)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(table)], capture_output=True, text=True, cwd=studies.ROOT, check=True
    )
    assert done.stdout.strip() == studies.make(table).hash


def test_a_study_can_be_sent_to_another_process_also_with_a_module(table: Path, tmp_path: Path) -> None:
    named = studies.make(table)
    for study in (named, Study.from_spec(named.spec), Study(studies.network(), str(table), ["saliency"])):
        assert len(study.hash) == 64  # which reads the data
        assert pickle.loads(pickle.dumps(study)) == study  # noqa: S301
    alive = Study(studies.network(), open_samples({"one": picture()}), ["saliency"])
    with pytest.raises(InputError, match="to be read again elsewhere"):
        pickle.loads(pickle.dumps(alive))  # noqa: S301


def test_equal_protocols_are_equal_however_they_are_said(table: Path) -> None:
    said = ["default", Protocol(), Protocol().to_dict(), {}]
    assert len({studies.make(table, protocol=one).hash for one in said}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"methods": ["gradcam", "saliency"]},
        {"metrics": ["srg"]},
        {"protocol": {"steps": 6}},
        {"target": 3},
        {"seed": 1},
        {"controls": False},
        {"shard_size": 3},
        {"layer": "act1"},
        {"method_options": {"saliency": {"channels": "l2"}}},
        {"metric_options": {"srg": {"normalised": True}}},
        {"weights": "none"},
        {"batch_size": 4},
        {"model": "tests.studies:reds"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_that_is_asked_changes_the_hash(table: Path, change: dict[str, Any]) -> None:
    assert studies.make(table, **change) != studies.make(table)


def test_weights_of_a_module_change_the_hash_and_keep_it_here(table: Path) -> None:
    one, other = (nets.fill(nets.Chain(), seed) for seed in (1, 2))
    assert Study(one, str(table), ["saliency"]) != Study(other, str(table), ["saliency"])
    assert not Study(one, str(table), ["saliency"]).portable
    assert studies.make(table).portable
    with pytest.raises(InputError, match="model must be a name to be loaded elsewhere"):
        Study.from_spec(Study(one, str(table), ["saliency"]).spec)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"methods": ["salience"]}, RegistryError, "no method named 'salience'. Did you mean 'saliency'"),
        ({"metrics": ["deletoin"]}, RegistryError, "no metric named 'deletoin'"),
        ({"methods": []}, InputError, "a study must have at least one method"),
        ({"methods": [torch.relu]}, InputError, "must be a registry name, so that every process can make it"),
        ({"methods": ["saliency", "saliency"]}, InputError, "saliency twice. Pass a mapping of labels"),
        ({"method_options": {"rise": {"n": 3}}}, InputError, "options must be for a method of the study"),
        ({"method_options": {"saliency": {"channels": torch.relu}}}, InputError, "must be plain values"),
        ({"controls": ["edgy"]}, RegistryError, "no control named 'edgy'"),
        ({"seed": -1}, InputError, "seed must be an integer >= 0"),
        ({"shard_size": 0}, InputError, "shard_size must be an integer >= 1"),
        ({"model": 3}, InputError, "model must be a name, a LoadedModel or an nn.Module; got int"),
        ({"protocol": "rice"}, InputError, "protocol must be one of"),
    ],
)
def test_what_cannot_be_right_is_refused_at_once(
    table: Path, change: dict[str, Any], error: type[AttribError], words: str
) -> None:
    with pytest.raises(error, match=words):
        studies.make(table, **change)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"method_options": {"saliency": {"chanels": "l2"}}},
            InputError,
            "options of method 'saliency' must be its own",
        ),
        ({"metric_options": {"srg": {"normal": True}}}, InputError, "options of metric 'srg' must be its own"),
        ({"protocol": {"order": "morf"}}, InputError, "the protocol must measure lerf for 'srg'"),
        ({"target": "conv2:1"}, TargetError, "protocol=Protocol"),
        ({"methods": {"random": "saliency"}}, InputError, "must not be named like a control"),
    ],
)
def test_what_only_the_model_can_tell_is_refused_before_anything_is_computed(
    table: Path, tmp_path: Path, change: dict[str, Any], error: type[AttribError], words: str
) -> None:
    with pytest.raises(error, match=words):
        studies.make(table, **change).run(tmp_path / "out", show_progress=False)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def masked_metric() -> Any:
    @METRICS.add("inside")
    class Inside(Metric):
        """Share of the map inside the object."""

        higher_is_better, range, needs = True, (0.0, 1.0), ("masks",)

        def score(self, model: Any, x: Any, target: Any, maps: Any, *args: Any, masks: Any, **options: Any) -> Any:
            full = torch.nn.functional.interpolate(maps, x.shape[2:])[:, 0].abs()
            return ((full * masks).sum((1, 2)) / full.sum((1, 2))).where(masks.any(2).any(1), torch.nan)

    yield
    METRICS.remove("inside")


def test_metrics_that_need_masks_are_refused_where_there_are_none(
    tmp_path: Path, table: Path, masked_metric: None
) -> None:
    bare = studies.photos(tmp_path / "bare", masks=False)
    with pytest.raises(InputError, match="data must have masks or boxes for inside; got none"):
        Worker(studies.make(bare, metrics=["inside"]))
    Worker(studies.make(table, metrics=["inside"]))
    (tmp_path / "bare" / "table.csv").unlink()
    with pytest.raises(InputError, match="data must have labels to be explained; got none"):
        Worker(studies.make(tmp_path / "bare", target="label"))


def test_masks_flow_to_the_metrics_through_the_geometry_of_the_pictures(
    tmp_path: Path, table: Path, masked_metric: None
) -> None:
    text = table.read_text().splitlines()
    text[2] = text[2].rpartition(",")[0] + ","  # the second picture has no mask
    table.write_text("\n".join(text) + "\n")
    study = studies.make(table, metrics=["inside"], controls=False, target="label")
    found = study.run(tmp_path / "out", show_progress=False)
    column = found.matrix("inside").values[:, 0]
    assert np.isnan(column).nonzero()[0].tolist() == [1]
    assert found.counts("inside")["saliency"] == {"ok": 5, "no mask": 1}
    net, sample = load_model(studies.MODEL), study.samples[3]
    x = net.inputs(sample.image)
    maps = saliency_of(net.model, x, sample.label)
    inside = net.mask(sample.mask)
    assert float((maps * inside).sum() / maps.sum()) == pytest.approx(column[3], rel=1e-5)
    assert 0.05 < float(inside.float().mean()) < 0.95


def saliency_of(model: Any, x: torch.Tensor, target: Any) -> torch.Tensor:
    from attrib import Saliency

    return Saliency(model).attribute(x, target)[0, 0]
