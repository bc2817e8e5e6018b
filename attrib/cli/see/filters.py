"""The verb that shows filters."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from attrib.cli import options, prepare
from attrib.cli.see import shown
from attrib.cli.session import session, usage


def filters_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    *,
    model: options.ModelOption,
    weights: options.WeightsOption = None,
    layer: Annotated[
        str | None, typer.Option("--layer", metavar="LAYER", help="A convolution; the first one unless given.")
    ] = None,
    scale: Annotated[
        str, typer.Option("--scale", metavar="joint|each", help="One scale for all filters, or one for each.")
    ] = "joint",
    channels: Annotated[
        str, typer.Option("--channels", metavar="auto|rgb|slices", help="In colour, or each input channel alone.")
    ] = "auto",
    sort: Annotated[
        str | None,
        typer.Option("--sort", metavar="norm|frequency|hue", help="Order; that of the network unless given."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Tiles to show.")] = 256,
    columns: Annotated[int | None, typer.Option("--columns", min=1, help="Of the grid.")] = None,
    device: options.DeviceOption = None,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Show the filters of a convolution as small pictures."""
    with session(quiet=quiet, debug=debug):
        from attrib.analysis.filters.grid import filter_grid

        how: dict[str, Any] = {"scale": scale, "channels": channels, "sort": sort, "limit": limit, "columns": columns}
        with prepare.output(out) as folder:
            loaded = prepare.network(model, weights, 0, device)
            with usage():
                found = filter_grid(loaded.model, layer, **how)
            shown.write(found, folder, context, figures=figures)
        shown.tell(found, context, json=json)
    return 0
