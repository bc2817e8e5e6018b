"""A network that makes or changes pictures: its pixels, its names, and the passes that tell what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core.network.layers import unwrap
from attrib.core.objectives.objective import ClassScore, Objective, Predicted
from attrib.core.query import Query, rows_of
from attrib.core.synth import PixelSpace
from attrib.errors import InputError, ModelError
from attrib.io.loaded import LoadedModel

Network: TypeAlias = "LoadedModel | Callable[..., Any]"
BATCH = 32  # examples in a pass, unless said
ROUNDING = 1e-4  # pixels: more than float32 loses on the way to the input and back, less than a grey level of 255


@dataclass(frozen=True, eq=False)
class Subject:
    """A network, and how pictures become its inputs.

    Attributes:
        model: unwrapped.
        space: pixels and inputs.
        names: of the classes, if they are known.
        extra: further arguments of the model.
        batch_size: examples in a pass.
    """

    model: Callable[..., Any]
    space: PixelSpace
    names: tuple[str, ...] | None = None
    extra: tuple[Any, ...] = ()
    batch_size: int = BATCH

    @classmethod
    def of(cls, model: Network, pixels: PixelSpace | None, extra: object = None, batch_size: int = BATCH) -> Subject:
        """Read what users pass as ``model``, ``pixels``, ``additional_forward_args`` and ``batch_size``."""
        names: tuple[str, ...] | None = None
        if isinstance(model, LoadedModel):
            if pixels is None and model.mean is not None and model.std is not None:
                pixels = PixelSpace(model.mean, model.std)
            names, model = model.categories, model.model
        given: tuple[object, object] = model, pixels
        if not callable(given[0]):
            raise InputError(f"model must be a LoadedModel, an nn.Module or a callable; got {type(model).__name__}.")
        if not isinstance(pixels, PixelSpace):
            raise InputError(
                f"pixels must be a PixelSpace, which says how inputs are normalised; got {pixels!r}. "
                "Pass PixelSpace(mean, std), or PixelSpace() if the inputs are pixels in [0, 1]."
            )
        size = checks.integer("batch_size", batch_size, 1)
        return cls(unwrap(model), pixels, names, checks.arguments(extra), size)

    @property
    def like(self) -> Tensor:
        """A tensor of the network's dtype, on its device."""
        weights = self.model.parameters() if isinstance(self.model, nn.Module) else ()
        return next((w for w in weights if w.is_floating_point() and w.ndim), torch.zeros(0)).detach()

    def placed(self, x: Tensor) -> Tensor:
        """Inputs in the network's dtype, on its device; as they are where it has no weights to tell."""
        return x.detach().to(self.like) if len(self.like) else x.detach()

    def picture(self, x: Tensor) -> Tensor:
        """The pixels of inputs, which must lie between black and white."""
        found = self.space.to_picture(x)
        low, high = float(found.min()), float(found.max())
        if low < -ROUNDING or high > 1 + ROUNDING:
            raise InputError(
                f"inputs must be pictures, with pixels in [0, 1]; got [{low:.3g}, {high:.3g}]. "
                "Does pixels= say how they were normalised?"
            )
        return found.clamp(0, 1)

    def chances(self, x: Tensor) -> Tensor:
        """Probability of every class, ``(N, C)``."""
        parts = [part._chances(x[rows]) for rows, part in self.pieces(x)]
        if len({part.shape[1] for part in parts}) > 1:
            raise InputError(
                "additional_forward_args must have one entry for each example; the number of classes depends on how "
                "many there are. Keep what all examples share, such as the texts of classes, inside the model."
            )
        return torch.cat(parts)

    def _chances(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            output, _ = self._query(x).run((x.clone(),))
        if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[1] < 2:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ModelError(f"the model must give scores (N, C) of at least two classes; got {got}. Wrap it.")
        if not checks.finite(output):
            raise ModelError("the model's scores must be finite; got NaN or infinite values. Check the weights.")
        return output.softmax(1)

    def slope(self, picture: Tensor, goal: ClassScore) -> Tensor:
        """Gradient of a score with respect to the pixels."""
        return torch.cat([part._slope(picture[rows], goal.rows(rows)) for rows, part in self.pieces(picture)])

    def _slope(self, picture: Tensor, goal: Objective) -> Tensor:
        (found,) = self._query(self.space.to_input(picture), goal).gradient().grad
        if not checks.finite(found):
            raise ModelError(
                "the gradient must be finite; got NaN or infinite values. Try float64, or check the model."
            )
        return replace(self.space, mean=0.0).to_input(found)  # the chain rule through (p - mean) / std

    def pieces(self, x: Tensor) -> Iterator[tuple[Tensor, Subject]]:
        """Numbers of the examples of ``x``, so many at a time as go into a pass, and the subject for them."""
        for rows in torch.split(torch.arange(len(x), device=x.device), self.batch_size):
            yield rows, self.rows(x, rows)

    def rows(self, x: Tensor, index: Tensor) -> Subject:
        """The same for some examples of ``x``: further arguments with one entry per example follow."""
        return replace(self, extra=rows_of(self.extra, index, len(x)))

    def _query(self, x: Tensor, goal: Objective | None = None) -> Query:
        return Query(self.model, (x,), goal or Predicted(), None, self.extra)

    def label(self, index: int) -> str:
        """What a class is called."""
        return self.names[index] if self.names is not None and index < len(self.names) else f"class {index}"
