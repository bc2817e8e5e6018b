"""Synthetic ground truth: pictures and networks whose reasons are known, made in seconds, without a download."""

from attrib.benchmark.synthetic.fillings import textures
from attrib.benchmark.synthetic.grounds import shortcut
from attrib.benchmark.synthetic.objects import several
from attrib.benchmark.synthetic.patches import matched_filter, planted
from attrib.benchmark.synthetic.problem import Evidence, Problem, score
from attrib.benchmark.synthetic.problems import suite
from attrib.benchmark.synthetic.scenes import Scenes
from attrib.benchmark.synthetic.suppressors import discriminant, suppressor

__all__ = [
    "Evidence",
    "Problem",
    "Scenes",
    "discriminant",
    "matched_filter",
    "planted",
    "score",
    "several",
    "shortcut",
    "suite",
    "suppressor",
    "textures",
]
