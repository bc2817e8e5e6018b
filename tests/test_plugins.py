"""A package of somebody else's joins by entry points; one that is broken, or takes a name, does not harm the others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attrib import Saliency
from attrib.registry import Registry

ROOT = Path(__file__).parents[1]

MODULE = '''
import torch
from attrib.benchmark.controls import Control
from attrib.core import Attribution
from attrib.core.reduce import reduce_channels
from attrib.metrics.base import Metric


class Squared(Attribution):
    """How strongly the score reacts to each pixel, with large slopes counting more."""

    def _attribute(self, query):
        grads = query.gradient(at=query.layer).grad
        return tuple(reduce_channels(grad.square(), "sum") for grad in grads)


class Spread(Metric):
    """How much the values of a map differ."""

    higher_is_better, range, needs = False, (0.0, float("inf")), ()

    def score(self, model, x, target, maps, protocol="default", *, additional_forward_args=None, **options):
        return maps.flatten(1).std(1)


class Slope(Control):
    """Larger to the right."""

    def _attribute(self, query):
        x = query.image
        return torch.linspace(0, 1, x.shape[3]).expand(len(x), 1, *x.shape[2:]).clone()


def no_class(model, layer=None):
    """A function that makes a method."""
    return Squared(model, layer)
'''


def install(folder: Path, package: str, entries: dict[str, dict[str, str]], module: str | None) -> None:
    """Lay a package down as pip would: its module, and what is known about it."""
    if module is not None:
        (folder / f"{package}.py").write_text(module)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    groups = [f"[attrib.{g}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for g, names in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(groups))


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A new interpreter that finds the packages in ``folder``."""
    code = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(ROOT)!r}]\n"
    code += f"from attrib.cli import main; sys.exit(main({list(command)!r}))" if command else USE
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for packages, on the path of this interpreter."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("kind", "twin", "gone"):
        sys.modules.pop(name, None)


def registry() -> Registry[Any]:
    """One that has not looked for packages yet."""
    found: Registry[Any] = Registry("method", "attrib.methods")
    found.add("saliency")(Saliency)
    return found


GOOD = {
    "methods": {"squared": "kind:Squared", "made": "kind:no_class"},
    "metrics": {"spread": "kind:Spread"},
    "controls": {"slope": "kind:Slope"},
}
USE = """
import torch
from attrib import METHODS, METRICS, explain
from attrib.registry import CONTROLS
from attrib.testing import assert_attribution
from attrib.testing.probes import ProbeNet, probe_inputs
for name in ("squared", "made"):
    assert_attribution(METHODS[name])
model, x = ProbeNet().eval(), probe_inputs()
found = explain(model, x, ["squared", "saliency", "made"], target=1)
assert all(torch.equal(a, b) for a, b in zip(found.maps["squared"].values(), found.maps["made"].values()))
maps = METHODS["squared"](model).attribute(x, 1)
slope = CONTROLS["slope"](model).attribute(x).max()
print(sorted(found.maps), METRICS["spread"]().score(model, x, 1, maps).shape, slope)
"""


def test_a_package_is_listed_and_a_broken_one_beside_it_is_named(tmp_path: Path) -> None:
    install(tmp_path, "kind", GOOD, MODULE)
    install(tmp_path, "gone", {"methods": {"lost": "gone:Lost"}}, "import a_package_that_nobody_has\n")
    done = run(tmp_path, "list")
    assert done.returncode == 0, done.stderr
    for line in (
        "squared",
        "How strongly the score reacts",
        "spread",
        "slope",
        "Larger to the right",
        "saliency",
        "lime",
    ):
        assert line in done.stdout
    assert done.stderr.count("method 'lost' of package 'gone' could not be loaded") == 1
    assert "Traceback" not in done.stderr


def test_methods_metrics_and_controls_of_a_package_are_used_like_ours_and_keep_the_contract(tmp_path: Path) -> None:
    install(tmp_path, "kind", GOOD, MODULE)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['made', 'saliency', 'squared'] torch.Size([3]) tensor(1.)"


BROKEN = {
    "a missing dependency": ("import a_package_that_nobody_has\n", "ModuleNotFoundError: No module named 'a_package_"),
    "an error of its own": ("raise RuntimeError('out of luck')\n", "RuntimeError: out of luck"),
    "a syntax error": ("def (:\n", "SyntaxError"),
    "no such class": ("", "AttributeError"),
    "no such module": (None, "ModuleNotFoundError: No module named 'gone'"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_package_is_named_once_and_the_others_work(folder: Path, fault: str) -> None:
    module, words = BROKEN[fault]
    install(folder, "gone", {"methods": {"lost": "gone:Lost"}}, module)
    install(folder, "kind", GOOD, MODULE)
    methods = registry()
    with pytest.warns(UserWarning, match="left out") as told:
        assert list(methods) == ["made", "saliency", "squared"]
    assert "lost" not in methods  # and nothing is said again: a warning would be an error here
    (message,) = (str(one.message) for one in told)
    assert message.startswith("method 'lost' of package 'gone' could not be loaded (")
    assert words in message


def test_a_taken_name_is_reported_and_stays_with_its_first_owner(folder: Path) -> None:
    install(folder, "kind", {"methods": {"saliency": "kind:Squared"}}, MODULE)
    methods = registry()
    with pytest.warns(
        UserWarning, match=r"'saliency' of package 'kind' has a name that is taken, by <class 'attrib\.m"
    ):
        assert methods["saliency"] is Saliency
    assert Saliency.name == "saliency"


def test_two_packages_with_one_name_are_reported(folder: Path) -> None:
    install(folder, "kind", {"methods": {"squared": "kind:Squared"}}, MODULE)
    install(folder, "twin", {"methods": {"squared": "twin:Squared"}}, MODULE)
    methods = registry()
    with pytest.warns(UserWarning, match="has a name that is taken") as told:
        owner = methods["squared"].__module__
    other = {"kind": "twin", "twin": "kind"}[owner]
    assert f"method 'squared' of package '{other}'" in str(told[0].message)


def test_a_module_that_also_registers_itself_is_no_conflict(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = MODULE + "\nfrom attrib.registry import METHODS\nMETHODS.add('squared')(Squared)\n"
    install(folder, "kind", {"methods": {"squared": "kind:Squared"}}, module)
    methods = registry()
    monkeypatch.setattr("attrib.registry.METHODS", methods)
    assert methods["squared"].name == "squared"


def test_a_plug_in_may_look_names_up_while_it_loads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "from attrib.registry import METHODS\nclass Finer(METHODS['saliency']):\n    pass\n"
    install(folder, "kind", {"methods": {"finer": "kind:Finer"}}, module)
    methods = registry()
    monkeypatch.setattr("attrib.registry.METHODS", methods)
    assert (methods["finer"].name, methods["saliency"].name) == ("finer", "saliency")
