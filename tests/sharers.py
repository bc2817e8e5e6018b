"""Methods that share their passes, for tests."""

from __future__ import annotations

from typing import Any

from torch import nn

from attrib import Attribution, Deconvnet, GradCAM, GuidedBackprop, GuidedGradCAM, InputXGradient, Saliency

RAW: dict[str, Any] = {"channels": "none", "absolute": False}


def everything(model: nn.Module, *layers: str) -> dict[str, Attribution]:
    """Every method that shares, at the inputs and at ``layers``; signed and with all channels where it can."""
    found: dict[str, Attribution] = {}
    for kind in (Saliency, InputXGradient, GuidedBackprop, Deconvnet):
        found |= {f"{kind.name} {at}": kind(model, at, **RAW) for at in (None, *layers)}
    for at in layers:
        found |= {
            f"gradcam {at}": GradCAM(model, at, relu=False),
            f"guided gradcam {at}": GuidedGradCAM(model, at, **RAW),
        }
    return found
