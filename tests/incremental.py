"""Helpers for tests of replayed and local sweeps: which way was taken, and whether it agrees with the model itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from attrib.core import Query, as_objective, frozen, sweep
from attrib.core.incremental import local
from attrib.core.incremental.record import NotReplayableError
from attrib.core.masking.masks import Given, Masks
from attrib.core.network.layers import unwrap
from tests.oracles.occlusion import in_space
from tests.sweeps import in_order

# As shares of the largest logit.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


@contextmanager
def watched() -> Iterator[list[str]]:
    """Note for each sweep that records a model: ``"local"``, ``"replayed"``, or the reason for neither.

    Steps cost nothing here: networks for tests are so small that windows would never pay.
    """
    ways: list[str] = []
    kept, scores = sweep.__globals__["kept_replay"], local.local_scores

    def record(*args: Any) -> Any:
        try:
            return kept(*args)
        except NotReplayableError as exc:
            ways.append(str(exc))
            raise

    def choose(*args: Any) -> Any:
        found = scores(*args)
        ways.append("replayed" if found is None else "local")
        return found

    with ExitStack() as undo:
        undo.enter_context(mock.patch("attrib.core.sweeps.perturb.kept_replay", record))
        undo.enter_context(mock.patch.object(local, "local_scores", choose))
        undo.enter_context(mock.patch.object(local, "_STEP", 0))
        yield ways


def ask(
    model: Any, x: Tensor | tuple[Tensor, ...], masks: Masks, target: object = 1, *, extra: Any = (), **how: Any
) -> Tensor:
    """Scores ``(K, N)`` under masks."""
    with frozen(model):
        inputs = x if isinstance(x, tuple) else (x,)
        query = Query(unwrap(model), inputs, as_objective(target), how.get("at"), extra)
        return torch.cat([in_order(sweep(query, masks, **how))])


def largest_logit(model: Any, x: Tensor | tuple[Tensor, ...], extra: Sequence[Any] = ()) -> float:
    """The largest number that the model gives for clean inputs."""
    with frozen(model), torch.no_grad():
        output = model(*(one.clone() for one in (x if isinstance(x, tuple) else (x,))), *extra)
    return max(
        float(t.detach().abs().max()) for t in tree_leaves(output) if isinstance(t, Tensor) and t.is_floating_point()
    )


def agrees(model: Any, x: Any, masks: Masks, target: object = 1, **how: Any) -> str:
    """Assert that the sweep gives what the model itself gives; return the way that it took."""
    with watched() as ways:
        fast = ask(model, x, masks, target, **{"verify": 0, **how})
    dense = ask(model, x, masks, target, exact_dense=True, **how)
    scale = max(largest_logit(model, x, how.get("extra", ())), float(dense.abs().max()))
    assert (fast - dense).abs().max() <= TOLERANCE[dense.dtype] * scale
    return ways[0] if ways else "not recorded"


def loop(model: nn.Module, x: Tensor, keep: Tensor, base: Tensor, score: Callable[[Any, int], float]) -> Tensor:
    """Scores ``(K, N)``: one mask after the other, one example after the other, nothing but calls of the model."""
    found = torch.empty(len(keep), len(x), dtype=torch.float64)
    for k, masks in enumerate(keep):
        for n, image in enumerate(x):
            mask = masks[n if len(masks) > 1 else 0]
            hidden = mask * image + (1 - mask) * base.expand_as(x)[n]
            with torch.no_grad():
                found[k, n] = score(model(hidden[None]), n)
    return found


def class_score(target: int, space: str = "logit") -> Callable[[Tensor, int], float]:
    """A class score for `loop`."""
    return lambda output, _: in_space(output[0].double().tolist(), target, space)


def squares(
    size: tuple[int, int], count: int, side: int, seed: int = 0, n: int = 1, c: int = 1, dtype: Any = torch.float64
) -> Given:
    """Square holes at random places; with ``n`` or ``c`` another place for each example or channel."""
    source = torch.Generator().manual_seed(seed)
    keep = torch.ones(count, n, c, *size, dtype=dtype)
    for mask in keep.flatten(0, 2):
        top, left = (int(torch.randint(0, length - side + 1, (), generator=source)) for length in size)
        mask[top : top + side, left : left + side] = 0
    return Given(keep)
