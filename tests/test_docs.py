"""Everything that the documentation shows is run: Python, the shell commands of attrib, the gallery."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import os
import re
import runpy
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import zip_longest
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

import attrib.methods
from attrib.cli import main
from attrib.io import load_image
from attrib.registry import METHODS

ROOT = Path(__file__).parent.parent
BUILT = {"_build", "gallery_out", "generated"}
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if not BUILT & set(path.parts)),
]
GALLERY = sorted((ROOT / "docs" / "gallery").glob("*.py"))
SECTIONS = ("Formula", "Example", "Cost", "When it misleads", "In Captum", "References")

FENCE = re.compile(r"^```(?P<kind>\S*) ?(?P<file>[^\n]*)\n(?P<body>.*?)^```\s*$", re.MULTILINE | re.DOTALL)
SKIP = re.compile(r"<!-- skip: (?P<reason>[^>]+) -->\s*\Z")
NEEDS = re.compile(r"<!-- needs: (?P<packages>[^>]+) -->")


@dataclass(frozen=True)
class Block:
    kind: str
    file: str  # ```python NAME is a file to save, not code to run
    body: str
    line: int
    output: str | None  # of the ```text block that follows at once


def blocks(text: str) -> Iterator[Block]:
    """The runnable blocks of a page, with the outputs that it promises."""
    fences = list(FENCE.finditer(text))
    for fence, following in zip_longest(fences, fences[1:]):
        if fence["kind"] not in {"python", "console"} or SKIP.search(text[: fence.start()]):
            continue
        shown = (
            following is not None and following["kind"] == "text" and not text[fence.end() : following.start()].strip()
        )
        line = text.count("\n", 0, fence.start("body"))
        yield Block(fence["kind"], fence["file"], fence["body"], line, following["body"] if shown else None)


def save_and_test(file: Path, body: str) -> None:
    """Save a file that a page tells its reader to write; if it holds tests, run them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(body, encoding="utf-8")
    if file.name.startswith("test_"):
        tests = [value for name, value in runpy.run_path(str(file)).items() if name.startswith("test_")]
        assert tests
        for test in tests:
            test()


def execute(block: Block, path: Path, names: dict[str, object]) -> str:
    """Run one block; return what it printed."""
    printed = StringIO()
    with redirect_stdout(printed):
        if block.file:
            save_and_test(Path(block.file), block.body)
        elif block.kind == "python":
            exec(compile("\n" * block.line + block.body, str(path), "exec"), names)  # noqa: S102  our own pages
        else:
            for line in block.body.replace("\\\n", " ").splitlines():
                if line.startswith("$ attrib "):
                    assert main(shlex.split(line)[2:]) == 0, line
    return printed.getvalue()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory with ``photo.png``, and no network; modules that a page adds are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    # a page may write attrib/methods/new.py as if the directory were a checkout
    monkeypatch.setattr(attrib.methods, "__path__", [*attrib.methods.__path__, str(tmp_path / "attrib" / "methods")])

    def refuse(*args: object) -> None:
        raise AssertionError("documentation must work without the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    y, x = np.mgrid[:96, :128]
    photo = np.stack([x * 2, y * 2, np.where((x - 40) ** 2 + (y - 50) ** 2 < 900, 255, 30)], -1).astype(np.uint8)
    Image.fromarray(photo).save("photo.png")
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(tmp_path) in str(getattr(module, "__file__", None)):
            del sys.modules[name]
    plt.close("all")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_does_what_it_says(path: Path, desk: Path, doctest_namespace: dict[str, object]) -> None:
    text = path.read_text(encoding="utf-8")
    for package in (name for found in NEEDS.finditer(text) for name in found["packages"].split()):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    names: dict[str, object] = {"__name__": "__main__", "image": load_image("photo.png"), **doctest_namespace}
    same = doctest.OutputChecker().check_output
    for block in blocks(text):
        printed = execute(block, path, names)
        if block.output is not None:
            assert same(block.output, printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE), printed


def test_a_block_is_skipped_only_where_a_reason_stands_before_it() -> None:
    hidden = "<!-- skip: downloads weights -->\n```python\n2\n```\n"
    page = f"```python\n1\n```\n\n{hidden}\n```python\nprint(3)\n```\n```text\n3\n```\n"
    assert [(block.body, block.line, block.output) for block in blocks(page)] == [
        ("1\n", 1, None),
        ("print(3)\n", 10, "3\n"),
    ]


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_a_gallery_script_is_short_and_titled(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    title, underline = (ast.get_docstring(ast.parse(source)) or "").splitlines()[:2]
    assert set(underline) == {"="}
    assert len(underline) >= len(title)
    assert len(source.splitlines()) < 40


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_a_gallery_script_draws_one_figure(path: Path, desk: Path) -> None:
    if os.environ.get("ATTRIB_GALLERY_RAN"):  # CI builds the documentation first, from this checkout
        drawn = (ROOT / "docs" / "gallery_out" / "images").glob(f"sphx_glr_{path.stem}_0*.png")
        assert len(list(drawn)) == 1
        return
    plt.close("all")
    with redirect_stdout(StringIO()):
        runpy.run_path(str(path), run_name="__main__")
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].__module__.startswith("attrib.methods.")])
def test_every_method_has_a_reference_page(name: str) -> None:
    page = (ROOT / "docs" / "reference" / "methods" / f"{name}.md").read_text(encoding="utf-8")
    assert [section for section in SECTIONS if f"## {section}\n" not in page] == []
    assert page.partition("\n")[0].endswith(f"(`{name}`)")


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].__module__.startswith("attrib.")])
def test_every_method_has_a_figure_that_the_gallery_draws(name: str) -> None:
    page = (ROOT / "docs" / "reference" / "methods" / f"{name}.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[[^\]]{20,}\]\(\.\./\.\./gallery_out/images/sphx_glr_(\w+)_001\.png\)", page)
    drawn = [path.read_text(encoding="utf-8") for path in GALLERY if path.stem in shown]
    assert any(f'"{name}"' in source or re.search(rf"\b{METHODS[name].__name__}\b", source) for source in drawn)


def test_every_picture_of_the_gallery_that_a_page_shows_is_drawn() -> None:
    stems = {path.stem for path in GALLERY}
    shown = {
        stem for page in PAGES for stem in re.findall(r"sphx_glr_(\w+)_001\.png", page.read_text(encoding="utf-8"))
    }
    assert shown
    assert shown <= stems


def test_examples_use_what_the_reference_defines(desk: Path, doctest_namespace: dict[str, object]) -> None:
    path = ROOT / "docs" / "reference" / "index.md"
    names: dict[str, Any] = {}
    (block,) = blocks(path.read_text(encoding="utf-8"))
    execute(block, path, names)
    assert torch.equal(names["x"], doctest_namespace["x"])
    assert str(names["model"]) == str(doctest_namespace["model"])
    assert torch.equal(names["model"](names["x"]), doctest_namespace["model"](names["x"]))
    for page in (path.parent / "methods").glob("*.md"):
        assert "(../index.md#what-the-examples-use)" in page.read_text(encoding="utf-8"), page.name
