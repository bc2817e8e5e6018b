"""What the verbs that look at a feature space share: the bank of the pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, cast

import typer

from attrib.cli.session import usage

if TYPE_CHECKING:
    from attrib.analysis import Bank
    from attrib.io import LoadedModel
    from attrib.io.stream import Stream

BankOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--bank", metavar="DIR", help="Where the features are kept; a run goes on with what is there."),
]
PoolOption: TypeAlias = Annotated[
    str, typer.Option("--pool", metavar="flatten|mean|max", help="What becomes of locations.")
]


def features(
    network: LoadedModel, pictures: Stream, layers: list[str] | None, *, pool: str, directory: Path | None, quiet: bool
) -> Bank:
    """The bank of all pictures, read or made."""
    from attrib.analysis import feature_bank

    with usage():
        return feature_bank(
            network.model,
            pictures,
            *(layers or ()),
            directory=directory,
            pool=cast('Literal["flatten", "mean", "max"]', pool),
            preprocess=network.preprocess,
            names=pictures.classes or network.categories,
            show_progress=not quiet,
        )
