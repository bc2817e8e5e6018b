"""The options that several commands share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

ImagesArgument: TypeAlias = Annotated[
    list[Path], typer.Argument(metavar="IMAGE_OR_FOLDER...", help="Pictures, or folders of them.", show_default=False)
]
ModelOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="A torchvision name, efficientnet_lite0, timm:NAME or module:function (birds:make for birds.py).",
        show_default=False,
    ),
]
ModelArgument: TypeAlias = Annotated[str, typer.Argument(metavar="MODEL", help="As --model of attrib explain.")]
WeightsOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--weights", "-w", metavar="FILE|none", help="Weights; published ones unless given, none: random."),
]
MethodOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--method", metavar="NAME", help="May be repeated; see attrib list methods.", show_default=False),
]
SetOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="METHOD.OPTION=VALUE",
        help="An option of a method, such as occlusion.window=32; may be repeated.",
        show_default=False,
    ),
]
MetricOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--metric", metavar="NAME", help="May be repeated; see attrib list metrics.", show_default=False),
]
ProtocolOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--protocol",
        "-p",
        metavar="NAME",
        help="How curves are measured; rise: as in the paper of that name; adaptive: only where they bend.",
    ),
]
LayerOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--layer", metavar="LAYER", help="Where methods that need a layer look; the last spatial one unless given."
    ),
]
TARGET = "predicted, a class number or name, LAYER:CHANNEL, LAYER:CHANNEL,Y,X or LAYER:CHANNEL:sum|max|strongest."
TargetOption: TypeAlias = Annotated[str, typer.Option("--target", "-t", metavar="TARGET", help=TARGET)]
TargetsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--target", "-t", metavar="TARGET", help=f"{TARGET} May be repeated.", show_default="predicted"),
]
DeviceOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="DEVICE", help="cpu, cuda, cuda:1, ...; CUDA if there is one.", show_default=False
    ),
]
SeedOption: TypeAlias = Annotated[
    int, typer.Option("--seed", min=0, help="Of random weights, random maps and intervals.")
]
OutOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="New directory for manifest, raw maps and figures."),
]
FiguresOption: TypeAlias = Annotated[bool, typer.Option("--figures/--no-figures", help="Draw figures into --out.")]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")
]
QuietOption: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")]
DebugOption: TypeAlias = Annotated[bool, typer.Option("--debug", help="Show tracebacks and details.")]
