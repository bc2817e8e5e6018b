"""``attrib see correspondence``: a table of pictures and parts on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attrib.analysis import correspondence
from attrib.errors import InputError
from attrib.io import LoadedModel, Preprocess
from attrib.io.parts import read_parts
from tests import tiny
from tests.test_cli import desk, files, run  # noqa: F401  fixtures

COMMAND = ("see", "correspondence", "-m", "tiny_models:make", "--data", "faces.csv", "--layer", "act1", "--draws", "3")
EYE = ("--part", "eye")
TABLE = """image,name,eye,nose,face
photos/a.png,ann,3 2 7 5,6 5 9 9,2 1 13 12
photos/b.png,,4 2 8 5,nose.png,2 1 13 12
"""


@pytest.fixture
def table(desk: Path) -> Path:  # noqa: F811
    """Two pictures of 16 x 12 pixels with an eye, a nose and a face; the nose of one is a mask."""
    (desk / "faces.csv").write_text(TABLE)
    mask = np.zeros((12, 16), np.uint8)
    mask[4:8, 6:10] = 255
    Image.fromarray(mask).save(desk / "nose.png")
    return desk / "faces.csv"


class TestRead:
    def test_boxes_and_masks_go_where_the_network_sees_them(self, table: Path) -> None:
        net = LoadedModel(tiny.loaded().model, Preprocess(resize=12, crop=10))
        found = read_parts(table, net)
        assert (found.names, list(found.parts)) == (("ann", "photos/b.png"), ["eye", "nose", "face"])
        assert found.inputs.shape == (2, 3, 10, 10)
        # the middle 10 x 10 of 16 x 12: 3 columns and 1 row are cut off
        assert found.parts["eye"][0].nonzero().tolist() == [[y, x] for y in (1, 2, 3) for x in (0, 1, 2, 3)]
        assert found.parts["nose"][1].nonzero().tolist() == [[y, x] for y in range(3, 7) for x in range(3, 7)]
        assert found.views[0].size == (10, 10)
        assert list(read_parts(table, net, ["nose"]).parts) == ["nose"]

    @pytest.mark.parametrize(
        ("text", "parts", "says"),
        [
            ("picture,eye\na.png,1 1 2 2\n", None, "must have rows and a column 'image'; faces.csv has"),
            ("image,label\nphotos/a.png,3\n", None, "a table of parts must have a column for each of them"),
            (TABLE, ["noise"], "parts must be columns of faces.csv; got 'noise'. Did you mean 'nose'"),
            ("image,eye\nphotos/a.png,\n", None, "part 'eye' of photos/a.png must be a box x0 y0 x1 y1 or the file"),
            ("image,eye\nphotos/a.png,1 2\n", None, "must be a box x0 y0 x1 y1 or the file of a mask; got '1 2'"),
            ("image,eye\nphotos/a.png,left\n", None, "must be a box x0 y0 x1 y1 or the file of a mask; got 'left'"),
            ("image,eye\nphotos/a.png,0 0 2 1\n", None, "must lie in the part of the picture that the network sees"),
        ],
    )
    def test_tables_that_cannot_be_used_are_refused(self, table: Path, text: str, parts: Any, says: str) -> None:
        table.write_text(text)
        with pytest.raises(InputError, match=says):
            read_parts(table, tiny.loaded(), parts)

    def test_what_is_no_table_is_told(self, table: Path) -> None:
        with pytest.raises(InputError, match=r"data must be a table, CSV, JSON or JSON lines; got '.*': a folder"):
            read_parts(table.parent, tiny.loaded())
        with pytest.raises(InputError, match=r"data must be a table, CSV, JSON or JSON lines; got '.*a.png'"):
            read_parts(table.parent / "photos" / "a.png", tiny.loaded())


class TestCommand:
    def test_writes_the_numbers_of_the_function_and_both_figures(self, run: Any, table: Path) -> None:  # noqa: F811
        code, out, _ = run(*COMMAND, "--part", "eye", "--part", "nose", "--within", "face", "--out", "run")
        assert code == 0
        assert out.splitlines()[0].split() == ["hidden", "act1"]
        marked = read_parts(table, tiny.loaded(), ["eye", "nose", "face"])
        room = marked.parts.pop("face")
        found = correspondence(tiny.loaded().model, marked.inputs, marked.parts, "act1", draws=3, within=room)
        kept = np.load(table.parent / "run" / "arrays" / "random.act1.npy")
        np.testing.assert_array_equal(kept, found.random["act1"].numpy())
        told = json.loads((table.parent / "run" / "manifest.json").read_text())
        assert told["settings"]["within"] is True
        assert told["command"][:3] == ["attrib", "see", "correspondence"]
        assert {"figure.png", "parts.png", "found.md"} < files(table.parent / "run")
        assert torch.equal(found.pairs, torch.tensor([[0, 1]]))

    @pytest.mark.usefixtures("table")
    def test_formats_and_options(self, run: Any) -> None:  # noqa: F811
        code, out, _ = run(*COMMAND, *EYE, "--json", "--quiet", "--zero", "ignored", "--baseline", "0.5", "--aligned")
        assert code == 0
        assert json.loads(out)["settings"] == {
            **{"zero": "ignored", "baseline": 0.5, "draws": 3, "within": False, "aligned": True, "seed": 0}
        }
        code, out, _ = run(*COMMAND, *EYE, "--latex", "--quiet")
        assert code == 0
        assert out.startswith(r"\begin{tabular}{lc}")

    @pytest.mark.usefixtures("table")
    @pytest.mark.parametrize(
        ("words", "says"),
        [
            ((), "part 'face' must cover some pixels of every picture and not all"),
            (("--json", "--latex"), "got both --latex and --json"),
            (("--part", "ear"), "parts must be columns of faces.csv; got 'ear'"),
            ((*EYE, "--zero", "minus"), "zero must be one of"),
            (("--data", "none.csv"), "data must be an existing table"),
            ((*EYE, "--layer", "conv9"), "no layer 'conv9'"),
        ],
    )
    def test_wrong_arguments_are_told_as_such(self, run: Any, words: tuple[str, ...], says: str) -> None:  # noqa: F811
        code, out, err = run(*COMMAND, *words)
        assert (code, out) == (2, "")
        assert says in err
