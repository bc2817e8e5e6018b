"""The filters of a convolution as numbers: whatever holds them, in one layout, with their spectrum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from attrib import checks
from attrib.core.network.frozen import frozen
from attrib.core.network.layers import Address, modules_of, resolve, unwrap
from attrib.errors import LayerError, ModelError

GRID = {1: 64, 2: 32, 3: 16}  # points of the spectrum along each axis, at least
AT_ONCE = 2**23  # numbers of the spectrum of single channels that are held at one time


@dataclass(frozen=True, eq=False)
class Kernels:
    """The filters of one convolution.

    Attributes:
        layer: its name.
        kind: class of the module.
        weight: ``(K, C, *kernel)``, K filters of C input channels each (C is the channels of one group), a copy.
        stride: one number for each axis of the kernel.
        dilation: one number for each axis of the kernel.
        groups: of channels; the filters ``K / groups * i`` and the next ones read the channels of group i.
        transposed: the stride makes the output larger.
    """

    layer: str
    kind: str
    weight: Tensor
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    transposed: bool = False

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def size(self) -> tuple[int, ...]:
        """Of the kernel."""
        return tuple(self.weight.shape[2:])

    @cached_property
    def group(self) -> Tensor:
        """Which group each filter belongs to, ``(K,)``."""
        return torch.arange(len(self)).div(len(self) // self.groups, rounding_mode="floor")

    @cached_property
    def sources(self) -> Tensor:
        """The input channel that each slice of a filter reads, ``(K, C)``."""
        width = self.weight.shape[1]
        return self.group[:, None] * width + torch.arange(width)

    @cached_property
    def norm(self) -> Tensor:
        """Euclidean length of each filter, ``(K,)``."""
        norm: Tensor = torch.linalg.vector_norm(self.weight.flatten(1), dim=1)
        return norm

    @cached_property
    def spectrum(self) -> Spectrum | None:
        """Where the energy of each filter is; None of kernels with one point, which have no spectrum."""
        return _spectrum(self)

    def said(self) -> str:
        """What it is, in words."""
        size, stride = ("x".join(map(str, sides)) for sides in (self.size, self.stride))
        groups = "" if self.groups == 1 else f" in {self.groups} groups"
        made = f"{len(self)} filters of {self.weight.shape[1]} x {size}{groups}, stride {stride}"
        return f"{self.layer} ({self.kind}): {made}"


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Energy by frequency, summed over the input channels of a filter.

    Attributes:
        power: ``(K, P)`` at P frequencies, an even grid over all that a picture can hold.
        frequency: of each, ``(axes, P)`` in cycles per pixel from -0.5 to 0.5; axes of size 1 are left out.
        axes: which axes of the kernel these are.
        shape: of the grid.
    """

    power: Tensor
    frequency: Tensor
    axes: tuple[int, ...]
    shape: tuple[int, ...]

    @cached_property
    def radius(self) -> Tensor:
        """Distance from frequency 0, ``(P,)`` in cycles per pixel."""
        radius: Tensor = torch.linalg.vector_norm(self.frequency, dim=0)
        return radius

    @cached_property
    def share(self) -> Tensor:
        """The energy as a part of the filter's own, ``(K, P)``; NaN for a filter that is zero."""
        share: Tensor = self.power / self.power.sum(1, keepdim=True)
        return share

    @cached_property
    def centroid(self) -> Tensor:
        """Mean frequency of the energy, ``(K,)`` in cycles per pixel; NaN for a filter that is zero."""
        return self.share @ self.radius

    @cached_property
    def peak(self) -> Tensor:
        """The frequency with the most energy, ``(K, axes)``."""
        return self.frequency[:, self.power.argmax(1)].T

    def above(self, stride: tuple[int, ...]) -> Tensor:
        """Part of the energy at frequencies that an output with this ``stride`` per axis cannot hold, ``(K,)``.

        That is where any axis is beyond ``1 / (2 * stride)`` cycles per pixel. Exact: the energy inside that box is the
        filter's autocorrelation against a product of sincs.
        """
        axes = tuple(range(1, 1 + len(self.axes)))
        autocorrelation = torch.fft.ifftn(self.power.reshape(-1, *self.shape), dim=axes).real
        inside = autocorrelation
        for axis, points, step in zip(axes, self.shape, (stride[axis] for axis in self.axes), strict=True):
            lag = torch.fft.fftfreq(points, 1 / points, dtype=self.power.dtype)
            shape = [-1 if i == axis else 1 for i in range(inside.ndim)]
            inside = inside * (torch.sinc(lag / step) / step).reshape(shape)
        beyond: Tensor = 1 - inside.flatten(1).sum(1) / autocorrelation.flatten(1)[:, 0]
        return beyond.clamp(0, 1)


