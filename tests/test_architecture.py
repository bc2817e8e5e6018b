"""The folder listing is the architecture: who may import whom, how long a file may be, what stays lazy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "attrib"
FILES = sorted(PACKAGE.rglob("*.py"))

# Left to right: each group may import the groups before it. A part is a module or a sub-package of attrib.
LEVELS = (
    {"errors", "checks", "registry"},
    {"core"},
    {"methods", "metrics", "models"},
    {"plot", "report", "io", "interop", "benchmark", "testing"},
    {"analysis"},
    {"synthesis"},
    {"tasks"},
    {"study"},
    {"cli"},
    {"__main__"},
)
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}
SIBLINGS = LEVELS[2]  # these meet through the registry or core
CORE_LEVELS = (
    {"network", "reduce", "channels"},
    {"objectives"},
    {"backward"},
    {"shared"},
    {"query"},
    {"attribution", "layer_map", "masking"},
    {"incremental", "together"},
    {"classmaps", "heads", "receptive", "relevance", "sweeps", "synth"},
)
CORE_LEVEL = {part: level for level, parts in enumerate(CORE_LEVELS) for part in parts}
TYPES = "TYPE_CHECKING"  # what only a type checker reads may point anywhere


def part_of(dotted: str) -> str:
    """The part that ``attrib.core.network.layers`` belongs to: ``core``; the package itself is ``""``."""
    return dotted.partition(".")[2].partition(".")[0]


def owner(path: Path) -> str:
    """The part that the file ``path`` belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything of attrib that ``path`` imports when it runs, inside functions too."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == TYPES)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, [base, node.module]))
            names = [f"{source}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "attrib")


def complaints(importer: str, imports: Iterator[tuple[int, str]]) -> list[str]:
    """What is wrong with the imports of a file that belongs to ``importer``."""
    found = []
    for line, name in imports:
        part = part_of(name)
        if importer in {part, "__init__"}:
            continue
        if part not in LEVEL:
            found.append(f"line {line}: {name}: import the module that defines it, not the package")
        elif LEVEL[part] > LEVEL[importer]:
            found.append(f"line {line}: {importer} must not know {part}")
        elif {part, importer} <= SIBLINGS:
            found.append(f"line {line}: {importer} and {part} meet through the registry or core")
    return found


def test_every_part_of_the_package_has_its_place() -> None:
    parts = {owner(path) for path in FILES}
    assert parts - {"__init__"} <= set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_towards_the_core(path: Path) -> None:
    assert complaints(owner(path), imported(path)) == []


@pytest.mark.parametrize(
    ("source", "importer"),
    [
        ("from attrib.methods.gradcam import GradCAM", "core"),
        ("from attrib.methods import gradcam", "metrics"),
        ("import attrib.plot", "methods"),
        ("from attrib.synthesis import ascent", "analysis"),
        ("from attrib.analysis import filters", "plot"),
        ("def f():\n    from attrib.explain import compare", "report"),
        ("from attrib import GradCAM", "methods"),
    ],
)
def test_a_forbidden_import_is_noticed(
    source: str, importer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "attrib" / importer / "new.py"
    path.parent.mkdir(parents=True)
    path.write_text(source)
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    assert len(complaints(importer, imported(path))) == 1


def test_a_relative_import_is_seen_as_its_full_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "attrib" / "core" / "new.py"
    path.parent.mkdir(parents=True)
    path.write_text("from ..methods import gradcam\nfrom .layers import resolve\n")
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    assert [name for _, name in imported(path)] == ["attrib.methods.gradcam", "attrib.core.layers.resolve"]


def test_what_only_a_type_checker_reads_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "attrib" / "plot" / "new.py"
    path.parent.mkdir(parents=True)
    path.write_text("if TYPE_CHECKING:\n    from attrib.analysis import filters\nimport attrib.core\n")
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    assert [name for _, name in imported(path)] == ["attrib.core"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_fits_in_one_room(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 300


CORE = [path for path in FILES if path.is_relative_to(PACKAGE / "core") and path != PACKAGE / "core" / "__init__.py"]


def upwards(part: str, imports: Iterator[tuple[int, str]]) -> list[str]:
    """Imports of the core, by its ``part``, of what lies above it or is not sorted in."""
    within = ((line, name.split(".")) for line, name in imports if name.startswith("attrib.core."))
    return [
        f"line {line}: {'.'.join(name)}"
        for line, name in within
        if name[2] != part and CORE_LEVEL.get(name[2], len(CORE_LEVELS)) >= CORE_LEVEL[part]
    ]


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_within_the_core_imports_point_down(path: Path) -> None:
    part = path.relative_to(PACKAGE / "core").with_suffix("").parts[0]
    assert upwards(part, imported(path)) == []


def test_an_import_that_points_up_within_the_core_is_noticed() -> None:
    names = ["attrib.core.sweeps.perturb.sweep", "attrib.core.Query", "attrib.core.network.cost", "attrib.errors.X"]
    assert len(upwards("masking", iter(enumerate(names)))) == 2


def test_no_file_is_named_after_nothing() -> None:
    assert [path for path in FILES if path.stem in {"utils", "util", "helpers", "common", "misc"}] == []


BROKEN_TORCHVISION = """
import sys

class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")

sys.meta_path.insert(0, Broken())
"""


def run(code: str) -> str:
    """What ``code`` prints in a new interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


HEAVY = {"torch", "captum", "torchvision", "matplotlib", "PIL", "typer", "rich", "timm", "skimage"}
SHOW = f"print(sorted({HEAVY} & {{name.split('.')[0] for name in sys.modules}}))"


def test_importing_attrib_loads_nothing_heavy() -> None:
    assert run(f"import sys, attrib; {SHOW}") == "[]"


def test_the_mechanisms_and_methods_load_only_what_captum_loads() -> None:
    assert run(f"import sys, attrib.core, attrib.methods; {SHOW}") == run(f"import sys, captum.attr; {SHOW}")


def test_the_core_works_with_a_torchvision_that_cannot_be_loaded() -> None:
    use = """
import torch, attrib
model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, 5))
for name in ("saliency", "guided", "gradcam"):
    method = attrib.METHODS[name](model)
    maps = method.attribute(torch.rand(2, 3, 6, 6), target=1, layer="0" if method.needs_layer else None)
    assert torch.isfinite(maps).all()
print("worked")
"""
    assert run(BROKEN_TORCHVISION + use) == "worked"


def test_torchvision_really_is_broken_in_the_test_above() -> None:
    probe = """
try:
    import torchvision
except RuntimeError as error:
    print(error)
"""
    assert run(BROKEN_TORCHVISION + probe) == "operator torchvision::nms does not exist"
