"""What tolerance, refine and bfloat16 report about their errors, and what their errors are.

``python -m benchmarks.approximations``: the demo network on its photos, the logit of its choice.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attrib import Occlusion
from attrib.core import count
from attrib.io import demo_images, demo_model
from attrib.report.table import text_table

GRIDS = ({"window": 16, "stride": 8}, {"window": 32, "stride": 4})
OPTIONS: tuple[dict[str, Any], ...] = (
    {"tolerance": 0.01},
    {"tolerance": 0.05},
    {"refine": 2},
    {"refine": 4},
    {"autocast": torch.bfloat16},
)


def row(model: nn.Module, pictures: Sequence[Tensor], grid: dict[str, Any], option: dict[str, Any]) -> dict[str, str]:
    """Reported and true errors over the pictures, and the share of passes that ran."""
    reported, true, ran = [], [], []
    for x in pictures:
        with count() as whole:
            exact = Occlusion(model, **grid).attribute(x, "predicted")
        with count() as cost:
            found = Occlusion(model, **grid, **option).attribute(x, "predicted")
        reported += [one.error for one in cost.deviations] or [0.0]
        true.append(float((found - exact).abs().max() / exact.abs().max()))
        ran.append(cost.forwards / whole.forwards)
    ((name, value),) = option.items()
    told = {"windows": f"{grid['window']}, stride {grid['stride']}", "option": f"`{name}={value}`"}
    told |= {"reported error": _range(reported), "largest error in the map": _range(true)}
    return told | {"passes": f"{min(ran):.0%} to {max(ran):.0%}" if name == "refine" else ""}


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def main() -> int:
    """Print the table."""
    net = demo_model()
    pictures = [net.inputs([picture]) for picture in demo_images().values()]
    rows = [row(net.model, pictures, grid, option) for grid in GRIDS for option in OPTIONS]
    print(text_table(rows, markdown=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
