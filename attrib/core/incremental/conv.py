"""Convolutions, with what follows them folded in, and weights laid out once for the processor at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attrib.core.incremental.steps import Layout, Site


class Norm(NamedTuple):
    """A BatchNorm with fixed statistics: values of its tensors, and epsilon."""

    weight: int | None
    bias: int | None
    mean: int
    variance: int
    eps: float

    def affine(self, values: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        """Scale and shift, in double precision."""
        scale = (values[self.variance].double() + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * values[self.weight].double()
        shift = -values[self.mean].double() * scale
        return scale, shift if self.bias is None else shift + values[self.bias].double()


@dataclass(frozen=True)
class Convolution:
    """A convolution of maps.

    Attributes:
        weight, bias: values of the model's own tensors.
        ready: values of the weight and bias that run.
        stride, pad, dilation, groups: as `torch.conv2d` has them.
        size: of the input in the recorded pass.
        norm: a BatchNorm folded into it.
        relu: whether a ReLU follows.
    """

    weight: int
    bias: int | None
    ready: tuple[int, int]
    stride: Sequence[int]
    pad: Sequence[int]
    dilation: Sequence[int]
    groups: int
    size: tuple[int, ...]
    norm: Norm | None = None
    relu: bool = False

    def with_norm(self, norm: Norm) -> Convolution:
        """The same, followed by a BatchNorm."""
        return replace(self, norm=norm)

    def with_relu(self) -> Convolution:
        """The same, followed by a ReLU."""
        return replace(self, relu=True)

    def run(self, xs: Sequence[Tensor], weights: Mapping[int, Tensor], site: Site) -> Tensor:
        """Convolve whole maps, or windows that come with their halo."""
        w, b = weights[self.ready[0]], weights.get(self.ready[1])
        pad = (0, 0) if site.gathered else self.pad
        if w.is_mkldnn:
            return _packed_run(xs[0], w, b, pad, self.stride, self.dilation, self.groups, self.relu)
        out = torch.conv2d(xs[0], w, b, self.stride, pad, self.dilation, self.groups)
        return out.relu_() if self.relu else out

    def prepare(self, values: dict[int, Tensor], layout: Layout) -> None:
        """Fold, convert and lay out weight and bias."""
        weight, bias = values[self.weight], None if self.bias is None else values[self.bias]
        if self.norm is not None:
            scale, shift = self.norm.affine(values)
            bias = (shift if bias is None else bias.double() * scale + shift).to(weight.dtype)
            weight = weight * scale.to(weight.dtype).reshape(-1, 1, 1, 1)
        order = torch.channels_last if layout.channels_last else torch.contiguous_format
        weight = weight.to(layout.dtype or weight.dtype).contiguous(memory_format=order)
        values[self.ready[0]] = weight if layout.rows is None else self._packed(weight, layout.rows)
        if bias is not None:
            values[self.ready[1]] = bias.to(weight.dtype)

    def _packed(self, weight: Tensor, rows: int) -> Tensor:
        """The weight in the blocked layout of oneDNN, which torch would otherwise make anew in every call.

        The layout suits one size of map; with another oneDNN would convert it in every call, which takes longer.
        """
        lists = (list(self.pad), list(self.stride), list(self.dilation), self.groups, [rows, *self.size[1:]])
        return torch._C._nn.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), *lists)  # type: ignore[call-arg]


def can_pack(weight: Tensor) -> bool:
    """Whether this torch has the oneDNN convolutions that its own compiler uses, for such a weight."""
    known = hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
    known = known and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    known = known and torch._C._has_mkldnn and torch._C._get_mkldnn_enabled()
    return known and weight.device.type == "cpu" and weight.dtype == torch.float32


def _packed_run(
    x: Tensor, w: Tensor, b: Tensor | None, pad: Any, stride: Any, dilation: Any, groups: int, relu: bool
) -> Tensor:
    after = "relu" if relu else "none"
    out: Tensor = torch.ops.mkldnn._convolution_pointwise(x, w, b, pad, stride, dilation, groups, after, [], "")
    return out
