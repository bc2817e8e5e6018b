"""Where the object is: mask files and boxes to pictures, and these through a network's own preprocessing."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from os import PathLike

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from attrib.errors import InputError
from attrib.io.images import load_image


def load_mask(mask: object, size: tuple[int, int]) -> Image.Image:
    """Read a mask: a picture that is white (128 or more) inside the object, or an array or Tensor ``(H, W)`` of bools.

    Args:
        mask: a file, a PIL image, an array or a Tensor.
        size: width and height that it must have, those of its picture.

    Returns:
        A PIL image of mode ``"L"``, 0 and 255.

    Example:
        >>> np.array(load_mask(np.eye(2, dtype=bool), (2, 2))).tolist()
        [[255, 0], [0, 255]]
    """
    if isinstance(mask, (str, PathLike)):
        mask = load_image(mask)
    if isinstance(mask, Image.Image):
        grey = np.asarray(mask.convert("L"))
        if 0 < grey.max(initial=0) < 128:
            raise InputError(
                f"mask must be white (255) inside the object; its brightest value is {grey.max()}. Multiply numbers of "
                "classes to black and white."
            )
        inside = grey > 127
    else:
        values = np.asarray(mask)
        inside = np.squeeze(values) if values.ndim == 3 else values
        if inside.dtype != np.bool_:
            inside = inside > (127 if inside.dtype == np.uint8 and inside.max(initial=0) > 1 else 0)
    if inside.ndim != 2 or inside.shape != (size[1], size[0]):
        raise InputError(f"mask must have the size of its picture, (H, W) = {size[::-1]}; got {inside.shape}.")
    return Image.fromarray(inside.astype(np.uint8) * 255)


def drawn_boxes(boxes: object, size: tuple[int, int]) -> Image.Image | None:
    """Boxes ``x0, y0, x1, y1`` in pixels, as a mask of ``size`` (width, height); None where there is no box.

    A pixel is inside if any of it is. Boxes may be numbers, a list of fours, or text of either.

    Example:
        >>> np.array(drawn_boxes("1 0 3 1", (4, 2))).tolist()
        [[0, 255, 255, 0], [0, 0, 0, 0]]
    """
    found = _fours(boxes)
    if not found:
        return None
    page = Image.new("L", size, 0)
    draw = ImageDraw.Draw(page)
    for x0, y0, x1, y1 in found:
        if not (math.isfinite(x0 + y0 + x1 + y1) and x0 < x1 and y0 < y1):
            raise InputError(f"box must be x0, y0, x1, y1 with x0 < x1 and y0 < y1; got {(x0, y0, x1, y1)}.")
        draw.rectangle((math.floor(x0), math.floor(y0), math.ceil(x1) - 1, math.ceil(y1) - 1), fill=255)
    return page


def _fours(boxes: object) -> list[tuple[float, float, float, float]]:
    if boxes is None:
        return []
    if isinstance(boxes, str):
        text = boxes.strip()
        boxes = (
            json.loads(text) if text.startswith("[") else [float(word) for word in re.split(r"[\s,;]+", text) if word]
        )
    flat = np.asarray(boxes, dtype=np.float64).reshape(-1)
    if flat.size % 4:
        raise InputError(f"boxes must be fours of numbers, x0, y0, x1, y1; got {boxes!r}.")
    return [(float(a), float(b), float(c), float(d)) for a, b, c, d in flat.reshape(-1, 4)]


def seen_mask(mask: Image.Image, preprocess: Callable[[Image.Image], Tensor]) -> Tensor:
    """What a network sees of ``mask``: ``(H, W)`` bool, resized and cropped exactly as its picture is.

    The mask itself goes through ``preprocess``, as do a black and a white picture of its size; what comes out nearer
    to white is inside. So any preprocessing is followed that treats pixels alike. One that does not may have a method
    ``mask`` of its own, from picture to picture.
    """
    own = getattr(preprocess, "mask", None)
    if callable(own):
        return torch.from_numpy(np.array(own(mask).convert("L")) > 127)
    pages: Sequence[Image.Image] = (mask, Image.new("L", mask.size, 0), Image.new("L", mask.size, 255))
    grey, black, white = (preprocess(page.convert("RGB")).detach().cpu().double().mean(0) for page in pages)
    if grey.shape != black.shape or not bool((white > black).all()):
        raise InputError(
            f"preprocess must treat all pixels alike for a mask to go through it; {type(preprocess).__name__} does "
            "not. Give it a method mask, from picture to picture."
        )
    return grey > (black + white) / 2
