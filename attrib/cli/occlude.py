"""The command that moves a square over one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from attrib.cli import options, prepare
from attrib.cli.session import session


def occlude_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture.", show_default=False)],
    *,
    model: options.ModelOption,
    weights: options.WeightsOption = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="LAYER", help="Whose strongest channel is watched; the last spatial one."),
    ] = None,
    target: options.TargetOption = "predicted",
    further: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="CLASS", help="A further class, number or name; may be repeated."),
    ] = None,
    window: Annotated[int | None, typer.Option("--window", min=1, help="Side of the window, pixels.")] = None,
    stride: Annotated[int | None, typer.Option("--stride", min=1, help="Step of the window, pixels.")] = None,
    baseline: Annotated[
        str, typer.Option("--baseline", metavar="mean|zero|blur|NUMBER", help="What the window shows.")
    ] = "mean",
    device: options.DeviceOption = None,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Show what a picture loses under a moving square: score, most probable class, strongest feature map."""
    with session(quiet=quiet, debug=debug):
        file = prepare.picture(image)
        how: dict[str, Any] = {"window": window, "stride": stride, "baseline": prepare.baseline(baseline)}
        with prepare.output(out) as folder:
            from attrib.tasks import occlude

            loaded = prepare.network(model, weights, 0, device)
            classes = [prepare.target(name) for name in further or ()]
            goal = prepare.target(target)
            found = occlude(loaded, file, goal, layer=layer, classes=classes, show_progress=not quiet, **how)
            found = prepare.told(found, context.obj)
            if folder is not None:
                found.write(folder, figures=figures)
        prepare.say(found.manifest, lambda _: found.to_text(), as_json=json)
    return 0
