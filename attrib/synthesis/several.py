"""Searches one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from attrib.core.synth import Search, Synthesis


def one_after_another(calls: Iterable[Callable[[Search], Synthesis]], search: Search) -> list[Synthesis]:
    """Run searches in turn; after Ctrl-C in one of them the others stay where they begin."""
    found = list[Synthesis]()
    for call in calls:
        if found and found[-1].stopped == "interrupted":
            search = replace(search, steps=0)
            found.append(replace(call(search), stopped="interrupted"))
        else:
            found.append(call(search))
    return found


def side_by_side(values: Sequence[Tensor]) -> Tensor:
    """Numbers of several searches, ``(steps + 1, n)`` each, in columns; one that ended early stays where it was."""
    longest = max(len(one) for one in values)
    return torch.cat([torch.cat([one, one[-1:].expand(longest - len(one), -1)]) for one in values], 1)
