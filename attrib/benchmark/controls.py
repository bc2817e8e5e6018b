"""Control maps: they ignore the model and the target, so a method that does not beat them explains nothing."""

from __future__ import annotations

import hashlib
from abc import ABC
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, Query
from attrib.registry import CONTROLS


class Control(Attribution, ABC):
    """A map that knows nothing of the model: called like a method, without a single pass through the model.

    ``target`` is accepted and ignored. Controls live in `attrib.registry.CONTROLS`, not among the methods, because they
    break on purpose what methods promise (the target matters, the layer matters).

    Attributes:
        seeded: whether ``seed`` is an argument and changes the map.
    """

    seeded: ClassVar[bool] = False


@CONTROLS.add("random")
class RandomMap(Control):
    """Independent uniform noise in every pixel.

    Convention:
        - map: ``(N, 1, H, W)`` in ``[0, 1)``.
        - drawn from ``seed`` and the *content* of each image (not its place in the batch): the same image gets the same
          map in any batch, another image another one.

    Cost: no pass.

    Args:
        model: see `Control`.
        layer: see `Control`.
        seed: same seed and image, same map; the global RNG is not touched.

    Example:
        >>> RandomMap(model, seed=1).attribute(x).shape
        torch.Size([2, 1, 12, 12])
    """

    seeded = True

    def __init__(self, model: Callable[..., Any], layer: str | nn.Module | None = None, *, seed: int = 0) -> None:
        super().__init__(model, layer)
        self.seed = checks.integer("seed", seed, 0)

    def _attribute(self, query: Query) -> Tensor:
        noise = [self._noise(image) for image in query.image]
        return torch.stack(noise).to(query.image)

    def _noise(self, image: Tensor) -> Tensor:
        content = image.cpu().double().contiguous().numpy().tobytes()
        digest = hashlib.blake2b(f"{self.seed} ".encode() + content, digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
        return torch.rand(1, *image.shape[1:], generator=generator, dtype=torch.float64)


@CONTROLS.add("centre")
class CentreGaussian(Control):
    r"""A Gaussian hill in the middle of the image, where photographers put their subject.

    .. math:: M_{hw} = \exp\Big(-\tfrac{1}{2} \big(\tfrac{h - c_H}{\sigma H}\big)^2
        - \tfrac{1}{2} \big(\tfrac{w - c_W}{\sigma W}\big)^2\Big)

    Convention:
        - map: ``(N, 1, H, W)`` in ``(0, 1]``, the same for every image; as wide as the image is, so an ellipse where
          that is not square.

    Cost: no pass.

    Args:
        model: see `Control`.
        layer: see `Control`.
        sigma: width of the hill as a fraction of each side, > 0.

    Example:
        >>> centre = CentreGaussian(model).attribute(x)
        >>> bool((centre[:, :, 5:7, 5:7] == centre.amax()).all())
        True
    """

    def __init__(self, model: Callable[..., Any], layer: str | nn.Module | None = None, *, sigma: float = 0.25) -> None:
        super().__init__(model, layer)
        self.sigma = checks.number("sigma", sigma, low=1e-3)

    def _attribute(self, query: Query) -> Tensor:
        x = query.image
        down, across = (self._hill(size) for size in x.shape[2:])
        return (down[:, None] * across).to(x).expand(len(x), 1, -1, -1)

    def _hill(self, size: int) -> Tensor:
        place = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
        return torch.exp(-((place / (self.sigma * size)) ** 2) / 2)


@CONTROLS.add("edges")
class EdgeMagnitude(Control):
    r"""Strength of the edges of the grey image: what a map shows that is only an edge detector.

    .. math:: M = \sqrt{(S_x * g)^2 + (S_y * g)^2}, \qquad g = \tfrac{1}{C} \sum_c x_c

    with the Sobel kernels :math:`S_x, S_y`.

    Convention:
        - map: ``(N, 1, H, W)``, >= 0, in the input's unit; computed on the model-ready input, where no channel is known
          to be red, so that all count alike.
        - the image is repeated beyond its border, which is therefore no edge.

    Cost: no pass.

    Args:
        model: see `Control`.
        layer: see `Control`.

    Example:
        >>> bool(EdgeMagnitude(model).attribute(torch.ones(1, 3, 8, 8)).any())
        False
    """

    def _attribute(self, query: Query) -> Tensor:
        grey = F.pad(query.image.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        smooth, slope = grey.new_tensor([1.0, 2.0, 1.0]), grey.new_tensor([-1.0, 0.0, 1.0])
        sobel = torch.stack([smooth[:, None] * slope, slope[:, None] * smooth])
        strength: Tensor = torch.linalg.vector_norm(F.conv2d(grey, sobel[:, None]), dim=1, keepdim=True)
        return strength


def make_controls(
    model: Callable[..., Any], seeds: Sequence[int] = (0, 1, 2), names: Sequence[str] | None = None
) -> dict[str, list[Control]]:
    """Make the control rows of a comparison: one instance of each control, one for each seed where it has one.

    Args:
        model: the explained model; only its input matters.
        seeds: for controls that are random; their scores are averaged image by image.
        names: which of `attrib.registry.CONTROLS`; None takes all.

    Example:
        >>> {name: len(row) for name, row in make_controls(model).items()}
        {'centre': 1, 'edges': 1, 'random': 3}
    """
    kinds = {name: CONTROLS[name] for name in (CONTROLS if names is None else names)}
    return {
        name: [kind(model, seed=seed) for seed in seeds] if kind.seeded else [kind(model)]
        for name, kind in kinds.items()
    }
