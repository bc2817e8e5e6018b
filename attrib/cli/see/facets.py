"""The verb that sorts what a unit answers to."""

from __future__ import annotations

from typing import Annotated

import typer

from attrib.cli import options, prepare
from attrib.cli.see import made, shown
from attrib.cli.session import session, usage


def facets_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    unit: Annotated[str, typer.Argument(metavar="UNIT", help="A class number, or LAYER:CHANNEL.", show_default=False)],
    *,
    model: options.ModelOption,
    weights: options.WeightsOption = None,
    data: shown.DataOption,
    limit: shown.LimitOption = None,
    batch_size: shown.BatchOption = 32,
    count: Annotated[int, typer.Option("--count", min=1, help="Facets.")] = 10,
    layer: Annotated[
        str, typer.Option("--layer", metavar="LAYER", help="Whose features tell pictures apart.")
    ] = "auto",
    top: Annotated[int, typer.Option("--top", min=1, help="Pictures: the strongest.")] = 200,
    exemplars: Annotated[int, typer.Option("--exemplars", min=1, help="Pictures whose mean is a start.")] = 15,
    perplexity: Annotated[float, typer.Option("--perplexity", help="Of the t-SNE.")] = 30.0,
    recipe: made.RecipeOption = "natural",
    steps: made.StepsOption = None,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = None,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Sort the pictures that excite a unit into kinds, and search for an image of each kind."""
    with session(quiet=quiet, debug=debug):
        with prepare.output(out) as folder:
            from attrib.synthesis import facets

            loaded = prepare.network(model, weights, seed, device)
            read = shown.stream(data, loaded, limit=limit, batch_size=batch_size)
            how = {**made.changes(steps, seed, quiet=quiet), "top": top, "exemplars": exemplars, "recipe": recipe}
            with usage():
                goal = prepare.target(unit)
                found = facets(loaded, read, goal, count=count, layer=layer, perplexity=perplexity, **how)
            shown.write(found, folder, context, figures=figures)
            made.pictures(folder, ((f"facet {i + 1}", one) for i, one in enumerate(found.made)))
        shown.tell(found, context, json=json)
    return made.code(*found.ascent.stopped)
