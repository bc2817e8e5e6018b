"""How far and in which direction a step goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from attrib import checks
from attrib.errors import InputError

Rate: TypeAlias = "float | Sequence[tuple[float, int]] | Callable[[int], float]"
State: TypeAlias = "dict[str, Tensor]"
NORMS = ("raw", "unit", "l1", "sign")


@dataclass(frozen=True)
class Move:
    r"""A step uphill, for each image on its own.

    Convention:
        - ``norm="unit"`` divides the gradient by its Euclidean norm, ``"l1"`` by the mean of its absolute values,
          ``"sign"`` takes the sign of each entry; a gradient of 0 stays 0.
        - ``"sgd"``: :math:`v \leftarrow \mu v + g,\; x \leftarrow x + \eta v`. ``"adam"``: with the bias corrections of
          the paper, uphill.

    Args:
        rate: the step :math:`\eta`; a schedule ``[(rate, steps), ...]``, whose last one holds on; or a function of the
            step, counted from 0.
        norm: see above.
        optimiser: ``"sgd"`` or ``"adam"``.
        momentum: :math:`\mu` of SGD; the first decay of Adam, 0.9 unless given.

    References:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1.

    Example:
        >>> Move(0.5, "unit")(torch.tensor([[[[3.0, 4.0]]]]), {}, 0)
        tensor([[[[0.3000, 0.4000]]]])
    """

    rate: Rate = 1.0
    norm: Literal["raw", "unit", "l1", "sign"] = "raw"
    optimiser: Literal["sgd", "adam"] = "sgd"
    momentum: float | None = None

    def __post_init__(self) -> None:
        checks.choice("norm", self.norm, NORMS)
        checks.choice("optimiser", self.optimiser, ("sgd", "adam"))
        if self.momentum is not None and not 0 <= checks.number("momentum", self.momentum) < 1:
            raise InputError(f"momentum must lie in [0, 1); got {self.momentum}.")
        self.at(0)

    def at(self, step: int) -> float:
        """The rate of a step."""
        if callable(self.rate):
            return checks.number("rate", self.rate(step), 0)
        if not isinstance(self.rate, Sequence):
            return checks.number("rate", self.rate, 0)
        if not self.rate:
            raise InputError("rate must hold at least one (rate, steps); got none.")
        rates = [rate for rate, steps in self.rate for _ in range(checks.integer("steps", steps, 1))]
        return checks.number("rate", rates[min(step, len(rates) - 1)], 0)

    def __call__(self, gradient: Tensor, state: State, step: int) -> Tensor:
        """What to add; ``state`` is kept from step to step."""
        direction = normalised(gradient, self.norm)
        if self.optimiser == "adam":
            return self.at(step) * self._adam(direction, state, step)
        if self.momentum:
            state["velocity"] = direction = self.momentum * state.get("velocity", torch.zeros(())) + direction
        return self.at(step) * direction

    def _adam(self, direction: Tensor, state: State, step: int) -> Tensor:
        first, second, tiny = 0.9 if self.momentum is None else self.momentum, 0.999, 1e-8
        zero = torch.zeros(())
        state["mean"] = first * state.get("mean", zero) + (1 - first) * direction
        state["square"] = second * state.get("square", zero) + (1 - second) * direction.square()
        mean = state["mean"] / (1 - first ** (step + 1))
        return mean / ((state["square"] / (1 - second ** (step + 1))).sqrt() + tiny)


def normalised(gradient: Tensor, norm: str) -> Tensor:
    """The gradient of each image, brought to a size that does not depend on the network."""
    if norm == "raw":
        return gradient
    if norm == "sign":
        return gradient.sign()
    flat = gradient.flatten(1)
    size = flat.norm(dim=1) if norm == "unit" else flat.abs().mean(1)
    size = torch.where(size > 0, size, 1.0)
    return gradient / size.reshape(-1, *(1 for _ in gradient.shape[1:]))
