"""The verb that finds the nearest pictures."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import typer

from attrib.cli import options, prepare
from attrib.cli.see import shown
from attrib.cli.see.features import BankOption, PoolOption, features
from attrib.cli.session import session, usage


def neighbours_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    *,
    model: options.ModelOption,
    data: shown.DataOption,
    weights: options.WeightsOption = None,
    layer: shown.LayerNames = None,
    query: Annotated[
        list[int] | None,
        typer.Option("--query", metavar="NUMBER", help="A picture, counted from 0; may be repeated. All unless given."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbours of each picture.")] = 6,
    metric: Annotated[str, typer.Option("--metric", metavar="l2|cosine", help="Which distance.")] = "l2",
    pool: PoolOption = "flatten",
    bank: BankOption = None,
    limit: shown.LimitOption = None,
    batch_size: shown.BatchOption = 32,
    device: options.DeviceOption = None,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Find the nearest pictures in pixel space and by what layers say, side by side."""
    with session(quiet=quiet, debug=debug):
        with prepare.output(out) as folder:
            from attrib.analysis import nearest

            loaded = prepare.network(model, weights, 0, device)
            pictures = shown.stream(data, loaded, limit=limit, batch_size=batch_size)
            rows = features(loaded, pictures, layer, pool=pool, directory=bank, quiet=quiet)
            with usage():
                found = nearest(query or None, rows, k, metric=cast('Literal["l2", "cosine"]', metric))
            shown.write(found, folder, context, figures=figures, pictures=pictures)
        shown.tell(found, context, json=json)
    return 0
