"""Figures: the only part that normalises or colours. Axes in, axes out; pyplot's state is never touched."""

from attrib.plot.curves import comparison, curves
from attrib.plot.maps import gradient_image, heatmap
from attrib.plot.occlusion import occlusion_panels
from attrib.plot.panels import panels
from attrib.plot.study import cost_and_quality, rank_line, score_grid

__all__ = [
    "comparison",
    "cost_and_quality",
    "curves",
    "gradient_image",
    "heatmap",
    "occlusion_panels",
    "panels",
    "rank_line",
    "score_grid",
]
