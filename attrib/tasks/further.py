"""Further arguments of a model, such as the words of captions, for some of the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from attrib import checks
from attrib.report.facts import described, tensor_hash
from attrib.tasks.subject import Network


@dataclass(frozen=True, eq=False)
class Further:
    """What a model takes besides the images; a Tensor with one entry per image follows them.

    Attributes:
        values: the arguments.
        n: how many images there are.
    """

    values: tuple[Any, ...] = ()
    n: int = 0

    @classmethod
    def of(cls, given: object, n: int, network: Network) -> Further:
        """Read ``additional_forward_args``, and move tensors to where the model is."""
        values = checks.arguments(given)
        return cls(tuple(network.place(one) if isinstance(one, Tensor) else one for one in values), n)

    def rows(self, positions: Sequence[int]) -> tuple[Any, ...]:
        """The arguments for the images at ``positions``."""
        return tuple(one[list(positions)] if self._follows(one) else one for one in self.values)

    def _follows(self, value: object) -> bool:
        return isinstance(value, Tensor) and value.ndim > 0 and len(value) == self.n

    @property
    def facts(self) -> dict[str, Any]:
        """What the manifest says; nothing where there are none."""
        told = [_told(one) for one in self.values]
        return {"additional_forward_args": told} if told else {}


def _told(value: object) -> Any:
    if not isinstance(value, Tensor):
        return described(value)
    kind = str(value.dtype).removeprefix("torch.")
    return {"shape": list(value.shape), "dtype": kind, "sha256": tensor_hash(value)}
