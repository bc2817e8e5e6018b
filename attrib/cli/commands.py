"""The commands. What is slow to import is imported inside them, so that help is quick."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from attrib.cli.benchmark import benchmark_command
from attrib.cli.demo import demo_command
from attrib.cli.explain import compare_command, explain_command
from attrib.cli.occlude import occlude_command
from attrib.cli.see import see
from attrib.cli.stability import stability_command
from attrib.cli.tables import estimate_command, layers_command, list_command

app = typer.Typer(
    name="attrib",
    help="Explain what convolutional networks look at, and measure how good each explanation is.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo_command)
app.command("explain")(explain_command)
app.command("compare")(compare_command)
app.command("occlude")(occlude_command)
app.command("benchmark")(benchmark_command)
app.command("stability")(stability_command)
app.add_typer(see)
app.command("estimate")(estimate_command)
app.command("layers")(layers_command)
app.command("list")(list_command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"attrib {sys.modules['attrib'].__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    _wanted: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)