def read_kernels(model: Callable[..., Any], layer: str | nn.Module | None = None) -> Kernels:
    """Read the filters of ``layer``, or of the first convolution of the model.

    Convention:
        - filters are output channels, also of a transposed convolution, whose weights are stored the other way round.
        - weights that are computed (weight norm, spectral norm, parametrisations, pruning) are those that a forward
          pass in evaluation mode uses; quantised ones are put back to numbers. float64 stays, others become float32.

    Raises:
        LayerError: the layer is not a convolution, or the model has none.
        ModelError: its weights are not there yet, or not finite.

    Example:
        >>> read_kernels(model).said()
        'stem (Conv2d): 4 filters of 3 x 3x3, stride 1x1'
    """
    network = unwrap(model)
    known = modules_of(network)
    name = _first(network, known) if layer is None else Address.parse(resolve(network, layer)).name
    module = known[name]
    if not _is_convolution(module):
        some = [repr(other) for other, one in known.items() if _is_convolution(one)][:3]
        hint = f"The first convolutions are {', '.join(some)}." if some else "The model has none."
        raise LayerError(f"layer must be a convolution; {name!r} is a {type(module).__name__}. {hint}")
    with frozen(network), torch.no_grad():
        weight = _numbers(_weight(module), name)
    transposed = bool(getattr(module, "transposed", False))
    groups = int(module.groups)  # type: ignore[arg-type]  # all convolutions have these
    if transposed:  # (in, out / groups, *kernel)
        weight = torch.cat([part.transpose(0, 1) for part in weight.chunk(groups)])
    stride, dilation = ((tuple(side),) for side in (module.stride, module.dilation))  # type: ignore[arg-type]
    return Kernels(name, type(module).__name__, weight.contiguous(), *stride, *dilation, groups, transposed)


def _first(network: Callable[..., Any], known: dict[str, nn.Module]) -> str:
    for name, module in known.items():
        if _is_convolution(module):
            return name
    raise LayerError(f"the model must have a convolution; {type(network).__name__} has none among its modules.")


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd) or ("Conv" in type(module).__name__ and callable(getattr(module, "weight", 0)))


def _weight(module: nn.Module) -> Tensor:
    """The weight that the next forward pass uses."""
    if not isinstance(module, _ConvNd):
        return module.weight()  # type: ignore[operator, no-any-return]  # quantised modules give a copy
    weight = module.weight
    for hook in module._forward_pre_hooks.values():  # the old ways compute it just before each pass
        if getattr(hook, "name", None) == "weight" and hasattr(hook, "compute_weight"):
            weight = hook.compute_weight(module, *([False] if hasattr(hook, "n_power_iterations") else []))
        elif getattr(hook, "_tensor_name", None) == "weight" and hasattr(hook, "apply_mask"):
            weight = hook.apply_mask(module)
    return weight


def _numbers(weight: Tensor, name: str) -> Tensor:
    if weight.is_meta:
        raise ModelError(f"the weights of {name!r} must be there; they are not initialised. Run the model once first.")
    if weight.is_complex():
        raise LayerError(f"layer must have real weights; those of {name!r} are {weight.dtype}.")
    weight = weight.dequantize() if weight.is_quantized else weight.detach()
    found = weight.to("cpu", torch.float64 if weight.dtype == torch.float64 else torch.float32, copy=True)
    if not checks.finite(found):
        bad = int((~torch.isfinite(found)).sum())
        raise ModelError(f"the weights of {name!r} must be finite; {bad} of {found.numel()} are NaN or infinite.")
    return found


def _spectrum(kernels: Kernels) -> Spectrum | None:
    axes = tuple(i for i, size in enumerate(kernels.size) if size > 1)
    if not axes:
        return None
    reach = [kernels.dilation[i] * (kernels.size[i] - 1) + 1 for i in axes]
    # at least twice the kernel, so that the autocorrelation does not wrap around
    shape = tuple(max(GRID[len(axes)], 2 ** math.ceil(math.log2(2 * size))) for size in reach)
    weight = kernels.weight.squeeze(tuple(i + 2 for i, size in enumerate(kernels.size) if size == 1))
    spread = weight.new_zeros(*weight.shape[:2], *reach)
    places = tuple(slice(None, None, kernels.dilation[i]) for i in axes)
    spread[(slice(None), slice(None), *places)] = weight
    many = max(1, AT_ONCE // (weight.shape[1] * math.prod(shape)))
    along = tuple(range(2, 2 + len(axes)))
    power = torch.cat([torch.fft.fftn(some, shape, along).abs().square().sum(1) for some in torch.split(spread, many)])
    grids = torch.meshgrid(*(torch.fft.fftfreq(size, dtype=power.dtype) for size in shape), indexing="ij")
    return Spectrum(power.flatten(1), torch.stack(grids).flatten(1), axes, shape)
