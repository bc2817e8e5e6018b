"""What filters say to data: how strongly and how often they answer, and whether answers move with the picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from attrib.analysis.filters.kernels import Kernels
from attrib.core.backward.activations import CANDIDATES, family_of
from attrib.core.network.layers import modules_of, unwrap
from attrib.core.network.streaming import Data, stream
from attrib.errors import InputError, LayerError

NORMS = ("batch_norm", "group_norm", "instance_norm", "layer_norm")
SQUASHING = ("sigmoid", "tanh", "hardsigmoid", "softplus")
SILENT_BELOW = ("relu", "relu6", "silu", "gelu", "hardswish", "mish")  # nothing, or nearly so, for what is negative
SILENCE = 1e-12  # of what a response could be: what is left of a sum that should be zero
CONVOLVE: tuple[Callable[..., Tensor], ...] = (F.conv1d, F.conv2d, F.conv3d)


@dataclass(frozen=True, eq=False)
class Answers:
    """What each filter said, ``(K,)`` each.

    Attributes:
        path: what stands between the filter and its answer: the convolution, and the normalisation and activation
            behind it.
        highest: over all examples and places.
        lowest: over all examples and places.
        rate: part of the examples with an answer above the floor at any place; NaN where no activation that is silent
            below zero follows, so that there is no floor.
        gain: what BatchNorm multiplies the filter by; 1 without.
        inputs: what the convolution read of the first examples, ``(n, C, *places)``.
        examples: how many there were.
    """

    path: tuple[str, ...]
    highest: Tensor
    lowest: Tensor
    rate: Tensor
    gain: Tensor
    inputs: Tensor
    examples: int


class _Following(TorchFunctionMode):
    """Inside the block, follows what comes out of a convolution through normalisation and the first activation.

    It watches calls, not modules, so that ``F.relu(bn(conv(x)))`` and ``nn.Sequential`` are the same; and it keeps
    maxima instead of maps, which an operation in place may change later.
    """

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.now: Tensor | None = None
        self.path: tuple[str, ...] = ()
        self.gain: Tensor | None = None
        self.input: Tensor | None = None
        self.ends: list[tuple[Tensor, Tensor]] = []  # one for each run of the convolution
        self.hook = conv.register_forward_hook(self._begin)

    def __exit__(self, *error: Any) -> None:
        self.hook.remove()
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def take(self) -> list[tuple[Tensor, Tensor]]:
        """Maxima and minima over places, ``(n, K)`` each, since the last time."""
        found, self.ends, self.now = self.ends, [], None
        return found

    def _begin(self, _module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
        self.input, self.path, self.gain = args[0].detach(), ("convolution",), None
        self.ends.append(_extremes(out))
        self.now = out

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = args[0] if args else kwargs.get("input")
        if self.now is None or given is not self.now:
            return func(*args, **kwargs)
        kind = _kind(func, args, kwargs)
        out = func(*args, **kwargs)
        if kind is not None:
            self.path = (*self.path, kind)
            self.ends[-1] = _extremes(out)
            self.now = out if kind in NORMS else None
            if kind == "batch_norm":
                self.gain = _gain(args, kwargs)
        return out


def _kind(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if func in CANDIDATES:
        return family_of(func, args, kwargs)
    name = getattr(func, "__name__", "").rstrip("_")
    return name if name in NORMS + SQUASHING else None


def _gain(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given = dict(zip(names, args, strict=False)) | kwargs
    if given.get("running_var") is None:  # by the batch: no fixed gain
        return None
    gain: Tensor = (given["running_var"] + given.get("eps", 1e-5)).rsqrt()
    return gain if given.get("weight") is None else gain * given["weight"]


def _extremes(act: Tensor) -> tuple[Tensor, Tensor]:
    flat = act.detach().flatten(2)
    return flat.amax(2).float().cpu(), flat.amin(2).float().cpu()


def listen(
    model: Callable[..., Any],
    data: Data,
    kernels: Kernels,
    *,
    floor: float,
    keep: int,
    batch_size: int = 32,
    show_progress: bool = False,
) -> Answers:
    """Run the model on ``data`` and record how the filters answer; inputs of the first ``keep`` examples stay.

    Raises:
        LayerError: the convolution does not run.
    """
    network = unwrap(model)
    conv = modules_of(network)[kernels.layer]
    heard = _Extremes(len(kernels), floor)
    with _Following(conv) as following:
        for seen in stream(network, data, batch_size=batch_size, show_progress=show_progress):
            ends = following.take()
            if not ends or following.input is None:
                raise LayerError(
                    f"layer {kernels.layer!r} did not run in the forward pass, so its filters say nothing."
                )
            first = following.input[: max(0, keep - heard.examples)].to("cpu", kernels.weight.dtype)
            heard.add(ends, first, len(seen.batch))
    gain = torch.ones(len(kernels)) if following.gain is None else following.gain.detach().abs().float().cpu()
    rated = following.path[-1] in SILENT_BELOW
    rate = heard.fired / heard.examples if rated else torch.full_like(gain, float("nan"))
    return Answers(following.path, heard.highest, heard.lowest, rate, gain, torch.cat(heard.inputs), heard.examples)


class _Extremes:
    """What is kept of all batches."""

    def __init__(self, filters: int, floor: float) -> None:
        self.highest, self.lowest = torch.full((filters,), -torch.inf), torch.full((filters,), torch.inf)
        self.fired, self.floor, self.examples = torch.zeros(filters), floor, 0
        self.inputs: list[Tensor] = []

    def add(self, ends: list[tuple[Tensor, Tensor]], inputs: Tensor, many: int) -> None:
        upper, lower = torch.stack([end[0] for end in ends]).amax(0), torch.stack([end[1] for end in ends]).amin(0)
        self.highest, self.lowest = self.highest.maximum(upper.amax(0)), self.lowest.minimum(lower.amin(0))
        self.fired += (upper > self.floor).sum(0)
        self.inputs.append(inputs)
        self.examples += many


@torch.no_grad()
def shift_error(kernels: Kernels, inputs: Tensor) -> Tensor:
    r"""Tell how far answers are from moving with the picture, ``(K,)`` in [0, 1] up to rounding.

    .. math:: e = \max_a \frac{\sum_d \lVert O_d - T_{d/s} O_0 \rVert^2}
        {\sum_d (\lVert O_d \rVert^2 + \lVert O_0 \rVert^2)}

    Here O_d is the response, at every s-th place, to the picture moved by d pixels along axis a, and T moves the
    response itself, by interpolation in frequency. What the stride can carry moves exactly; what it folds onto other
    frequencies does not, and makes checkerboards that flicker as the picture moves.

    Convention:
        - 0: as it should be; 1: on average over d the response is as wrong as one of another picture. Pure waves that
          are folded have 1.
        - pictures go on at the other side (they are cut so that an odd number of steps fits), bias and activation are
          left out. A stride of 1 along all axes gives 0; a filter that says nothing has NaN.

    Args:
        kernels: not transposed.
        inputs: of the convolution, ``(n, C, *places)``.
    """
    if not len(inputs) or max(kernels.stride) == 1:
        return torch.full((len(kernels),), 0.0 if len(inputs) else float("nan"))
    wrong, total = [], []
    for x in torch.split(inputs, 1):
        full = _circular(kernels, x)[0]
        some = [_moved(full, axis, kernels.stride) for axis in range(len(kernels.stride))]
        wrong.append(torch.stack([one for one, _ in some]))
        total.append(torch.stack([all_ for _, all_ in some]))
    size = torch.stack(total).sum(0)
    heard = (size > SILENCE * kernels.norm**2 * inputs.square().sum()).all(0)
    return (torch.stack(wrong).sum(0) / size).amax(0).masked_fill(~heard, float("nan"))


def _circular(kernels: Kernels, x: Tensor) -> Tensor:
    """The response at every pixel of a picture that goes on at its other side."""
    for axis, step in enumerate(kernels.stride):
        side = x.shape[2 + axis]
        steps = side // step - (side // step + 1) % 2
        if steps < 1:
            raise InputError(
                f"inputs of {kernels.layer!r} must be at least as large as its stride; got {tuple(x.shape[2:])} and "
                f"{kernels.stride}."
            )
        reach = kernels.dilation[axis] * (kernels.size[axis] - 1)
        x = x.index_select(2 + axis, torch.arange(step * steps + reach) % (step * steps))
    convolve = CONVOLVE[len(kernels.size) - 1]
    return convolve(x, kernels.weight, dilation=kernels.dilation, groups=kernels.groups)


def _moved(full: Tensor, axis: int, stride: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Squared error and squared size, ``(K,)``, over the shifts along one axis; ``full`` is ``(K, *places)``."""
    coarse = tuple(slice(None, None, 1 if i == axis else step) for i, step in enumerate(stride))
    lines = full[(slice(None), *coarse)].movedim(axis + 1, -1)
    phases = lines.reshape(*lines.shape[:-1], -1, stride[axis]).movedim(-1, 0)  # (s, K, ..., places along the axis)
    start = torch.fft.fft(phases[0])
    turn = torch.fft.fftfreq(phases.shape[-1], dtype=full.dtype) * (2 * torch.pi / stride[axis])
    shift = torch.arange(stride[axis], dtype=full.dtype).reshape(-1, *(1 for _ in start.shape))
    expected = torch.fft.ifft(start * torch.exp(1j * shift * turn)).real
    squares = phases.square()
    return _sums(phases - expected), (squares + squares[:1]).movedim(1, 0).flatten(1).sum(1)


def _sums(values: Tensor) -> Tensor:
    return values.square().movedim(1, 0).flatten(1).sum(1)
