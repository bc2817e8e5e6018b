"""Many images, many methods: the control rows that a method must beat, and the statistics that say whether it does."""

from attrib.benchmark.controls import CentreGaussian, Control, EdgeMagnitude, RandomMap, make_controls
from attrib.benchmark.grids import Grids, make_grids
from attrib.benchmark.stats import Interval, Paired, Verdict, beats, bootstrap_interval, paired_permutation_test

__all__ = [
    "CentreGaussian",
    "Control",
    "EdgeMagnitude",
    "Grids",
    "Interval",
    "Paired",
    "RandomMap",
    "Verdict",
    "beats",
    "bootstrap_interval",
    "make_controls",
    "make_grids",
    "paired_permutation_test",
]
