"""The verb that shows which filters fire."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from attrib.cli import options, prepare
from attrib.cli.see import shown
from attrib.cli.session import session, usage


def fires_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    images: options.ImagesArgument,
    *,
    model: options.ModelOption,
    weights: options.WeightsOption = None,
    layer: Annotated[str, typer.Option("--layer", metavar="LAYER", help="See attrib layers.", show_default=False)],
    rank: Annotated[str, typer.Option("--rank", metavar="max|mean|l2", help="What orders the channels.")] = "max",
    threshold: Annotated[float, typer.Option("--threshold", help="A unit fires above it.")] = 0.0,
    tiles: Annotated[int, typer.Option("--tiles", min=1, help="Channels whose maps are kept and drawn.")] = 23,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = None,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Show which filters fire on a picture, or on many: how strongly, how sparsely, and where in the first one."""
    with session(quiet=quiet, debug=debug):
        files = prepare.pictures(images)
        how: dict[str, Any] = {"rank": rank, "threshold": threshold, "tiles": tiles}
        with prepare.output(out) as folder:
            from attrib.analysis import firing
            from attrib.io import open_samples
            from attrib.io.stream import Stream

            loaded = prepare.network(model, weights, seed, device)
            with usage():
                pictures = Stream(open_samples(files), loaded)
                found = firing(loaded.model, pictures, layer, preprocess=loaded, show_progress=not quiet, **how)
            shown.write(found, folder, context, figures=figures, pictures=pictures)
        shown.tell(found, context, json=json)
    return 0
