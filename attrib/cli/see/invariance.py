"""The verb that moves pictures and watches what changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from attrib.cli import options, prepare
from attrib.cli.see import shown
from attrib.cli.session import session, usage
from attrib.errors import InputError

if TYPE_CHECKING:
    from attrib.io import LoadedModel
    from attrib.io.stream import Stream


def invariance_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    *,
    model: options.ModelOption,
    data: shown.DataOption,
    weights: options.WeightsOption = None,
    layer: shown.LayerNames = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="KIND=AMOUNT,AMOUNT,...",
            help="vertical or horizontal shifts in pixels, scale factors, rotation in degrees; may be repeated.",
            show_default=False,
        ),
    ] = None,
    padding: Annotated[
        str, typer.Option("--padding", metavar="zeros|border|reflection", help="What comes in from outside.")
    ] = "zeros",
    method: options.MethodOption = None,
    settings: options.SetOption = None,
    target: Annotated[
        str | None,
        typer.Option("--target", "-t", metavar="TARGET", help="Labels that are classes, else predicted."),
    ] = None,
    limit: shown.LimitOption = None,
    batch_size: shown.BatchOption = 32,
    device: options.DeviceOption = None,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Shift, scale and turn pictures; show how much layers, the probability and maps change."""
    with session(quiet=quiet, debug=debug):
        with usage():
            sweeps = sweeps_of(sweep)
        methods = prepare.methods(method, settings) if method else []
        with prepare.output(out) as folder:
            from attrib.analysis import invariance

            loaded = prepare.network(model, weights, 0, device)
            pictures = shown.stream(data, loaded, limit=limit, batch_size=batch_size)
            with usage():
                found = invariance(
                    loaded.model,
                    pictures,
                    _target(target, pictures, loaded),
                    layers=layer,
                    sweeps=cast("dict[Literal['vertical', 'horizontal', 'scale', 'rotation'], list[float]]", sweeps),
                    padding=cast("Literal['zeros', 'border', 'reflection']", padding),
                    methods=methods,
                    preprocess=loaded.preprocess,
                    show_progress=not quiet,
                )
            shown.write(found, folder, context, figures=figures, pictures=pictures)
        shown.tell(found, context, json=json)
    return 0


def _target(target: str | None, pictures: Stream, network: LoadedModel) -> int | str | None:
    """What is asked; names of folders that are no classes of the network cannot be."""
    if target is not None:
        return prepare.target(target)
    strange = pictures.classes is not None and pictures.classes != network.categories
    return "predicted" if strange else None


def sweeps_of(words: list[str] | None) -> dict[str, list[float]] | None:
    """Amounts by kind, from ``KIND=AMOUNT,AMOUNT``.

    Example:
        >>> sweeps_of(["scale=1,1.4", "rotation=0,90"])
        {'scale': [1.0, 1.4], 'rotation': [0.0, 90.0]}
    """
    if not words:
        return None
    found: dict[str, list[float]] = {}
    for text in words:
        kind, _, amounts = text.partition("=")
        try:
            values = [float(one) for one in amounts.split(",")]
        except ValueError:
            raise InputError(f"--sweep must be KIND=AMOUNT,AMOUNT, such as rotation=0,90; got {text!r}.") from None
        if kind in found:
            raise InputError(f"--sweep must be given once for each kind; got {kind!r} twice.")
        found[kind] = values
    return found
