"""The command that asks whether rankings hold whatever the protocol."""

from __future__ import annotations

from typing import Annotated

import typer

from attrib.cli import options, prepare
from attrib.cli.session import session, usage


def stability_command(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="DIR...", help="Results of attrib benchmark, a protocol each.", show_default=False),
    ],
    *,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Compare the rankings of several benchmarks of the same methods: Kendall's tau, and which methods swap."""
    with session(quiet=quiet, debug=debug):
        from attrib.study import across, load_study
        from attrib.study.settings import stability_text

        with usage():
            found = across([load_study(run) for run in runs])
        told = {
            metric: {
                "settings": one.settings,
                "methods": one.methods,
                "means": one.means.tolist(),
                "tau": one.tau.tolist(),
                "swapped": one.swapped.tolist(),
                "swaps": [vars(swap) for swap in one.swaps],
                "images": one.images,
                "undefined": one.undefined,
            }
            for metric, one in found.items()
        }
        prepare.say(told, lambda _: stability_text(found), as_json=json)
    return 0
