"""The command that shows pictures as HOG sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from attrib.cli import options, prepare
from attrib.cli.see import shown
from attrib.cli.session import session, usage

if TYPE_CHECKING:
    from torch import Tensor

    from attrib.analysis.hog import HOGViews
    from attrib.models.hog import HOG


def hog_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    images: options.ImagesArgument,
    *,
    data: shown.DataOption = "demo",
    limit: shown.LimitOption = None,
    size: Annotated[int, typer.Option("--size", min=1, help="Longer side that pictures are scaled down to.")] = 256,
    cell: Annotated[int, typer.Option("--cell", min=1, help="Side of a cell, pixels.")] = 4,
    dictionary: Annotated[
        bool, typer.Option("--dictionary/--no-dictionary", help="Learn a paired dictionary too, which takes longer.")
    ] = True,
    atoms: Annotated[int, typer.Option("--atoms", min=1, help="Size of the dictionary.")] = 256,
    steps: Annotated[
        int, typer.Option("--steps", min=0, help="Search for a picture with the same features too; 150 will do.")
    ] = 0,
    seed: options.SeedOption = 0,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Show what HOG features know of pictures: glyphs, and pictures made from the features as --data teaches."""
    with session(quiet=quiet, debug=debug):
        files = prepare.pictures(images)
        with prepare.output(out) as folder:
            from attrib.analysis.hog import see_hog
            from attrib.io import demo_images, open_samples
            from attrib.models.hog import HOG

            with usage():
                examples = open_samples(demo_images() if data == "demo" else data, limit=limit)
                hog = HOG(signed=True, orientations=18, pixels_per_cell=cell, cells_per_block=2)
                how = {"size": size, "atoms": atoms, "seed": seed}
                found = see_hog(files, examples, hog=hog, dictionary=dictionary, show_progress=not quiet, **how)
            if steps:
                found = found.with_view("search", _search(found, hog, {"steps": steps, "seed": seed}, quiet=quiet))
            shown.write(found, folder, context, figures=figures)
        shown.tell(found, context, json=json)
    return 0


def _search(found: HOGViews, hog: HOG, how: dict[str, int], *, quiet: bool) -> dict[str, Tensor]:
    """Grey pictures with the same blocks, for each photo; nothing is learned."""
    from attrib.analysis.hog.inverter import luma
    from attrib.core.synth import PixelSpace
    from attrib.synthesis.inversion import invert

    asked: dict[str, Any] = {"pixels": PixelSpace(), "show_progress": not quiet, **how}
    return {name: invert(hog, luma(x[None]), "blocks", **asked).pictures[0] for name, x in found.pictures.items()}
