"""The verb that reads classes off layers."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import typer

from attrib.cli import options, prepare
from attrib.cli.see import shown
from attrib.cli.session import session, usage
from attrib.errors import InputError


def probes_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    *,
    model: options.ModelOption,
    layer: Annotated[
        list[str], typer.Option("--layer", metavar="LAYER", help="Give one or several; see attrib layers.")
    ],
    data: shown.DataOption,
    weights: options.WeightsOption = None,
    shots: Annotated[
        list[int] | None,
        typer.Option(
            "--shots",
            min=1,
            metavar="N",
            help="Examples of each class to learn from; may be repeated.",
            show_default=False,
        ),
    ] = None,
    train: Annotated[float, typer.Option("--train", help="Share to learn from, without --shots.")] = 0.8,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="How often the pictures are split anew.")] = 5,
    pool: Annotated[str, typer.Option("--pool", metavar="grid|mean|flatten", help="Activations to features.")] = "grid",
    side: Annotated[int, typer.Option("--side", min=1, help="Cells of the grid along each side.")] = 2,
    ridge: Annotated[float, typer.Option("--ridge", min=0, help="Of the least squares.")] = 0.0,
    l2: Annotated[float, typer.Option("--l2", help="Penalty of the softmax.")] = 1.0,
    latex: Annotated[bool, typer.Option("--latex", help="Print the table of the paper in LaTeX.")] = False,
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
    """Say how well classes can be read off each layer, by least squares and softmax, beside shuffled labels."""
    with session(quiet=quiet, debug=debug):
        from attrib.analysis import LeastSquares, Pooling, Shots, Softmax, Stratified, probe_layers

        with usage():
            if latex and json:
                raise InputError("the table must be printed as LaTeX or as JSON; got both --latex and --json.")
            pooling = Pooling(cast('Literal["grid", "mean", "flatten"]', pool), side)
            split = Shots(tuple(sorted(shots)), repeats=repeats) if shots else Stratified(train, repeats)
            fits = (LeastSquares(ridge), Softmax(l2))
        with prepare.output(out) as folder:
            loaded = prepare.network(model, weights, seed, device)
            pictures = shown.stream(data, loaded, limit=limit, batch_size=batch_size)
            with usage():
                if pictures.labels is None:
                    raise InputError(
                        "--data must have labels: a folder of one folder for each class, or a table with a column "
                        f"label; got {data!r}."
                    )
                found = probe_layers(
                    loaded.model,
                    pictures,
                    layer,
                    probes=fits,
                    split=split,
                    pooling=pooling,
                    seed=seed,
                    show_progress=not quiet,
                )
            shown.write(found, folder, context, figures=figures, pictures=pictures)
        if latex:
            typer.echo(found.to_latex())
        else:
            shown.tell(found, context, json=json)
    return 0
