"""The verb that changes pictures a little, so that the network says something else."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attrib.cli import options, prepare
from attrib.cli.see import shown
from attrib.cli.session import session, usage
from attrib.errors import InputError

USUAL = {"linf": "2/255", "l2": "0.5"}  # radii that nobody sees

if TYPE_CHECKING:
    from torch import Tensor

    from attrib.io import LoadedModel


def adversarial_command(  # noqa: PLR0913  a command has as many arguments as it has options
    context: typer.Context,
    images: options.ImagesArgument,
    *,
    model: options.ModelOption,
    weights: options.WeightsOption = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "-t",
            metavar="CLASS",
            help="Number or name to be reached; any other than the predicted one unless given.",
            show_default=False,
        ),
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(
            "--eps",
            metavar="NUMBER",
            help="Radius, pixels in [0, 1]; 2/255 unless given, 0.5 with --norm l2.",
            show_default=False,
        ),
    ] = None,
    smallest: Annotated[bool, typer.Option("--smallest", help="Find the smallest radius, up to --eps.")] = False,
    norm: Annotated[str, typer.Option("--norm", metavar="linf|l2", help="Of what is added.")] = "linf",
    steps: Annotated[int, typer.Option("--steps", min=1, help="1 is FGSM, more are PGD.")] = 10,
    random_start: Annotated[bool, typer.Option("--random-start", help="Begin at a random point of the ball.")] = False,
    batch_size: shown.BatchOption = 32,
    method: options.MethodOption = None,
    layer: options.LayerOption = None,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = None,
    out: options.OutOption = None,
    figures: options.FiguresOption = True,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Change pictures by less than anyone sees: what the network says then, and what maps make of it."""
    with session(quiet=quiet, debug=debug):
        files, radius = prepare.pictures(images), number(eps or USUAL.get(norm, "2/255"), "--eps")
        names: list[str] = prepare.methods(method) if method else []
        search: dict[str, Any] = {"norm": norm, "steps": steps, "random_start": random_start, "seed": seed}
        search["batch_size"] = batch_size
        with prepare.output(out) as folder:
            from attrib.synthesis.adversarial import attack, smallest_eps

            loaded = prepare.network(model, weights, seed, device)
            with usage():
                x, goal = question(loaded, files, target)
                if smallest:
                    found = smallest_eps(loaded, x, goal, most=radius, **search)
                else:
                    found = attack(loaded, x, goal, eps=radius, **search)
                change = found.attribution_change(*names, layer=layer, seed=seed) if names else None
            shown.write(found, folder, context, figures=figures)
            if folder is not None and change is not None:
                (folder / "attribution").mkdir()
                change.write(folder / "attribution", figures=figures)
        more = {} if change is None else {"attribution": change.table()}
        told = found.manifest | more | {"command": list(context.obj), "pictures": list(map(str, files))}
        texts = [one.to_text() for one in (found, change) if one is not None]
        prepare.say(told, lambda _: "\n\n".join(texts), as_json=json)
    return 0


def number(text: str, option: str) -> float:
    """A number, or a fraction such as 2/255."""
    with usage():
        try:
            return float(Fraction(text))
        except (ValueError, ZeroDivisionError):
            raise InputError(f"{option} must be a number or a fraction, such as 2/255; got {text!r}.") from None


def question(loaded: LoadedModel, files: Sequence[Path], target: str | None) -> tuple[Tensor, int | None]:
    """Pictures as one batch, and the class to be reached by its number."""
    import torch

    from attrib.io import load_image
    from attrib.tasks.subject import Network

    network = Network.of(loaded)
    x = torch.cat([network.input(load_image(file)) for file in files])
    if target is None:
        return x, None
    return x, class_number(loaded, target, "--target")


def class_number(loaded: LoadedModel, text: str, option: str) -> int:
    """The number of a class, from its number or name."""
    from attrib.errors import did_you_mean
    from attrib.tasks.subject import Network

    named = prepare.target(text)
    index = named if isinstance(named, int) else Network.of(loaded).class_index(named)
    if index is None:
        close = did_you_mean(text, loaded.categories or ())
        raise InputError(f"{option} must be the number or the name of a class; got {text!r}.{close}")
    return index
