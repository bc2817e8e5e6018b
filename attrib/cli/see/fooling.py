"""The verb that makes images in which nobody sees what the network sees."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from attrib.cli import options, prepare
from attrib.cli.see import made, shown
from attrib.cli.see.adversarial import class_number, number
from attrib.cli.session import session, usage


def fooling_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    classes: Annotated[
        list[str], typer.Argument(metavar="CLASS...", help="Numbers or names; an image each.", show_default=False)
    ],
    *,
    model: options.ModelOption,
    weights: options.WeightsOption = None,
    start: Annotated[str, typer.Option("--start", metavar="noise|grey|black", help="Where it begins.")] = "noise",
    confidence: Annotated[
        float, typer.Option("--confidence", help="Probability of the class at which an image is done.")
    ] = 0.99,
    steps: Annotated[int, typer.Option("--steps", min=1, help="At most so many.")] = 200,
    step: Annotated[
        str, typer.Option("--step", metavar="NUMBER", help="Length of one, pixels in [0, 1]; or 1/255.")
    ] = "1/255",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images in a pass.")] = 32,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = None,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Make images that the network is sure about and in which nobody sees anything, from noise or nothing."""
    with session(quiet=quiet, debug=debug):
        search: dict[str, Any] = {"confidence": confidence, "steps": steps, "step": number(step, "--step")}
        with prepare.output(out) as folder:
            from attrib.synthesis.fooling import fool

            loaded = prepare.network(model, weights, seed, device)
            with usage():
                goals = [class_number(loaded, name, "CLASS") for name in classes]
                found = fool(loaded, goals, start, **search, seed=seed, batch_size=batch_size)  # type: ignore[arg-type]
            shown.write(found, folder, context, figures=figures)
            pictures = found.subject.space.to_picture(found.images)
            labels = [found.subject.label(goal) for goal in goals]
            made.pictures(folder, ((f"{i} {label}", pictures[i]) for i, label in enumerate(labels)))
        shown.tell(found, context, json=json)
    return 0
