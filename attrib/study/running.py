"""Running a study: what is there is kept, what another process does is left to it, the rest is computed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal

from tqdm import tqdm

from attrib import checks
from attrib.errors import InputError, OutputError
from attrib.study.result import StudyResult, load_study, totals
from attrib.study.spec import RunOptions, Study
from attrib.study.store import Store, arrow
from attrib.study.work import Worker

log = logging.getLogger("attrib")

ENGINES = ("local", "ray")
_SAME = ("versions", "device", "dtype")  # what scores depend on beside the question, the weights and the pictures


@dataclass(frozen=True)
class ShardDone:
    """What became of a shard.

    Attributes:
        shard: which.
        state: ``"done"`` now, ``"there"`` before, or ``"taken"`` by another process.
        failures: how much failed in it, if it was done now.
    """

    shard: int
    state: Literal["done", "there", "taken"]
    failures: int = 0


Engine = Callable[[Sequence[int], Callable[..., object]], Iterator[ShardDone]]


def run_study(study: Study, out: str | PathLike[str], options: RunOptions) -> StudyResult:
    """Do what `Study.run` says."""
    arrow()
    store, mine = Store.at(out), part(study.shards(), options.get("shard"))
    if not options.get("resume", True) and store.manifest is not None:
        raise OutputError(
            f"output must be new where nothing shall be resumed; got {str(out)!r}, where a study was begun."
        )
    compute_all = _engine(study, store, options)
    before = sum(len(study.images(shard)) for shard in mine if store.done(shard))
    total = sum(len(study.images(shard)) for shard in mine)
    hidden = None if options.get("show_progress", True) else True
    with tqdm(total=total, initial=before, unit="image", disable=hidden) as bar:
        for done in compute_all(mine, bar.update):
            if done.state == "taken":
                log.warning("shard %d is left to the process that computes it now", done.shard)
    close(store, study.shards())  # the process that did the last shard may have been killed before it could
    return load_study(out)


def _engine(study: Study, store: Store, options: RunOptions) -> Engine:
    """What computes shards; what is wrong with the study or the choice is said now."""
    if checks.choice("engine", options.get("engine", "local"), ENGINES) == "ray":
        from attrib.study.engines import on_ray

        return lambda shards, step: on_ray(study, store, shards, options, step)
    if options.get("address") is not None:
        raise InputError(f"address must be None unless engine='ray'; got {options['address']!r}.")
    worker = Worker(study, options.get("device"))
    begin(store, worker, force=options.get("force", False))
    return lambda shards, step: (
        compute(worker, store, one, strict=options.get("strict", False), step=step) for one in shards
    )


def part(shards: int, shard: tuple[int, int] | None) -> Sequence[int]:
    """The shards of one of several jobs: job ``i`` of ``n`` has every ``n``-th, from the ``i``-th on.

    Example:
        >>> [list(part(5, (i, 2))) for i in range(2)]
        [[0, 2, 4], [1, 3]]
    """
    if shard is None:
        return range(shards)
    try:
        i, n = shard
    except (TypeError, ValueError):
        raise InputError(f"shard must be (i, n), the i-th of n parts; got {shard!r}.") from None
    checks.integer("number of parts", n, 1)
    if not 0 <= checks.integer("part", i) < n:
        raise InputError(f"part must lie in [0, {n - 1}], counted from 0; got {i} of {n}.")
    return range(i, shards, n)


def begin(store: Store, worker: Worker, *, force: bool) -> None:
    """Write the manifest, or find out whether the one that is there is of the same study."""
    told = store.begin(worker.about)
    for what, key in (("hash", None), ("data", "sha256"), ("model", "sha256")):
        mine, theirs = worker.about[what], told[what]
        if key is not None:
            mine, theirs = mine[key], theirs[key]
        if mine != theirs:
            raise InputError(
                f"the study must be the one that {str(store.folder)!r} was begun with; got another "
                f"{_differing(worker.about, told) if key is None else what}. Choose another directory."
            )
    other = [name for name in _SAME if worker.about[name] != told[name]]
    if other and not force:
        changes = "; ".join(_change(worker.about[name], told[name], name) for name in other)
        raise InputError(
            f"versions and device must be those that {str(store.folder)!r} was begun with, or scores will not fit "
            f"together to the last digits; got {changes}. Pass force=True to go on all the same."
        )


def _differing(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Which parts of the specs differ."""
    names = [name for name in mine["spec"] if mine["spec"][name] != theirs["spec"].get(name)]
    return " and ".join(name.replace("_", " ") for name in names) or "spec"


def _change(mine: Any, theirs: Any, name: str) -> str:
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        return ", ".join(
            f"{one} {mine.get(one)} instead of {theirs.get(one)}"
            for one in sorted({*mine, *theirs})
            if mine.get(one) != theirs.get(one)
        )
    return f"{name} {mine} instead of {theirs}"


def compute(
    worker: Worker, store: Store, shard: int, *, strict: bool = False, step: Callable[[], object] = lambda: None
) -> ShardDone:
    """Compute a shard and store it, unless that is done or another process is at it; the last one closes the study."""
    if store.done(shard):
        return ShardDone(shard, "there")
    with store.lease(shard) as mine:
        if not mine:
            return ShardDone(shard, "taken")
        if store.done(shard):  # by the process that held the lease a moment ago
            return ShardDone(shard, "there")
        rows = worker.run(shard, strict=strict, step=step)
        facts = {name: str(worker.about[name]) for name in ("host", "device", "hardware", "threads", "versions")}
        store.write(shard, rows.tables(facts))
    close(store, worker.study.shards())
    return ShardDone(shard, "done", len(rows.found["failures"]))


def close(store: Store, shards: int) -> None:
    """Add to the manifest what it took in all, once all shards are done."""
    told = store.manifest
    if told is not None and "totals" not in told and all(store.done(one) for one in range(shards)):
        store.finish({**told, "totals": totals(load_study(store.folder))})


_worker: dict[tuple[str, str | None], Worker] = {}  # the last one: workers of a cluster do many shards of one study


def run_shard(
    spec: Study | Mapping[str, Any],
    out: str | PathLike[str],
    shard: int,
    *,
    strict: bool = False,
    device: str | None = None,
    force: bool = False,
) -> ShardDone:
    """Compute one shard of a study: what an engine calls, in any process, with arguments that can be pickled.

    The model is loaded once for each process and study.

    Args:
        spec: `Study.spec`, or the study itself where it can be pickled.
        out: see `Study.run`.
        shard: from 0 to `Study.shards`.
        strict: see `RunOptions`.
        device: see `RunOptions`.
        force: see `RunOptions`.

    Example:
        >>> from attrib.io import LoadedModel, Preprocess
        >>> from PIL import Image
        >>> import tempfile
        >>> net = LoadedModel(model, Preprocess(resize=12, crop=12))
        >>> photos = {"one": Image.new("RGB", (16, 12), "red"), "two": Image.new("RGB", (16, 12), "blue")}
        >>> study = Study(net, photos, ["saliency"], ["deletion"], {"steps": 5}, shard_size=1)
        >>> with tempfile.TemporaryDirectory() as home:
        ...     print([run_shard(study, home, i % 2).state for i in range(3)])
        ['done', 'done', 'there']
    """
    study = spec if isinstance(spec, Study) else Study.from_spec(spec)
    key = study.hash, device
    if key not in _worker:
        made = Worker(study, device)
        _worker.clear()
        _worker[key] = made
    store = Store.at(out)
    study.images(shard)
    begin(store, _worker[key], force=force)
    return compute(_worker[key], store, shard, strict=strict)
