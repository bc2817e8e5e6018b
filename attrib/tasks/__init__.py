"""What most users need, and what the command line calls: explain pictures, compare methods."""

from attrib.tasks.comparing import CompareOptions, compare
from attrib.tasks.estimating import Estimate, estimate
from attrib.tasks.explaining import ExplainOptions, explain
from attrib.tasks.occluding import occlude

__all__ = ["CompareOptions", "Estimate", "ExplainOptions", "compare", "estimate", "explain", "occlude"]
