"""Where the activations that an objective reads have their channels and places."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from attrib.core.network.geometry import Layout
from attrib.core.objectives.objective import Acts
from attrib.errors import LayerError


@runtime_checkable
class LaidOut(Protocol):
    """Activations of which it is known where their channels are."""

    def layout(self, layer: str, /) -> Layout | None:
        """Return the layout of ``layer``; None where it has no locations, or unknown ones."""


def layout_in(acts: Acts, layer: str) -> Layout:
    """Where ``layer`` has its channels; first in activations that tell no layout, such as a dictionary."""
    act = acts[layer]
    if act.ndim == 2 or (act.ndim > 2 and not isinstance(acts, LaidOut)):
        return Layout("channels_first", tuple(act.shape[2:]))
    layout = acts.layout(layer) if isinstance(acts, LaidOut) else None
    if layout is None:
        raise LayerError(
            f"layer {layer!r} must give (N, K), or have channels and locations that are known; it gives "
            f"{tuple(act.shape)}. Choose a layer before it, or say where they are with layout=Layout(...)."
        )
    return layout
