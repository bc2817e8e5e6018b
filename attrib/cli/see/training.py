"""The verb that compares checkpoints of one training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from attrib.cli import options, prepare
from attrib.cli.see import shown
from attrib.cli.session import session, usage
from attrib.errors import InputError


def training_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    *,
    model: options.ModelOption,
    checkpoint: Annotated[
        list[str],
        typer.Option(
            "--checkpoint",
            metavar="[EPOCH=]FILE",
            help="Weights at an epoch, counted from 1 if not said; give it once for each.",
            show_default=False,
        ),
    ],
    layer: Annotated[
        list[str], typer.Option("--layer", metavar="LAYER", help="Give one or several; see attrib layers.")
    ],
    data: shown.DataOption,
    channels: Annotated[int, typer.Option("--channels", min=1, help="Features of each layer, drawn at random.")] = 6,
    method: Annotated[
        str, typer.Option("--method", metavar="deconvnet|guided|saliency", help="How activations are led back.")
    ] = "deconvnet",
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
    """Show how features changed while a network learned: strongest pictures, projections, jumps, ranks."""
    with session(quiet=quiet, debug=debug):
        with usage():
            files = checkpoints(checkpoint)
        with prepare.output(out) as folder:
            from attrib.analysis import evolution

            loaded = prepare.network(model, "none", 0, device)
            pictures = shown.stream(data, loaded, limit=limit, batch_size=batch_size)
            with usage():
                found = evolution(
                    loaded.model,
                    files,
                    pictures,
                    layer,
                    channels=channels,
                    method=cast('Literal["deconvnet", "guided", "saliency"]', method),
                    batch_size=batch_size,
                    seed=seed,
                    show_progress=not quiet,
                )
            shown.write(found, folder, context, figures=figures, pictures=pictures)
        shown.tell(found, context, json=json)
    return 0


def checkpoints(words: list[str]) -> dict[int, Path]:
    """Files by epoch, from ``FILE`` and ``EPOCH=FILE``.

    Example:
        >>> {epoch: file.name for epoch, file in checkpoints(["5=a.pt", "10=b.pt"]).items()}
        {5: 'a.pt', 10: 'b.pt'}
    """
    found: dict[int, Path] = {}
    for place, text in enumerate(words, 1):
        epoch, _, file = text.partition("=")
        numbered = bool(file) and epoch.isdecimal()
        number, name = (int(epoch), file) if numbered else (place, text)
        if number in found:
            raise InputError(
                f"--checkpoint must be of different epochs; got {number} twice, {str(found[number])!r} and {name!r}."
            )
        found[number] = Path(name)
    return found
