"""Sphinx configuration; `make docs` builds with warnings as errors."""

from __future__ import annotations

import logging
import os
import pkgutil
import shutil
from pathlib import Path

import attrib

os.environ.setdefault("MPLBACKEND", "Agg")
logging.getLogger("attrib").setLevel(logging.WARNING)  # the gallery is about figures

project = "attrib"
author = "the attrib authors"
project_copyright = "2026, the attrib authors"
version = release = attrib.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.bibtex",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "gallery/GALLERY_HEADER.rst"]
default_role = "py:obj"  # links where it can, and does not insist

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Convention"]

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "gallery_out",
    "filename_pattern": r"\.py$",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "parallel": True,  # as many scripts at once as -j says
    "show_signature": False,
    "write_computation_times": False,
}

html_theme = "furo"
html_title = f"attrib {release}"


def write_module_page(name: str, folder: Path) -> None:
    """Write the page of a module, and those of the modules in it.

    Written here because autosummary takes a name that a package exports for the module of that name, and so hides it.
    """
    inside = pkgutil.iter_modules([str(Path(attrib.__path__[0], *name.split(".")[1:]))])
    parts = [f"{name}.{found.name}" for found in inside if found.name not in {"__main__", "cli"}]
    options = "".join(f"   :{option}:\n" for option in ("members", "ignore-module-all", "show-inheritance"))
    listed = "".join(f"   {part}\n" for part in parts)
    below = f"\n.. toctree::\n   :maxdepth: 1\n\n{listed}" if parts else ""
    page = f"{name}\n{'=' * len(name)}\n\n.. automodule:: {name}\n{options}{below}"
    (folder / f"{name}.rst").write_text(page, encoding="utf-8")
    for part in parts:
        write_module_page(part, folder)


modules = Path(__file__).parent / "reference" / "generated"
shutil.rmtree(modules, ignore_errors=True)  # pages of modules that are gone
modules.mkdir()
write_module_page("attrib", modules)
