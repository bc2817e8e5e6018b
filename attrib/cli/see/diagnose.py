"""The verb that says what is wrong with filters."""

from __future__ import annotations

from typing import Annotated

import typer

from attrib.cli import options, prepare
from attrib.cli.see import shown
from attrib.cli.session import session, usage


def diagnose_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    *,
    model: options.ModelOption,
    weights: options.WeightsOption = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="FOLDER|TABLE|hf:NAME:SPLIT|demo",
            help="Pictures on which filters must answer; without, only the weights are looked at.",
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", metavar="LAYER", help="A convolution; the first one unless given.")
    ] = None,
    rate: Annotated[float, typer.Option("--rate", help="Dead: answers on a smaller part of the pictures.")] = 0.01,
    cosine: Annotated[float, typer.Option("--cosine", help="Duplicate: another filter is as much like it.")] = 0.95,
    aliased: Annotated[
        float, typer.Option("--aliased", help="Aliased: a larger part of its energy is beyond the stride.")
    ] = 0.5,
    limit: shown.LimitOption = None,
    batch_size: shown.BatchOption = 32,
    device: options.DeviceOption = None,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Find filters that are dead, alike, out of scale, too fine for the stride; say which frequencies are covered."""
    with session(quiet=quiet, debug=debug):
        from attrib.analysis.filters.diagnosis import Thresholds, diagnose_filters

        with usage():
            at = Thresholds(rate=rate, cosine=cosine, aliased=aliased)
        with prepare.output(out) as folder:
            loaded = prepare.network(model, weights, 0, device)
            pictures = None if data is None else shown.stream(data, loaded, limit=limit, batch_size=batch_size)
            found = diagnose_filters(loaded.model, pictures, layer=layer, thresholds=at, show_progress=not quiet)
            shown.write(found, folder, context, figures=figures, pictures=pictures)
        shown.tell(found, context, json=json)
    return 0
