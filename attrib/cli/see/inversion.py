"""The verb that turns features back into a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attrib.cli import options, prepare
from attrib.cli.see import made, shown
from attrib.cli.session import session, usage


def inversion_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture.", show_default=False)],
    *,
    model: options.ModelOption,
    weights: options.WeightsOption = None,
    layer: Annotated[
        list[str],
        typer.Option("--layer", metavar="LAYER", help="May be repeated: a picture for each; A+B: both at once."),
    ],
    steps: made.StepsOption = None,
    variation: Annotated[float, typer.Option("--variation", min=0, help="Weight of the total variation.")] = 0.3,
    beta: Annotated[float, typer.Option("--beta", min=1, help="Its power.")] = 2.0,
    restarts: Annotated[int, typer.Option("--restarts", min=1, help="Searches from other noise.")] = 1,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = None,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Show what layers remember of a picture: others with the same features."""
    with session(quiet=quiet, debug=debug):
        file = prepare.picture(image)
        with prepare.output(out) as folder:
            from attrib.io import load_image
            from attrib.synthesis import Prior, invert
            from attrib.tasks.subject import Network

            loaded = prepare.network(model, weights, seed, device)
            with usage():
                x = Network.of(loaded).input(load_image(file))
                prior, series = Prior(variation, beta), [name.split("+") for name in layer]
                how = made.changes(steps, seed, quiet=quiet)
                found = invert(loaded, x, series, prior=prior, restarts=restarts, **how)
            shown.write(found, folder, context, figures=figures)
            made.pictures(folder, zip(found.layers, found.pictures, strict=True))
        shown.tell(found, context, json=json)
    return made.code(found.stopped)
