"""What the verbs of ``attrib see`` share: pictures to batches, and a result to standard output and disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from attrib.cli import prepare
from attrib.cli.session import usage

if TYPE_CHECKING:
    from attrib.io import LoadedModel
    from attrib.io.stream import Stream
    from attrib.report.finding import Finding

DataOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="FOLDER|TABLE|hf:NAME:SPLIT|demo",
        help="Pictures: a folder (of one folder for each class), a table, a data set, or the demo photos.",
    ),
]
LimitOption: TypeAlias = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many pictures.")]
BatchOption: TypeAlias = Annotated[int, typer.Option("--batch-size", min=1, help="Pictures in a batch.")]
LayerNames: TypeAlias = Annotated[
    list[str] | None, typer.Option("--layer", metavar="LAYER", help="May be repeated; see attrib layers.")
]


def stream(data: str, network: LoadedModel, *, limit: int | None = None, batch_size: int = 32) -> Stream:
    """Pictures as batches of the network's input."""
    from attrib.io import demo_images, open_samples
    from attrib.io.stream import Stream

    with usage():
        return Stream(open_samples(demo_images() if data == "demo" else data, limit=limit), network, batch_size)


def write(
    found: Finding, folder: Path | None, context: typer.Context, *, figures: bool, pictures: Stream | None = None
) -> None:
    """Write the result into ``folder``, inside the block of `prepare.output`; nowhere if it is None.

    The names of ``pictures`` go into the manifest, in order, so that a position in the data can be looked up.
    """
    if folder is not None:
        named = {} if pictures is None else {"pictures": list(pictures.samples.names)}
        found.write(folder, figures=figures, about=_about(context) | named)


def tell(found: Finding, context: typer.Context, *, json: bool) -> None:
    """Print the result in words or as JSON, after that block: inside, standard output goes to standard error."""
    prepare.say(found.manifest | _about(context), lambda _: found.to_text(), as_json=json)


def _about(context: typer.Context) -> dict[str, object]:
    return {"command": list(context.obj)}
