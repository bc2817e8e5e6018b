"""What the verbs that make images share: the options of a search, and pictures saved as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from attrib.cli.session import INTERRUPTED, complain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from matplotlib.figure import Figure
    from torch import Tensor

StepsOption: TypeAlias = Annotated[
    int | None, typer.Option("--steps", min=0, help="How many; the recipe's unless given.", show_default=False)
]
RecipeOption: TypeAlias = Annotated[
    str, typer.Option("--recipe", metavar="NAME", help="natural, simonyan, yosinski_a to yosinski_d.")
]


def changes(steps: int | None, seed: int, *, quiet: bool) -> dict[str, Any]:
    """Settings of a search that were given."""
    found: dict[str, Any] = {"seed": seed, "show_progress": not quiet}
    return found if steps is None else {**found, "steps": steps}


def pictures(folder: Path | None, named: Iterable[tuple[str, Tensor]]) -> None:
    """Write ``(C, H, W)`` in [0, 1] as ``pictures/NAME.png``."""
    if folder is None:
        return
    from PIL import Image

    from attrib.report.store import file_names

    found = dict(named)
    names = file_names(list(found))
    (folder / "pictures").mkdir()
    for label, one in found.items():
        array = one.detach().cpu().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(
            folder / "pictures" / f"{names[label]}.png"
        )


def sheets(folder: Path, figures: Mapping[str, Figure]) -> None:
    """Write a figure per layer as ``sheets/LAYER.png``."""
    from attrib.report.store import file_names

    names = file_names(list(figures))
    (folder / "sheets").mkdir()
    for layer, figure in figures.items():
        figure.savefig(folder / "sheets" / f"{names[layer]}.png")


def code(*stopped: str) -> int:
    """The exit code of a search: what was there when Ctrl-C came is written."""
    if "interrupted" not in stopped:
        return 0
    complain("interrupted; what was there is kept.")
    return INTERRUPTED
