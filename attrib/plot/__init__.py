"""Figures: the only part that normalises or colours. Axes in, axes out; pyplot's state is never touched."""

from attrib.plot.ablation import ablation_panels
from attrib.plot.correspondence import correspondence_scores, hidden_parts
from attrib.plot.curves import comparison, curves
from attrib.plot.diagnosis import diagnosis_panels
from attrib.plot.embedding import picture_grid, scatter
from attrib.plot.filters import filter_tiles
from attrib.plot.hog import hog_glyph, hog_panels
from attrib.plot.invariance import invariance_curves
from attrib.plot.maps import gradient_image, heatmap
from attrib.plot.neighbours import neighbour_rows
from attrib.plot.occlusion import occlusion_panels
from attrib.plot.panels import panels
from attrib.plot.probes import probe_curves
from attrib.plot.segment import localisation_curve, segment_panels
from attrib.plot.study import cost_and_quality, rank_line, score_grid
from attrib.plot.training import evolution_panels

__all__ = [
    "ablation_panels",
    "comparison",
    "correspondence_scores",
    "cost_and_quality",
    "curves",
    "diagnosis_panels",
    "evolution_panels",
    "filter_tiles",
    "gradient_image",
    "heatmap",
    "hidden_parts",
    "hog_glyph",
    "hog_panels",
    "invariance_curves",
    "localisation_curve",
    "neighbour_rows",
    "occlusion_panels",
    "panels",
    "picture_grid",
    "probe_curves",
    "rank_line",
    "scatter",
    "score_grid",
    "segment_panels",
]
