"""Reading figures back: what lies where, in which colour, with which numbers and words."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

GREY = torch.full((1, 40, 96), 0.5)


def peak(row: int, column: int, size: tuple[int, int] = (5, 8), value: float = 1.0) -> Tensor:
    """A map that is zero but for one value."""
    map = torch.zeros(size)
    map[row, column] = value
    return map


def pixels(figure: Figure) -> npt.NDArray[np.float64]:
    """The figure as it is written to a file, ``(rows, columns, 3)`` in [0, 1]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255.0


def inside(ax: Axes) -> npt.NDArray[np.float64]:
    """What is drawn within the axes, a pixel at the edges left out."""
    everything = pixels(figure_of(ax))
    box = ax.get_window_extent()
    top, bottom = len(everything) - int(box.y1) + 2, len(everything) - int(box.y0) - 2
    return everything[top:bottom, int(box.x0) + 2 : int(box.x1) - 2]


def figure_of(ax: Axes) -> Figure:
    figure = ax.figure
    assert isinstance(figure, Figure)
    return figure


def saturation(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    spread: npt.NDArray[np.float64] = rgb.max(-1) - rgb.min(-1)
    return spread


def shown(ax: Axes) -> npt.NDArray[np.float64]:
    """The numbers behind the colours."""
    return np.asarray(ax.images[-1].get_array())


def limits(ax: Axes) -> tuple[float | None, float | None]:
    return ax.images[-1].norm.vmin, ax.images[-1].norm.vmax


def words(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts if text.get_text()]


def maps_drawn(figure: Figure) -> list[Axes]:
    """The axes with a heatmap: a picture and an overlay."""
    return [ax for ax in figure.axes if len(ax.images) == 2]


# Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009, table 1
SEEN_BY = {
    "everyone": np.eye(3),
    "protanopes": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopes": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "tritanopes": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
    ),
}


def linear(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
