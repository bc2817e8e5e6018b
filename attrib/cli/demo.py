"""The main job: photos that everyone has, a really trained network, every default method, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attrib.cli import options, prepare
from attrib.cli.session import session


def demo_command(
    context: typer.Context,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="New directory for figures, table, maps and manifest.")
    ],
    method: options.MethodOption = None,
    seed: options.SeedOption = 0,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Explain and compare on the photos of scikit-image with EfficientNet-Lite0; needs 'attrib[demo]'."""
    with session(quiet=quiet, debug=debug):
        methods = prepare.methods(method)
        with prepare.output(out) as folder:
            from attrib.io import demo_images, demo_model
            from attrib.tasks import compare

            found = compare(demo_model(), demo_images(), methods, seed=seed, show_progress=not quiet)
            found = prepare.told(found, context.obj)
            if folder is not None:
                found.write(folder, figures=True)
        code = prepare.show(found, as_json=json)
        if not quiet:
            typer.echo(f"attrib: figures, raw maps and numbers are in {out}", err=True)
        return code
