"""The benchmark of layers: the tables of the pages are those of its results, and what the pages say of them is so."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from benchmarks import layers

RESULTS: dict[str, Any] = json.loads(layers.RESULTS.read_text())


@pytest.mark.parametrize("name", layers.PAGES)
def test_the_table_of_each_page_is_that_of_the_results(name: str) -> None:
    assert layers.tables(RESULTS)[name] in (layers.HOW_TO / layers.PAGES[name]).read_text()
    assert RESULTS["settings"]["photos"] == 50


def test_what_is_said_of_depth_and_of_joined_layers_is_so() -> None:
    share, overlap = RESULTS["photos"]["share"], RESULTS["photos"]["overlap"]
    depth = {name: [share[f"{name}|{layer}"] for layer in layers.DEPTHS] for name in layers.SINGLE}
    assert max(depth["Grad-CAM"][:3]) < depth["Grad-CAM"][3] - 0.05
    for name in ("LayerCAM", "HiResCAM (`relu=True`)"):
        assert min(depth[name]) > max(depth["Grad-CAM"][:3])
    product = 'LayerCAM, `"product"`'
    assert max(share.values()) == share[product]
    assert max(overlap.values()) == overlap[product]
    alone = overlap["Grad-CAM, `layer4`"]
    assert all(overlap[name] < alone for name in overlap if name.startswith('Grad-CAM, `"'))


def test_what_is_said_of_words_is_so() -> None:
    rows = RESULTS["words"]["rows"]
    for word in ("first shape", "second shape"):
        own, other = rows[word]["Grad-CAM, encoder"]
        assert abs(own - other) < 0.15
        assert rows[word]["HiRes-CAM, encoder"][0] > 5 * rows[word]["HiRes-CAM, encoder"][1]
    for word in ("first colour", "second colour"):
        own, other = rows[word]["Grad-CAM, encoder"]
        assert own > 3 * other
    assert 0.2 < RESULTS["words"]["area"] < 0.3


def test_overlap_takes_as_many_places_as_the_object_has() -> None:
    mask = torch.tensor([[[True, True, False, False]]])
    assert layers.overlap(torch.tensor([[[4.0, 3.0, 2.0, 1.0]]]), mask) == 1
    assert layers.overlap(torch.tensor([[[4.0, 1.0, 3.0, 2.0]]]), mask) == pytest.approx(1 / 3)


def test_the_pages_are_where_the_tables_go() -> None:
    for name, page in layers.PAGES.items():
        text = (layers.HOW_TO / page).read_text()
        assert text.count(f"<!-- {name}: begin -->") == text.count(f"<!-- {name}: end -->") == 1
