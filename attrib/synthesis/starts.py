"""Where a search for an image begins."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor, nn

from attrib import checks
from attrib.core.synth import Generated, PixelSpace, Search
from attrib.errors import InputError
from attrib.io.loaded import LoadedModel
from attrib.synthesis.subject import Network, Subject

NOISE = 0.1  # standard deviation, in the network's own units


def first_images(
    model: Network,
    subject: Subject,
    start: str | Tensor,
    count: int,
    size: int | tuple[int, int] | None,
    search: Search,
) -> Tensor:
    """Where ``count`` searches begin: images, or the codes of a generator."""
    if not isinstance(search.parameters, Generated):
        shape = () if isinstance(start, Tensor) else input_shape(model, size)
        return start_images(start, count, shape, subject.space, subject.like, search.seed)
    if not isinstance(start, Tensor) or start.ndim < 2 or len(start) not in (1, count):
        got = tuple(start.shape) if isinstance(start, Tensor) else start
        raise InputError(f"start must be 1 or {count} codes (N, ...) where a generator is searched; got {got!r}.")
    return subject.placed(start).expand(count, *start.shape[1:]).clone()


def input_shape(model: Network, size: int | tuple[int, int] | None) -> tuple[int, ...]:
    """Channels, height and width of one input: as the preprocessing gives them, or with ``size``."""
    if isinstance(model, LoadedModel):
        shape = tuple(model.inputs(Image.new("RGB", (256, 256))).shape[1:])
    elif size is None:
        raise InputError("size must be given for a bare model, whose preprocessing is not known; got None.")
    else:
        shape = (channels(model), 0, 0)
    return shape if size is None else (shape[0], *checks.sides("size", size, 2))


def channels(model: object) -> int:
    """Of an input: those of the first convolution, three where there is none."""
    first = next((m for m in _modules(model) if isinstance(m, nn.Conv2d)), None)
    return 3 if first is None else first.in_channels


def _modules(model: object) -> list[nn.Module]:
    return list(model.modules()) if isinstance(model, nn.Module) else []


def start_images(
    start: str | Tensor, count: int, shape: tuple[int, ...], space: PixelSpace, like: Tensor, seed: int
) -> Tensor:
    """``count`` first images, ``(N, C, H, W)`` as the network takes them; the same noise for all."""
    if isinstance(start, Tensor):
        if start.ndim != 4 or len(start) not in (1, count):
            raise InputError(f"start must have 1 or {count} images (N, C, H, W); got {tuple(start.shape)}.")
        return start.detach().to(like).expand(count, *start.shape[1:]).clone()
    zero = torch.zeros(count, *shape).to(like)
    checks.choice("start", start, ("zero", "grey", "noise"))
    if start == "grey":
        return space.to_input(zero + 0.5)
    if start == "noise":
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return zero + NOISE * noise.to(like)
    return zero
