"""The commands that look things up: what is registered, which layers a model has."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from attrib.cli import options, prepare
from attrib.cli.session import session, usage
from attrib.registry import CONTROLS, METHODS, METRICS

REGISTRIES = {"methods": METHODS, "metrics": METRICS, "controls": CONTROLS}


def list_command(
    kind: Annotated[
        str | None, typer.Argument(metavar="|".join(REGISTRIES), help="One of them only.", show_default=False)
    ] = None,
    json: options.JsonOption = False,
    debug: options.DebugOption = False,
) -> int:
    """List the methods, metrics and controls, plug-ins included."""
    with session(quiet=False, debug=debug):
        from attrib import checks

        with usage():
            kinds = list(REGISTRIES) if kind is None else [checks.choice("what to list", kind, tuple(REGISTRIES))]
        found = {one: [_entry(name, REGISTRIES[one][name]) for name in REGISTRIES[one]] for one in kinds}
        prepare.say(found, _listing, as_json=json)
    return 0


def _entry(name: str, item: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "summary": " ".join((inspect.getdoc(item) or "").split("\n\n")[0].split())}
    if hasattr(item, "needs_layer"):
        told["needs_layer"] = item.needs_layer
    if hasattr(item, "higher_is_better"):
        told["higher_is_better"] = item.higher_is_better
    return told


def _listing(found: dict[str, list[dict[str, Any]]]) -> str:
    blocks = []
    for kind, entries in found.items():
        width = max((len(entry["name"]) for entry in entries), default=0)
        blocks.append("\n".join([kind, *(f"  {entry['name']:{width}}  {entry['summary']}" for entry in entries)]))
    return "\n\n".join(blocks)


def layers_command(
    model: options.ModelArgument,
    weights: options.WeightsOption = "none",
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """List a model's layers in the order in which they run; * is what layer 'auto' picks."""
    with session(quiet=quiet, debug=debug):
        rows = _layers(prepare.network(model, weights, 0, "cpu"))
        prepare.say(rows, _layer_text, as_json=json)
    return 0


def estimate_command(  # noqa: PLR0913  a command has as many arguments as it has options
    model: options.ModelArgument,
    *,
    weights: options.WeightsOption = "none",
    window: Annotated[int | None, typer.Option("--window", min=1, help="Side of the window, pixels.")] = None,
    stride: Annotated[int | None, typer.Option("--stride", min=1, help="Step of the window, pixels.")] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="How many pictures there will be.")] = 1,
    plan: Annotated[bool, typer.Option("--plan", help="Also print what is computed, layer by layer.")] = False,
    device: options.DeviceOption = None,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Size a job of occlusion beforehand: positions, arithmetic, seconds on this machine."""
    with session(quiet=quiet, debug=debug):
        from PIL import Image

        from attrib.tasks import estimate

        loaded = prepare.network(model, weights, 0, device)
        x = loaded.inputs(Image.new("RGB", (256, 256)))
        with usage():
            found = estimate(loaded, x, window=window, stride=stride, images=images)
        words = f"{found.plan}\n\n{found}" if plan else str(found)
        prepare.say(found.facts, lambda _: words, as_json=json)
    return 0


def _layers(loaded: Any) -> list[dict[str, Any]]:
    from PIL import Image

    from attrib.core import auto_layer, frozen, layer_table
    from attrib.errors import LayerError

    x = loaded.inputs(Image.new("RGB", (256, 256)))
    with frozen(loaded.model):
        try:
            chosen = auto_layer(loaded.model, (x,))
        except LayerError:  # a model without a spatial layer still has layers to list
            chosen = ""
        table = layer_table(loaded.model, x)
    return [
        {
            "layer": row.address,
            "kind": row.kind,
            "shape": row.shape,
            "spatial": row.spatial,
            "auto": row.address == chosen,
        }
        for row in table
    ]


def _layer_text(rows: list[dict[str, Any]]) -> str:
    from attrib.report.table import text_table

    return text_table(
        [
            {
                "layer": ("* " if row["auto"] else "  ") + row["layer"],
                "kind": row["kind"],
                "shape": "-" if row["shape"] is None else "x".join(map(str, row["shape"])),
            }
            for row in rows
        ]
    )
