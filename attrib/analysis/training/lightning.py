"""A callback for Lightning, made only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from attrib.errors import MissingDependency


def callback(watch: Callable[[Any, int], bool], network: str | None) -> Any:
    """See `TrainingWatch.lightning`."""

    def on_train_epoch_end(_: Any, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:  # one look, however many processes
            watch(pl_module.get_submodule(network) if network else pl_module, trainer.current_epoch + 1)

    return type("TrainingCallback", (_base(),), {"on_train_epoch_end": on_train_epoch_end})()


def _base() -> type:
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            base: type = import_module(name).Callback
        except ImportError:
            continue
        return base
    raise MissingDependency(
        "a callback for Lightning needs it: pip install lightning. A plain loop calls the watch itself."
    )
