"""The verb that hides the same parts in several pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from attrib.cli import options, prepare
from attrib.cli.see import shown
from attrib.cli.session import session, usage
from attrib.errors import InputError


def correspondence_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    *,
    model: options.ModelOption,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="TABLE",
            help="CSV, JSON or JSON lines: a column image, and one for each part with boxes x0 y0 x1 y1 or mask files.",
            show_default=False,
        ),
    ],
    part: Annotated[
        list[str] | None,
        typer.Option("--part", metavar="COLUMN", help="A part; may be repeated. All columns that are not of pictures."),
    ] = None,
    layer: shown.LayerNames = None,
    weights: options.WeightsOption = None,
    baseline: Annotated[
        str, typer.Option("--baseline", metavar="mean|zero|blur|NUMBER", help="What hidden pixels show.")
    ] = "mean",
    zero: Annotated[
        str, typer.Option("--zero", metavar="own|positive|ignored", help="How changes of exactly zero count.")
    ] = "own",
    draws: Annotated[int, typer.Option("--draws", min=1, help="Random places of each part.")] = 10,
    within: Annotated[
        str | None,
        typer.Option("--within", metavar="COLUMN", help="Boxes or masks in which random places lie; anywhere."),
    ] = None,
    aligned: Annotated[
        bool, typer.Option("--aligned", help="The same random place in all pictures of a draw.")
    ] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print the table of the paper in LaTeX.")] = False,
    batch_size: shown.BatchOption = 32,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = None,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Hide the same part in every picture and say how alike their features change, beside random places."""
    with session(quiet=quiet, debug=debug):
        with usage():
            if latex and json:
                raise InputError("the table must be printed as LaTeX or as JSON; got both --latex and --json.")
        fill = prepare.baseline(baseline)
        with prepare.output(out) as folder:
            from attrib.analysis import correspondence
            from attrib.io.parts import read_parts
            from attrib.tasks.subject import Network

            loaded = prepare.network(model, weights, seed, device)
            with usage():
                marked = read_parts(data, loaded, [*part, *([within] if within else [])] if part else None)
                room = None if within is None else marked.parts.pop(within)
                found = correspondence(
                    *(loaded.model, Network.of(loaded).place(marked.inputs), marked.parts, layer or None),
                    baseline=cast('Literal["mean"]', fill),
                    zero=cast('Literal["own"]', zero),
                    draws=draws,
                    within=room,
                    aligned=aligned,
                    seed=seed,
                    batch_size=batch_size,
                    show_progress=not quiet,
                )
            shown.write(found, folder, context, figures=figures)
            if folder is not None and figures:
                from attrib.plot.correspondence import hidden_parts

                hidden_parts(found, marked.views).savefig(folder / "parts.png")
        if latex:
            typer.echo(found.to_latex())
        else:
            shown.tell(found, context, json=json)
    return 0
