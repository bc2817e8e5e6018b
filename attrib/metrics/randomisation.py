"""Model randomisation: does a map still look the same once the model has forgotten what it learnt?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution
from attrib.metrics.again import Again, MethodMetric, Rows, as_given, similarity
from attrib.metrics.weights import How, copy_of, put, renew, weighted_layers
from attrib.registry import METRICS

Order = Literal["cascading", "independent"]


@dataclass(frozen=True, eq=False)
class RandomisationCurve:
    """How similar maps stay while a model is randomised.

    Attributes:
        layers: the layer that each step adds (cascading) or randomises alone (independent), from the output to the
            input; ``""`` are weights of the model itself.
        similarity: Spearman's correlation with the map of the trained model, ``(L, S, N)`` for layers, seeds and
            examples; NaN where one of the two maps is constant.
        constant: whether the trained model's map is constant, ``(N,)``.
    """

    layers: tuple[str, ...]
    similarity: Tensor
    constant: Tensor

    @property
    def mean(self) -> Tensor:
        """Over seeds, ``(L, N)``: a constant map of a randomised model counts as 0, not similar at all."""
        return self.similarity.nan_to_num(0.0).mean(1).masked_fill(self.constant, float("nan"))


@METRICS.add("model_randomisation")
class ModelRandomisation(MethodMetric):
    r"""How similar is the map to that of a model whose weights are random? Spearman's correlation.

    .. math:: s = \frac{1}{L S} \sum_{l=1}^{L} \sum_{i=1}^{S} \rho\bigl(M(f), M(f_{l,i})\bigr)

    Convention:
        - in [-1, 1]; near 0 is right and lower is better: a map that stays the same does not explain what the model has
          learnt. Values above 0.5 are a warning; maps that ignore the model have 1, as all controls do.
        - ``order="cascading"`` randomises from the output towards the input, all layers down to one in each step;
          ``"independent"`` one layer in each step, the others stay as trained.
        - layers are modules with weights of their own, in the order in which a forward pass uses them; ``steps`` of
          them are spread evenly from the last to the first, None is every layer.
        - ``how="reset"`` calls each module's own ``reset_parameters``, BatchNorm's forgets its statistics too;
          ``"permute"`` shuffles each weight's values and leaves statistics. Modules without ``reset_parameters``
          are always shuffled.
        - a weight used in two places changes in both.
        - the model is copied; the copy of a seed has the same random weights in a layer whatever the order.
        - ``absolute=True`` compares the sizes of values; a map that merely changes its sign is then the same.
        - a constant map of a randomised model counts as 0; NaN where the trained model's map is constant.

    Cost: one forward pass, one of a single example, and ``steps * seeds`` maps.

    Args:
        order: ``"cascading"`` or ``"independent"``.
        steps: layers at which maps are made, >= 1; None for all.
        seeds: draws of random weights, >= 1; one draw can be lucky.
        how: ``"reset"`` or ``"permute"``.
        absolute: drop the signs of maps first.
        seed: the first of the seeds; the global random states are not touched.

    Example:
        >>> from attrib.methods import Saliency
        >>> method = Saliency(model)
        >>> maps = method.attribute(x, target=3)
        >>> ModelRandomisation(steps=2, seeds=1).score(model, x, 3, maps, method=method).shape
        torch.Size([2])

    References:
        Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3.
    """

    higher_is_better = False
    range = (-1.0, 1.0)

    def __init__(
        self,
        *,
        order: Order = "cascading",
        steps: int | None = 5,
        seeds: int = 2,
        how: How = "reset",
        absolute: bool = False,
        seed: int = 0,
    ) -> None:
        self.order = checks.choice("order", order, ("cascading", "independent"))
        self.steps = None if steps is None else checks.integer("steps", steps, 1)
        self.seeds = checks.integer("seeds", seeds, 1)
        self.how = checks.choice("how", how, ("reset", "permute"))
        self.absolute = absolute
        self.seed = checks.integer("seed", seed, 0)

    def measure(self, again: Again, maps: Tensor) -> Tensor:
        """Mean over layers and seeds."""
        return self.curve(again, maps).mean.mean(0)

    def curve(self, again: Again, maps: Tensor) -> RandomisationCurve:
        """Compare ``maps`` with those of every randomised model."""
        layers = weighted_layers(again.method.model, *again.first())[::-1]
        model, stops = cast(nn.Module, again.method.model), self._stops(len(layers))
        every = torch.arange(len(maps))
        found = torch.empty(len(stops), self.seeds, len(maps), dtype=torch.float64)
        for i in range(self.seeds):
            for step, twin in enumerate(self._randomised(model, layers, stops, self.seed + i)):
                drawn = as_given(again.on(twin).maps(every, lambda rows: again.x[rows.to(again.x.device)]), maps)
                found[step, i] = similarity(drawn, maps, self.absolute)
        return RandomisationCurve(tuple(layers[stop] for stop in stops), found, similarity(maps, maps).isnan())

    def _stops(self, count: int) -> list[int]:
        """Which layers, from the last of the model."""
        if self.steps is None or self.steps >= count:
            return list(range(count))
        if self.steps == 1:
            return [count - 1]
        return [round(i * (count - 1) / (self.steps - 1)) for i in range(self.steps)]

    def _randomised(
        self, model: nn.Module, layers: tuple[str, ...], stops: list[int], seed: int
    ) -> Iterator[nn.Module]:
        """One copy of the model, changed further from step to step."""
        twin, start = copy_of(model), 0
        for stop in stops:
            chosen = layers[start : stop + 1] if self.order == "cascading" else layers[stop : stop + 1]
            for name in chosen:
                renew(twin.get_submodule(name), self.how, seed, name)
            yield twin
            start = stop + 1
            if self.order == "independent":
                put(twin.get_submodule(layers[stop]), model.get_submodule(layers[stop]))


def randomisation_curve(
    method: Attribution,
    x: Tensor,
    target: object = None,
    *,
    additional_forward_args: object = None,
    batch_size: Rows = "auto",
    **settings: Any,
) -> RandomisationCurve:
    """Follow how a method's maps change from layer to layer while its model is randomised.

    Args:
        method: the instance; its model is left as it is.
        x: inputs ``(N, ...)``.
        target: what to explain.
        additional_forward_args: further arguments of the model.
        batch_size: examples in one call of the method.
        settings: of `ModelRandomisation`; every layer is a step unless ``steps`` says otherwise.

    Example:
        >>> from attrib.methods import Saliency
        >>> curve = randomisation_curve(Saliency(model), x, 3, seeds=2)
        >>> curve.layers, curve.similarity.shape
        (('fc', 'conv3', 'conv', 'stem'), torch.Size([4, 2, 2]))
    """
    again = Again.of(method, x, target, additional_forward_args, batch_size)
    maps = again.maps(torch.arange(len(x)), lambda rows: again.x[rows.to(again.x.device)])
    return ModelRandomisation(**{"steps": None, **settings}).curve(again, maps)
