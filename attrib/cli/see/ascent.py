"""The verb that searches for images that excite units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from attrib.cli import options, prepare
from attrib.cli.see import made, shown
from attrib.cli.session import session, usage

if TYPE_CHECKING:
    from attrib.io import LoadedModel


def ascent_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    units: Annotated[
        list[str],
        typer.Argument(
            metavar="UNIT...",
            help="Class numbers or names, or LAYER:CHANNEL; LAYER:FIRST-LAST for several channels.",
            show_default=False,
        ),
    ],
    *,
    model: options.ModelOption,
    weights: options.WeightsOption = None,
    recipe: made.RecipeOption = "natural",
    steps: made.StepsOption = None,
    size: Annotated[int | None, typer.Option("--size", min=1, help="Side of the images; the network's.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Units searched at a time.")] = 8,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = None,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Search for the images that excite classes or channels most, by gradient ascent."""
    with session(quiet=quiet, debug=debug):
        with prepare.output(out) as folder:
            from attrib.synthesis import ascend

            loaded = prepare.network(model, weights, seed, device)
            with usage():
                goals = [goal for text in units for goal in _goals(loaded, text)]
                how = made.changes(steps, seed, quiet=quiet)
                found = ascend(loaded, goals, recipe=recipe, size=size, batch_size=batch_size, **how)
            shown.write(found, folder, context, figures=figures)
            if folder is not None and figures and len(sheets := found.sheets()) > 1:
                made.sheets(folder, sheets)
            made.pictures(folder, ((f"{i} {unit}", found.pictures[i]) for i, unit in enumerate(found.units)))
        shown.tell(found, context, json=json)
    return made.code(*found.stopped)


def _goals(loaded: LoadedModel, text: str) -> list[int | str]:
    """Units that a word names: a class, a channel, or a range of channels."""
    import re

    from attrib.errors import TargetError
    from attrib.tasks.subject import Network

    several = re.fullmatch(r"(.+):(\d+)-(\d+)", text)
    if several is not None:
        layer, first, last = several[1], int(several[2]), int(several[3])
        if first > last:
            raise TargetError(f"a range of channels must go upwards, LAYER:FIRST-LAST; got {text!r}.")
        return [f"{layer}:{channel}" for channel in range(first, last + 1)]
    goal = prepare.target(text)
    if isinstance(goal, int) or ":" in goal:
        return [goal]
    index = Network.of(loaded).class_index(goal)
    if index is None:
        raise TargetError(f"a unit must be a class number or name, or LAYER:CHANNEL; got {text!r}.")
    return [index]
