"""Studies: methods x images x metrics on disk, in shards that can be killed, resumed and shared out."""

from attrib.study.result import Matrix, StudyResult, load_study
from attrib.study.running import ShardDone, run_shard
from attrib.study.spec import RunOptions, Study

__all__ = ["Matrix", "RunOptions", "ShardDone", "Study", "StudyResult", "load_study", "run_shard"]
