"""Many images, many methods: the control rows that a method must beat, and the statistics that say whether it does."""

from attrib.benchmark.budget import Budget, at_equal_budget, options_for
from attrib.benchmark.controls import CentreGaussian, Control, EdgeMagnitude, RandomMap, make_controls
from attrib.benchmark.grids import Grids, make_grids
from attrib.benchmark.pairs import Effect, Pair, Pairs, adjust, compare_pairs, effect_size
from attrib.benchmark.ranking import Ranking, critical_difference, image_ranks, rank_methods
from attrib.benchmark.stability import Stability, Swap, rank_stability
from attrib.benchmark.stats import Interval, Paired, Verdict, beats, bootstrap_interval, paired_permutation_test

__all__ = [
    "Budget",
    "CentreGaussian",
    "Control",
    "EdgeMagnitude",
    "Effect",
    "Grids",
    "Interval",
    "Pair",
    "Paired",
    "Pairs",
    "RandomMap",
    "Ranking",
    "Stability",
    "Swap",
    "Verdict",
    "adjust",
    "at_equal_budget",
    "beats",
    "bootstrap_interval",
    "compare_pairs",
    "critical_difference",
    "effect_size",
    "image_ranks",
    "make_controls",
    "make_grids",
    "options_for",
    "paired_permutation_test",
    "rank_methods",
    "rank_stability",
]
