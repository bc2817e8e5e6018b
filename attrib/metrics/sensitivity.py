"""How much a map changes when its input changes hardly: sensitivity and local Lipschitz constant."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from attrib import checks
from attrib.errors import InputError
from attrib.metrics.again import Again, MethodMetric, as_given, drawn_for, length
from attrib.registry import METRICS


def neighbours(image: Tensor, radius: float, numbers: Tensor, seed: int) -> Tensor:
    """Copies ``numbers (k,)`` of one example with uniform noise of at most ``radius`` in every value."""
    noise = [torch.rand(image.shape, generator=drawn_for(image, seed, int(k)), dtype=torch.float64) for k in numbers]
    return image + radius * (2 * torch.stack(noise) - 1).to(image)


class NeighbourMetric(MethodMetric):
    """A number from the maps of slightly changed inputs. Subclasses write `read`.

    Args:
        radius: largest change of a value, in the unit of the model's input, > 0.
        samples: changed copies, >= 1.
        seed: same seed and input, same copies; more samples add to them.
    """

    higher_is_better = False
    range = (0.0, math.inf)
    descriptor = True  # the most robust map of all is the one that never changes

    def __init__(self, *, radius: float = 0.02, samples: int = 10, seed: int = 0) -> None:
        self.radius = checks.number("radius", radius, 0)
        if self.radius == 0:
            raise InputError(f"radius must be above 0; got {radius!r}. For repetitions take 'reproducibility'.")
        self.samples = checks.integer("samples", samples, 1)
        self.seed = checks.integer("seed", seed, 0)

    def measure(self, again: Again, maps: Tensor) -> Tensor:
        """Distances of maps and of inputs, `read`; NaN where the map is zero."""
        n, x = len(maps), again.x
        example = torch.arange(n).repeat_interleave(self.samples)
        change, step = torch.empty(2, n * self.samples, dtype=torch.float64)

        def copies(rows: Tensor) -> Tensor:
            found = [neighbours(x[example[r]], self.radius, r[None] % self.samples, self.seed) for r in rows]
            moved = torch.cat(found)
            step[rows] = length((moved - x[example[rows].to(x.device)]).double()).cpu()
            return moved

        for rows, found in again.ask(example, copies):
            change[rows] = length(as_given(found, maps) - maps[example[rows]])
        size = length(maps)
        read = self.read(change.reshape(n, -1), step.reshape(n, -1), size)
        return read.masked_fill(size == 0, float("nan"))

    @abstractmethod
    def read(self, change: Tensor, step: Tensor, size: Tensor) -> Tensor:
        """Return ``(N,)`` from the distances ``(N, K)`` of maps and of inputs, and the size ``(N,)`` of the maps."""


@METRICS.add("max_sensitivity")
class MaxSensitivity(NeighbourMetric):
    r"""By how much, at most, does the map change when the input changes hardly? As a share of its size.

    .. math:: s = \max_{k = 1 \dots K} \frac{\lVert M(x + \delta_k) - M(x) \rVert}{\lVert M(x) \rVert}, \qquad
        \delta_k \sim U(-r, r)^{C \times H \times W}

    Convention:
        - in [0, infinity), a share of the map's Euclidean norm; lower is more robust, which is not better by itself: a
          map that ignores its input has 0. A descriptor: nothing is ranked by it.
        - the maximum over a sample: the true one is higher, and more samples can only raise it.
        - ``radius`` is in the unit of the model's input: 0.02 of a normalised image is about one grey level of 255.
          Copies are not clipped to the range of pictures.
        - NaN where the map is zero. Captum divides by 1 there.
        - numbers of different radii do not compare.

    Cost: one forward pass, and ``samples`` maps.

    Args:
        radius: largest change of a value, > 0.
        samples: changed copies, >= 1.
        seed: same seed and input, same copies; more samples add to them.

    Example:
        >>> from attrib.methods import Saliency
        >>> method = Saliency(model)
        >>> maps = method.attribute(x, target=3)
        >>> MaxSensitivity(samples=4).score(model, x, 3, maps, method=method).shape
        torch.Size([2])

    References:
        Yeh, Hsieh, Suggala, Inouye, Ravikumar, "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019:
        max-sensitivity; here relative to the norm of the map, as in Captum.
    """

    def read(self, change: Tensor, step: Tensor, size: Tensor) -> Tensor:  # noqa: ARG002  its share is of the map
        """Largest share."""
        return change.amax(1) / size


@METRICS.add("average_sensitivity")
class AverageSensitivity(NeighbourMetric):
    r"""By how much, on average, does the map change when the input changes hardly? As a share of its size.

    .. math:: s = \frac{1}{K} \sum_{k=1}^{K} \frac{\lVert M(x + \delta_k) - M(x) \rVert}{\lVert M(x) \rVert}, \qquad
        \delta_k \sim U(-r, r)^{C \times H \times W}

    Convention:
        - as `MaxSensitivity`, of the same copies; the mean has less noise, and converges with more samples.
        - NaN where the map is zero.

    Cost: one forward pass, and ``samples`` maps.

    Args:
        radius: largest change of a value, > 0.
        samples: changed copies, >= 1.
        seed: same seed and input, same copies; more samples add to them.

    Example:
        >>> from attrib.methods import Saliency
        >>> method = Saliency(model)
        >>> maps = method.attribute(x, target=3)
        >>> mean, highest = (
        ...     metric(samples=4).score(model, x, 3, maps, method=method)
        ...     for metric in (AverageSensitivity, MaxSensitivity)
        ... )
        >>> bool((mean <= highest).all())
        True

    References:
        Bhatt, Weller, Moura, "Evaluating and Aggregating Feature-based Model Explanations", IJCAI 2020;
        with the norm of Yeh et al., NeurIPS 2019.
    """

    def read(self, change: Tensor, step: Tensor, size: Tensor) -> Tensor:  # noqa: ARG002  its share is of the map
        """Mean share."""
        return change.mean(1) / size


@METRICS.add("local_lipschitz")
class LocalLipschitz(NeighbourMetric):
    r"""How fast, at most, does the map change with the input? Distance of maps over distance of inputs.

    .. math:: s = \max_{k = 1 \dots K} \frac{\lVert M(x + \delta_k) - M(x) \rVert}{\lVert \delta_k \rVert}, \qquad
        \delta_k \sim U(-r, r)^{C \times H \times W}

    Convention:
        - in [0, infinity), in units of the map per unit of the input: it grows with the scale of the map, so that
          methods of different units do not compare. `MaxSensitivity` does not.
        - the maximum over a sample, of the same copies as `MaxSensitivity`: a lower bound of the constant, which the
          paper searches by optimisation.
        - lower is more robust; a descriptor, as a constant map has 0.
        - NaN where the map is zero.

    Cost: one forward pass, and ``samples`` maps.

    Args:
        radius: largest change of a value, > 0.
        samples: changed copies, >= 1.
        seed: same seed and input, same copies; more samples add to them.

    Example:
        >>> from attrib.methods import Saliency
        >>> method = Saliency(model)
        >>> maps = method.attribute(x, target=3)
        >>> LocalLipschitz(samples=4).score(model, x, 3, maps, method=method).shape
        torch.Size([2])

    References:
        Alvarez-Melis, Jaakkola, "On the Robustness of Interpretability Methods", WHI at ICML 2018.
    """

    def read(self, change: Tensor, step: Tensor, size: Tensor) -> Tensor:  # noqa: ARG002  its unit is the map's
        """Largest ratio; inputs that rounding left where they were say nothing."""
        return torch.where(step > 0, change / step, 0.0).amax(1)
