"""Studies: methods x images x metrics on disk, in shards that can be killed, resumed and shared out."""

from attrib.study.budget import at_budget
from attrib.study.report import write_report
from attrib.study.result import Matrix, StudyResult, load_study
from attrib.study.running import ShardDone, run_shard
from attrib.study.settings import across
from attrib.study.spec import RunOptions, Study
from attrib.study.summary import Summary, summarise, summarise_scores
from attrib.study.tables import summary_table

__all__ = [
    "Matrix",
    "RunOptions",
    "ShardDone",
    "Study",
    "StudyResult",
    "Summary",
    "across",
    "at_budget",
    "load_study",
    "run_shard",
    "summarise",
    "summarise_scores",
    "summary_table",
    "write_report",
]
