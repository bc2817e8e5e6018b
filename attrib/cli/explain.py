"""The commands that explain and compare a user's own pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from attrib.cli import options, prepare
from attrib.cli.session import session

if TYPE_CHECKING:
    from attrib.tasks import CompareOptions, ExplainOptions


def explain_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    images: options.ImagesArgument,
    *,
    model: options.ModelOption,
    weights: options.WeightsOption = None,
    method: options.MethodOption = None,
    settings: options.SetOption = None,
    layer: options.LayerOption = None,
    target: options.TargetsOption = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images explained together.")] = 8,
    device: options.DeviceOption = None,
    seed: options.SeedOption = 0,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Explain pictures with several methods."""
    with session(quiet=quiet, debug=debug):
        files, methods = prepare.pictures(images), prepare.methods(method, settings)
        targets = [prepare.target(text) for text in target or ["predicted"]]
        with prepare.output(out) as folder:
            from attrib.tasks import explain

            loaded = prepare.network(model, weights, seed, device)
            how: ExplainOptions = {"batch_size": batch_size, "show_progress": not quiet}
            found = explain(loaded, files, methods, targets=targets, layer=layer, **how)
            found = prepare.told(found, context.obj, seed=seed)
            if folder is not None:
                found.write(folder, figures=figures)
        return prepare.show(found, as_json=json)


def compare_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    images: options.ImagesArgument,
    *,
    model: options.ModelOption,
    weights: options.WeightsOption = None,
    method: options.MethodOption = None,
    settings: options.SetOption = None,
    layer: options.LayerOption = None,
    target: options.TargetOption = "predicted",
    metric: options.MetricOption = None,
    protocol: options.ProtocolOption = "default",
    controls: Annotated[bool, typer.Option("--controls/--no-controls", help="Rows that ignore the model.")] = True,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Rows per forward pass.", show_default="automatic")
    ] = None,
    device: options.DeviceOption = None,
    seed: options.SeedOption = 0,
    out: options.OutOption = None,
    maps: Annotated[bool, typer.Option("--maps/--no-maps", help="Keep raw maps; not for thousands of images.")] = True,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Measure how well methods explain a model on your pictures, with control rows."""
    with session(quiet=quiet, debug=debug):
        files, methods, metrics = prepare.pictures(images), prepare.methods(method, settings), prepare.metrics(metric)
        curves, goal = prepare.protocol(protocol), prepare.target(target)
        how: CompareOptions = {"layer": layer, "controls": controls, "batch_size": batch_size or "auto"}
        how |= {"keep_maps": maps and out is not None, "show_progress": not quiet}
        with prepare.output(out) as folder:
            from attrib.tasks import compare

            loaded = prepare.network(model, weights, seed, device)
            found = compare(loaded, files, methods, metrics, curves, target=goal, seed=seed, **how)
            found = prepare.told(found, context.obj)
            if folder is not None:
                found.write(folder, figures=figures)
        return prepare.show(found, as_json=json)
