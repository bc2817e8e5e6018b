"""Who computes the shards of a study: this process, or the workers of a Ray cluster."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from attrib import checks
from attrib.errors import InputError
from attrib.study.lease import BEAT, STALE
from attrib.study.running import ShardDone, run_shard
from attrib.study.spec import RunOptions, Study
from attrib.study.store import Store

log = logging.getLogger("attrib")

RETRIES = 3  # of a shard whose process died; an exception of ours would only come again
_PATIENCE = STALE + 2 * BEAT  # seconds until the shard of a node that was lost is free for sure
_LOOK = 2.0  # seconds between two looks at whether it is


def on_ray(
    study: Study, store: Store, shards: Sequence[int], options: RunOptions, step: Callable[[int], object]
) -> Iterator[ShardDone]:
    """Compute shards as tasks of Ray, and tell of each as it ends.

    Ray starts the processes, shares out the shards and repeats the ones whose process died. A process loads the model
    once and writes its shards itself. A shard that Ray gives up is logged, and missing from the result.

    Args:
        study: the plan; a model or data that are no names are sent to the workers.
        store: a directory that every worker sees under this path, or remote storage.
        shards: which to compute.
        options: see `RunOptions`.
        step: called with the number of images of each shard that was computed.

    Raises:
        InputError: there is no such cluster, or the device is one that Ray chooses.
    """
    ray = checks.require("ray", "engine='ray'", "ray")
    kind = _kind(options.get("device"))
    with _cluster(ray, options.get("address")):
        kind = kind or ("cuda" if ray.cluster_resources().get("GPU", 0) else "cpu")
        # GPU tasks would by default get a new process each, and the model be loaded again
        task = ray.remote(num_cpus=1, num_gpus=int(kind == "cuda"), max_retries=RETRIES, max_calls=0)(_shard)
        plan = ray.put(study.spec if study.portable else study)
        how = {"device": kind} | {name: options.get(name, False) for name in ("strict", "force")}
        running = {task.remote(plan, str(store.folder), one, str(Path.cwd()), how): one for one in shards}
        try:
            while running:
                (ready, *_), _ = ray.wait(list(running))
                shard = running.pop(ready)
                done = _result(ray, ready, shard)
                if done is not None:
                    step(len(study.images(shard)) if done.state == "done" else 0)
                    yield done
        finally:
            for one in running:
                ray.cancel(one, force=True)


def _shard(plan: Study | Mapping[str, Any], out: str, shard: int, folder: str, how: dict[str, Any]) -> ShardDone:
    """Compute a shard in a worker of Ray; one that a lost worker holds becomes free after a while."""
    torch.set_num_threads(1)  # there is a worker for each core; the numbers must not depend on how many
    if Path(folder).is_dir():
        os.chdir(folder)  # paths in the plan may be relative
    end = time.monotonic() + _PATIENCE
    while (done := run_shard(plan, out, shard, **how)).state == "taken" and time.monotonic() < end:
        time.sleep(_LOOK)
    return done


def _result(ray: Any, ready: Any, shard: int) -> ShardDone | None:
    """What a task gave; None if its process could not be kept alive."""
    try:
        done: ShardDone = ray.get(ready)
    except ray.exceptions.RayTaskError as exc:  # raised by our own code
        raise exc.cause from exc
    except ray.exceptions.RayError as exc:
        reason = str(exc).strip().splitlines()[0]
        log.warning("shard %d was given up, run the study again to compute it: %s", shard, reason)
        return None
    return done


def _kind(device: str | None) -> str | None:
    """The kind of device; which one of them is for Ray to say."""
    if device is None:
        return None
    if device not in {"cpu", "cuda"}:
        raise InputError(f"device must be 'cpu' or 'cuda' on Ray, which shares the GPUs out itself; got {device!r}.")
    return device


@contextmanager
def _cluster(ray: Any, address: str | None) -> Iterator[None]:
    """Be connected to a cluster in the block; what was there before stays, what was started for it ends."""
    if ray.is_initialized():
        if address is not None:
            raise InputError(f"address must be None where Ray is in use already; got {address!r}.")
        yield
        return
    try:
        with _no_statistics():
            ray.init(
                address=address,
                include_dashboard=None if address else False,
                logging_level=logging.ERROR,
                log_to_driver=False,  # what fails is in the result
            )
    except (ConnectionError, ValueError, RuntimeError) as exc:
        raise InputError(f"address must be of a running Ray cluster; got {address!r}: {exc}") from exc
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _no_statistics() -> Iterator[None]:
    """Start Ray without sending statistics of use to its makers, unless somebody wants that."""
    name = "RAY_USAGE_STATS_ENABLED"
    before = os.environ.get(name)
    os.environ.setdefault(name, "0")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
