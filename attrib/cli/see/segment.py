"""The verb that cuts the object out of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attrib.cli import options, prepare
from attrib.cli.see import shown
from attrib.cli.session import session, usage

if TYPE_CHECKING:
    from torch import Tensor

    from attrib.analysis import Agreement, Segmentation
    from attrib.io import LoadedModel, Samples


def segment_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE_OR_FOLDER...",
            help="Pictures, folders of them, or one table; with masks of the truth the result is compared with them.",
            show_default=False,
        ),
    ],
    *,
    model: options.ModelOption,
    weights: options.WeightsOption = None,
    method: Annotated[str, typer.Option("--method", metavar="NAME", help="Whose map; see attrib list methods.")] = (
        "saliency"
    ),
    settings: options.SetOption = None,
    layer: options.LayerOption = None,
    target: options.TargetOption = "predicted",
    background: Annotated[float, typer.Option("--background", help="Quantile of the map below the background.")] = 0.3,
    foreground: Annotated[float, typer.Option("--foreground", help="Quantile of the map above the background.")] = 0.95,
    iterations: Annotated[int, typer.Option("--iterations", min=0, help="Rounds of GrabCut; 0: one graph cut.")] = 5,
    fixed: Annotated[bool, typer.Option("--fixed", help="Hold the seeds: no cut overrules them.")] = False,
    connectivity: Annotated[int, typer.Option("--connectivity", metavar="4|8", help="Of the largest component.")] = 8,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = None,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Cut the object out of pictures by the colours that a map points at: masks and boxes, learnt from no mask."""
    with session(quiet=quiet, debug=debug):
        (made,) = prepare.methods([method], settings)
        with prepare.output(out) as folder:
            from attrib.analysis import segment

            samples = _samples(images)
            loaded = prepare.network(model, weights, seed, device)
            how: dict[str, Any] = {"iterations": iterations, "fixed": fixed, "connectivity": connectivity}
            with usage():
                maps, views, masks = _asked(loaded, samples, made, layer, prepare.target(target), quiet=quiet)
                quantiles = (background, foreground)
                found = segment(maps, views, quantiles=quantiles, seed=seed, names=samples.names, **how)
            agreed = None if masks is None else found.against(masks)
            shown.write(found, folder, context, figures=figures)
            if folder is not None and agreed is not None:
                (folder / "agreement").mkdir()
                agreed.write(folder / "agreement", figures=figures)
        _tell(found, agreed, context, json=json)
    return 0


def _samples(images: list[Path]) -> Samples:
    from attrib.io import open_samples
    from attrib.io.samples import TABLES

    with usage():
        table = len(images) == 1 and images[0].suffix.lower() in TABLES
        return open_samples(images[0] if table else prepare.pictures(images))


def _asked(
    loaded: LoadedModel, samples: Samples, made: Any, layer: str | None, target: int | str, *, quiet: bool
) -> tuple[Tensor, list[Any], Tensor | None]:
    """The map and the view of each picture, and the true masks where all are known."""
    import torch
    from PIL import Image
    from tqdm import tqdm

    from attrib.registry import METHODS
    from attrib.tasks.questions import questions
    from attrib.tasks.subject import Network

    network = Network.of(loaded)
    (question,) = questions(network, 1, target)
    method = (METHODS[made] if isinstance(made, str) else made)(loaded.model)
    maps, views, masks = [], [], []
    for sample in tqdm(samples, unit="picture", disable=True if quiet else None):
        x, view = network.seen(sample.image)
        maps.append(method.attribute(x, question.objective, layer).cpu())
        views.append(view)
        masks.append(loaded.mask(sample.mask) if isinstance(sample.mask, Image.Image) else None)
    known = [one for one in masks if one is not None]
    return torch.cat(maps), views, torch.stack(known) if len(known) == len(masks) else None


def _tell(found: Segmentation, agreed: Agreement | None, context: typer.Context, *, json: bool) -> None:
    if agreed is None:
        shown.tell(found, context, json=json)
    else:
        told = found.manifest | {"command": list(context.obj), "agreement": agreed.manifest}
        prepare.say(told, lambda _: f"{found.to_text()}\n\n{agreed.to_text()}", as_json=json)
