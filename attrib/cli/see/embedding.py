"""The verb that lays pictures out in the plane."""

from __future__ import annotations

from typing import Annotated

import typer

from attrib.cli import options, prepare
from attrib.cli.see import shown
from attrib.cli.see.features import BankOption, PoolOption, features
from attrib.cli.session import session, usage


def embedding_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    *,
    model: options.ModelOption,
    data: shown.DataOption,
    weights: options.WeightsOption = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="LAYER", help="Whose features, or pixel; what enters the last linear layer."),
    ] = None,
    method: Annotated[str, typer.Option("--method", metavar="pca|tsne", help="How the plane is found.")] = "tsne",
    perplexity: Annotated[
        float, typer.Option("--perplexity", help="About how many neighbours a picture has, for t-SNE.")
    ] = 30.0,
    pool: PoolOption = "flatten",
    bank: BankOption = None,
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
    """Lay pictures out on a grid by what a layer says: alike is near."""
    with session(quiet=quiet, debug=debug):
        from attrib import checks

        with usage():
            checks.choice("--method", method, ("pca", "tsne"))
        with prepare.output(out) as folder:
            from attrib.analysis import pca, tsne

            loaded = prepare.network(model, weights, 0, device)
            pictures = shown.stream(data, loaded, limit=limit, batch_size=batch_size)
            layers = [layer] if layer and layer != "pixel" else None
            rows = features(loaded, pictures, layers, pool=pool, directory=bank, quiet=quiet)
            space = "pixel" if layer == "pixel" else None
            with usage():
                if method == "pca":
                    found = pca(rows, space=space, seed=seed)
                else:
                    found = tsne(rows, space=space, perplexity=perplexity, seed=seed)
            shown.write(found, folder, context, figures=figures, pictures=pictures)
        shown.tell(found, context, json=json)
    return 0
