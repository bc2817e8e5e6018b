"""Methods made for one kind of network: the model, the inputs and the layers that they are tried on everywhere.

A method that is not listed here is tried on any network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from attrib import METHODS
from tests import nets, transformers
from tests.presets import OURS


@dataclass(frozen=True)
class MadeFor:
    """What a method is tried on.

    Attributes:
        model: makes the network; the same weights each time.
        inputs: makes at least two examples.
        layers: to name in calls; None leaves the layer to the method.
    """

    model: Callable[[], nn.Module]
    inputs: Callable[[], Tensor]
    layers: tuple[str | None, ...] = (None,)

    @property
    def named(self) -> tuple[str, ...]:
        """The layers without None."""
        return tuple(layer for layer in self.layers if layer)


MADE_FOR: dict[str, MadeFor] = {
    "attention_rollout": MadeFor(transformers.make, transformers.batch),
    "cam": MadeFor(lambda: nets.fill(nets.PointHead()), lambda: nets.batch(3, 8, 6), (None, "act1", "head")),
    "gradient_attention": MadeFor(transformers.make, transformers.batch),
}


# Methods that take any network.
ANY = [name for name in OURS if name not in MADE_FOR]


def layers_of(name: str) -> tuple[str | None, ...]:
    """The layers at which the contract is tried; those of the probe network, where the method takes any network."""
    if name in MADE_FOR:
        return MADE_FOR[name].layers
    return (None, "stem", "conv") if METHODS[name].takes_layer else (None,)


def tried_on(name: str) -> dict[str, Any]:
    """Keyword arguments of `check_attribution`: none where the method takes any network."""
    if name not in MADE_FOR:
        return {}
    return {"model": MADE_FOR[name].model(), "inputs": MADE_FOR[name].inputs()}
