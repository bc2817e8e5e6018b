"""The verb that dreams."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attrib.cli import options, prepare
from attrib.cli.see import made, shown
from attrib.cli.session import session, usage


def dream_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture; it keeps its size.", show_default=False)],
    *,
    model: options.ModelOption,
    weights: options.WeightsOption = None,
    layer: Annotated[
        list[str], typer.Option("--layer", metavar="LAYER", help="May be repeated: the sum.", show_default=False)
    ],
    guide: Annotated[
        Path | None, typer.Option("--guide", metavar="IMAGE", help="A picture whose features are sought.")
    ] = None,
    octaves: Annotated[int, typer.Option("--octaves", min=1, help="Sizes, coarse to fine.")] = 4,
    scale: Annotated[float, typer.Option("--scale", help="From one size to the next.")] = 1.4,
    steps: Annotated[int, typer.Option("--steps", min=0, help="In each octave.")] = 10,
    rate: Annotated[float, typer.Option("--rate", help="Mean change per step, in the network's units.")] = 0.03,
    tile: Annotated[int | None, typer.Option("--tile", min=16, help="Side of tiles: bounds the memory.")] = None,
    movie: Annotated[Path | None, typer.Option("--movie", metavar="FILE.gif|FILE.mp4", help="The octaves.")] = None,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = None,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Put more and more into a picture of what layers see in it (DeepDream)."""
    with session(quiet=quiet, debug=debug):
        file = prepare.picture(image)
        seen = None if guide is None else prepare.picture(guide)
        with prepare.output(out) as folder:
            from attrib.core.synth import Move
            from attrib.io import load_image
            from attrib.synthesis import dream

            loaded = prepare.network(model, weights, seed, device)
            how = {**made.changes(steps, seed, quiet=quiet), "tile": tile, "move": Move(rate, "l1")}
            with usage():
                guided = None if seen is None else load_image(seen)
                found = dream(loaded, load_image(file), layer, guide=guided, octaves=octaves, scale=scale, **how)
            if movie is not None:
                found.movie(movie)
            shown.write(found, folder, context, figures=figures)
            made.pictures(folder, [("dream", found.picture)])
        shown.tell(found, context, json=json)
    return made.code(found.stopped)
