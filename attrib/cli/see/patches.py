"""The verb that shows what makes channels respond most."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from attrib.cli import options, prepare
from attrib.cli.see import shown
from attrib.cli.session import session, usage


def patches_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    *,
    model: options.ModelOption,
    data: shown.DataOption,
    weights: options.WeightsOption = None,
    layer: Annotated[str, typer.Option("--layer", metavar="LAYER", help="See attrib layers.", show_default=False)],
    channels: Annotated[
        list[int] | None,
        typer.Option("--channel", metavar="NUMBER", help="May be repeated; all channels if none.", show_default=False),
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Patches of each channel.")] = 9,
    every: Annotated[bool, typer.Option("--all-places", help="Take more than one patch of a picture.")] = False,
    project: Annotated[
        str | None,
        typer.Option("--project", metavar="deconvnet|guided|saliency", help="Project the units back to the pictures."),
    ] = None,
    limit: shown.LimitOption = None,
    batch_size: shown.BatchOption = 32,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = None,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Show the patches of pictures that channels respond to most, and what in them the units respond to."""
    with session(quiet=quiet, debug=debug):
        what: dict[str, Any] = {"n": count, "channels": channels or None, "distinct": not every, "project": project}
        with prepare.output(out) as folder:
            from attrib.analysis import top_patches

            loaded = prepare.network(model, weights, seed, device)
            pictures = shown.stream(data, loaded, limit=limit, batch_size=batch_size)
            with usage():
                how: dict[str, Any] = {"batch_size": batch_size, "preprocess": loaded, "show_progress": not quiet}
                found = top_patches(loaded.model, pictures, layer, **what, **how)
            shown.write(found, folder, context, figures=figures and found.crops is not None, pictures=pictures)
        shown.tell(found, context, json=json)
    return 0
