"""Tiny stand-ins for what users bring: a network with its preprocessing, pictures, methods that misbehave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from attrib import Attribution
from attrib.core import Query
from attrib.io import LoadedModel, Preprocess
from attrib.metrics import Protocol
from tests import nets

NAMES = ("ant", "bee", "cat", "cat", "dog")
FEW = Protocol(steps=5)


def loaded(net: str = "module", **options: Any) -> LoadedModel:
    return LoadedModel(nets.make(net), Preprocess(resize=12, crop=10), categories=NAMES, name="tiny", **options)


def picture(seed: int = 0, size: tuple[int, int] = (16, 12)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


def pictures(folder: Path) -> Path:
    """Put three pictures and, as the second, a broken one into ``folder``."""
    for i, name in enumerate(("a", "c", "d")):
        picture(i).save(folder / f"{name}.png")
    (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return folder


def whole(image: Image.Image) -> Tensor:
    """Preprocessing that keeps the size of the picture."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refuse_constants(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


class Raises(Attribution):
    """A method that fails as it is told to."""

    def __init__(self, model: Any, layer: Any = None, *, error: BaseException) -> None:
        super().__init__(model, layer)
        self.error = error

    def _attribute(self, query: Query) -> Tensor:
        raise self.error


class Constant(Attribution):
    """The same value everywhere."""

    def __init__(self, model: Any, layer: Any = None, *, value: float = 1.0) -> None:
        super().__init__(model, layer)
        self.value = value

    def _attribute(self, query: Query) -> Tensor:
        return torch.full_like(query.x[:, :1], self.value)
