"""Results: frozen, with tables, and stored with everything needed to get them again."""

from attrib.report.comparison import Comparison
from attrib.report.explanation import Explanation
from attrib.report.load import load_explanation
from attrib.report.records import Asked, Failure, Spent

__all__ = ["Asked", "Comparison", "Explanation", "Failure", "Spent", "load_explanation"]
