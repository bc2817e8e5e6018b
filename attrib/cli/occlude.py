"""The command that moves a square over one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from attrib.cli import options, prepare
from attrib.cli.session import session, usage


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
    edge: Annotated[
        str, typer.Option("--edge", metavar="full|cut", help="The last window: moved back, or hanging over the border.")
    ] = "full",
    channel: Annotated[int | None, typer.Option("--channel", min=0, help="The channel to watch instead.")] = None,
    score: Annotated[
        str, typer.Option("--score", metavar="probability|logit|log_probability|log_odds", help="What is lost.")
    ] = "probability",
    mask: Annotated[
        Path | None,
        typer.Option("--mask", metavar="FILE", help="Where the object is, white inside: hide it, and its context."),
    ] = None,
    regions: Annotated[int, typer.Option("--regions", min=1, help="As much as the object hidden elsewhere.")] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the places of these regions.")] = 0,
    device: options.DeviceOption = None,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Show what a picture loses under a moving square, and with the object of a mask: score, class, feature map."""
    with session(quiet=quiet, debug=debug):
        file = prepare.picture(image)
        how: dict[str, Any] = {"window": window, "stride": stride, "baseline": prepare.baseline(baseline)}
        how |= {"edge": _one_of("--edge", edge, "full", "cut"), "channel": channel}
        how |= {"score": _one_of("--score", score, "probability", "logit", "log_probability", "log_odds")}
        if mask is not None:
            how |= {"mask": prepare.picture(mask), "regions": regions, "seed": seed}
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


def _one_of(option: str, given: str, *known: str) -> str:
    """Refuse a wrong word before a network is loaded."""
    from attrib import checks

    with usage():
        return checks.choice(option, given, known)
