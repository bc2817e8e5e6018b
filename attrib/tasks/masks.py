"""Where the objects of a comparison are: masks in any form that users have them, one for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from attrib.errors import InputError, did_you_mean
from attrib.io import load_image
from attrib.io.masks import load_mask
from attrib.tasks.subject import Example, Network

Mask: TypeAlias = "str | PathLike[str] | Image.Image | npt.NDArray[Any] | Tensor | None"
Masks: TypeAlias = "Sequence[Mask] | Mapping[str, Mask] | Tensor | npt.NDArray[Any]"


def masks_of(examples: Sequence[Example], masks: Masks | None) -> list[Mask]:
    """One mask for each example, None where there is none: as many as there are examples, or by their names."""
    if masks is None:
        return [None] * len(examples)
    if isinstance(masks, Mapping):
        names = [example.name for example in examples]
        for name in masks:
            if name not in names:
                raise InputError(
                    f"masks must be for images that are compared; got {name!r}.{did_you_mean(name, names)}"
                )
        return [masks.get(name) for name in names]
    if isinstance(masks, (str, PathLike, Image.Image)) or len(masks) != len(examples):
        got = type(masks).__name__ if isinstance(masks, (str, PathLike, Image.Image)) else len(masks)
        raise InputError(
            f"masks must be a sequence of {len(examples)}, one for each image and None where there is none, or a "
            f"mapping of their names to masks; got {got}."
        )
    return list(masks)


def as_seen(mask: Mask, example: Example, network: Network) -> Tensor:
    """The part of ``mask`` that the network sees, ``(1, H, W)`` bool.

    Of a picture: resized and cropped with it. Of a batch that is ready for the model: as it is.
    """
    given = mask.cpu() if isinstance(mask, Tensor) else mask
    if isinstance(example.source, Tensor):
        height, width = example.source.shape[2:]
        return torch.from_numpy(np.array(load_mask(given, (width, height))) > 127)[None]
    picture = load_image(example.source) if isinstance(example.source, Path) else example.source
    page = load_mask(given, picture.size)
    if network.loaded is None:
        raise InputError("masks must be given with a model whose preprocessing is known, or with a ready batch.")
    return network.loaded.mask(page)[None]
