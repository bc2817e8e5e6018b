"""Gradients of noisy copies: their mean, their mean square, their variance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from attrib import checks
from attrib.core import Query
from attrib.core.reduce import Channels
from attrib.interop.presets.sampled import Sampled, drawn
from attrib.registry import METHODS


class _Noisy(Sampled):
    """Gradients of noisy copies; the noise of copy ``k`` is the same for every example."""

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        noise: float = 0.15,
        n_samples: int = 50,
        batch_size: int = 16,
        seed: int = 0,
        channels: Channels = "sum",
    ) -> None:
        super().__init__(model, layer, n_samples=n_samples, batch_size=batch_size, seed=seed, channels=channels)
        self.noise = checks.number("noise", noise, 0)

    def _terms(self, query: Query, row: Tensor, sources: Sequence[np.random.Generator]) -> tuple[Tensor, ...]:
        copies = []
        for x in (x[row] for x in query.inputs):
            noise = drawn([source.standard_normal(x.shape[1:], np.float32) for source in sources], x)
            copies.append(x + self.noise * (x.max() - x.min()) * noise)
        return self._slopes(query, row, tuple(copies))


@METHODS.add("smoothgrad")
class SmoothGrad(_Noisy):
    r"""Which pixels change the score most, on average over noisy copies of the input.

    .. math:: M_{hw} = \max_c \Bigl| \frac{1}{n} \sum_{k=1}^{n}
        \frac{\partial S}{\partial x_{chw}}(x + \epsilon_k) \Bigr|, \quad
        \epsilon_k \sim \mathcal{N}(0, \sigma^2), \quad \sigma = \mathrm{noise} \cdot (\max x - \min x)

    Convention:
        - map: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``; unit: score per unit of input.
        - signed gradients are averaged, as in the paper; the absolute value comes after that.
        - the noise is measured against each example's own range of values.
        - the noise of copy ``k`` follows from ``seed`` and ``k`` alone: the same for every example, at any
          ``batch_size``.

    Cost: ``n_samples`` forward and backward passes, and one forward pass.

    Args:
        model: see `Attribution`.
        layer: explain this layer's activations instead of the inputs; the noise stays at the inputs.
        noise: standard deviation, as a fraction of the range of the example's values, >= 0.
        n_samples: noisy copies, >= 1.
        batch_size: rows in one pass, >= 1; it bounds the memory.
        seed: same seed, same map; the global random states are not touched.
        channels: ``"max"``, ``"mean"``, ``"sum"``, ``"l2"`` or ``"none"``.
        absolute: take absolute values of the mean gradient before reducing.

    Example:
        >>> SmoothGrad(model).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Smilkov, Thorat, Kim, Viegas, Wattenberg, "SmoothGrad: removing noise by adding noise", 2017, section 3.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        noise: float = 0.15,
        n_samples: int = 50,
        batch_size: int = 16,
        seed: int = 0,
        channels: Channels = "max",
        absolute: bool = True,
    ) -> None:
        super().__init__(
            model, layer, noise=noise, n_samples=n_samples, batch_size=batch_size, seed=seed, channels=channels
        )
        self.absolute = checks.boolean("absolute", absolute)


@METHODS.add("smoothgrad_squared")
class SmoothGradSquared(_Noisy):
    r"""Which pixels have large slopes in the surroundings of the input, whatever their sign.

    .. math:: M_{hw} = \sum_c \frac{1}{n} \sum_{k=1}^{n}
        \Bigl( \frac{\partial S}{\partial x_{chw}}(x + \epsilon_k) \Bigr)^2

    Convention:
        - map: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``; never negative;
          unit: (score per unit of input) squared.
        - it is the square of the mean gradient plus the variance that `VarGrad` shows.
        - noise and seed are those of `SmoothGrad`.

    Cost: ``n_samples`` forward and backward passes, and one forward pass.

    Args:
        model: see `Attribution`.
        layer: explain this layer's activations instead of the inputs; the noise stays at the inputs.
        noise: standard deviation, as a fraction of the range of the example's values, >= 0.
        n_samples: noisy copies, >= 1.
        batch_size: rows in one pass, >= 1; it bounds the memory.
        seed: same seed, same map; the global random states are not touched.
        channels: ``"sum"``, ``"max"``, ``"mean"``, ``"l2"`` or ``"none"``.

    Example:
        >>> SmoothGradSquared(model).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Hooker, Erhan, Kindermans, Kim, "A Benchmark for Interpretability Methods in Deep Neural Networks", NeurIPS
        2019, section 4.
    """

    def _terms(self, query: Query, row: Tensor, sources: Sequence[np.random.Generator]) -> tuple[Tensor, ...]:
        return tuple(slopes.square() for slopes in super()._terms(query, row, sources))


@METHODS.add("vargrad")
class VarGrad(_Noisy):
    r"""Where the slope of the score changes most in the surroundings of the input.

    .. math:: M_{hw} = \sum_c \operatorname{Var}_k
        \Bigl( \frac{\partial S}{\partial x_{chw}}(x + \epsilon_k) \Bigr)

    Convention:
        - map: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``; never negative;
          unit: (score per unit of input) squared.
        - zero where the score is linear in the input: a pixel can matter much and have no variance.
        - the variance is the mean square minus the squared mean (divided by ``n``, not ``n - 1``), as in Captum, summed
          in float64; where rounding makes that negative, it is 0.
        - noise and seed are those of `SmoothGrad`.

    Cost: ``n_samples`` forward and backward passes, and one forward pass.

    Args:
        model: see `Attribution`.
        layer: explain this layer's activations instead of the inputs; the noise stays at the inputs.
        noise: standard deviation, as a fraction of the range of the example's values, >= 0.
        n_samples: noisy copies, >= 2.
        batch_size: rows in one pass, >= 1; it bounds the memory.
        seed: same seed, same map; the global random states are not touched.
        channels: ``"sum"``, ``"max"``, ``"mean"``, ``"l2"`` or ``"none"``.

    Example:
        >>> VarGrad(model).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Adebayo, Gilmer, Goodfellow, Kim, "Local Explanation Methods for Deep Neural Networks Lack Sensitivity to
        Parameter Values", ICLR workshop 2018, section 2.
    """

    fewest = 2

    def _terms(self, query: Query, row: Tensor, sources: Sequence[np.random.Generator]) -> tuple[Tensor, ...]:
        slopes = super()._terms(query, row, sources)
        return *slopes, *(one.square() for one in slopes)

    def _maps(self, query: Query, rows: Tensor) -> tuple[Tensor, ...]:
        found = super()._maps(query, rows)
        means, squares = found[: len(found) // 2], found[len(found) // 2 :]
        return tuple((s - m.square()).clamp(min=0) for m, s in zip(means, squares, strict=True))
