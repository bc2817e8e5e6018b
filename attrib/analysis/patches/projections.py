"""Single activations projected back to the input: what in a picture made this unit respond here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from attrib import checks
from attrib.core.attribution import Attribution
from attrib.core.objectives.watched import Unit
from attrib.methods.deconvnet import Deconvnet
from attrib.methods.guided import GuidedBackprop
from attrib.methods.saliency import Saliency

Projection = Literal["deconvnet", "guided", "saliency"]
PROJECTIONS: dict[str, type[Attribution]] = {"deconvnet": Deconvnet, "guided": GuidedBackprop, "saliency": Saliency}


def project(model: Callable[..., Any], inputs: Tensor, unit: Unit, name: str) -> tuple[Tensor, Tensor]:
    """Project one unit of each example back to the input, all other activations of its layer at zero.

    Convention:
        - ``"deconvnet"`` rectifies on the way down, ``"guided"`` rectifies where also the forward pass did, and
          ``"saliency"`` is the plain gradient; all keep colours and signs, and start with 1 at the unit.
        - of a layer with no activation function between it and the input, all three are the plain gradient.

    Returns:
        The projections ``(N, C, H, W)`` and the units' activations ``(N,)``.

    Raises:
        RuleError: there are activation functions on the way, but none for which the method has a rule.
    """
    method = PROJECTIONS[checks.choice("project", name, tuple(PROJECTIONS))](model)
    override = getattr(method, "override", None)
    with method.asking(inputs, unit) as query:
        found = query.gradient(override=override, check=False)
        if found.coverage is not None and any((found.coverage.overrode, found.coverage.escaped, found.coverage.left)):
            found.coverage.check()
    return found.grad[0], found.score
