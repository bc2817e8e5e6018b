"""Pictures with named parts, from a table: a column for each part, boxes or mask files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from attrib.errors import InputError, did_you_mean
from attrib.io.images import SUFFIXES, AnyPath, load_image
from attrib.io.loaded import LoadedModel
from attrib.io.masks import drawn_boxes, load_mask
from attrib.io.tables import FIELDS, records


@dataclass(frozen=True, eq=False)
class MarkedPictures:
    """Pictures as a network sees them, and where their parts are.

    Attributes:
        inputs: ``(N, C, H, W)``.
        parts: True inside, ``(N, H, W)``, by name.
        views: the pictures, resized and cropped.
        names: of the pictures.
    """

    inputs: Tensor
    parts: dict[str, Tensor]
    views: tuple[Image.Image, ...] = field(repr=False)
    names: tuple[str, ...]


def read_parts(table: AnyPath, network: LoadedModel, parts: Sequence[str] | None = None) -> MarkedPictures:
    """Read a ``.csv``, ``.json`` or ``.jsonl`` table of pictures with a column for each part.

    A cell holds a box ``x0 y0 x1 y1`` in pixels of the upright picture, the lower right corner outside, or the file of
    a mask, white inside. Boxes and masks are resized and cropped with their picture.

    Args:
        table: with a column ``image``, files relative to the table.
        network: whose preprocessing is used.
        parts: columns that hold parts; all that are not ``image``, ``label``, ``mask``, ``boxes``, ``box`` or ``name``
            if None.

    Raises:
        InputError: a part is missing for a picture, or lies outside of what the network sees of it.
    """
    place = Path(table)
    rows = records(place)
    known = list(dict.fromkeys(key for row in rows for key in row))
    if not rows or "image" not in known:
        raise InputError(f"a table of pictures must have rows and a column 'image'; {place.name} has {known}.")
    chosen = [one for one in known if one not in {*FIELDS, "box"}] if parts is None else list(parts)
    for one in chosen:
        if one not in known:
            raise InputError(f"parts must be columns of {place.name}; got {one!r}.{did_you_mean(one, known)}")
    if not chosen:
        raise InputError(f"a table of parts must have a column for each of them; {place.name} has {known}.")
    names = tuple(str(row.get("name") or row["image"]) for row in rows)
    inputs, views, masks = [], [], {part: list[Tensor]() for part in chosen}
    for row, name in zip(rows, names, strict=True):  # one at a time: photos are larger than what is seen of them
        image = load_image(place.parent / str(row["image"]))
        inputs.append(network.inputs(image))
        views.append(network.view(image))
        for part in chosen:
            masks[part].append(_seen(row.get(part), image, network, place.parent, f"part {part!r} of {name}"))
    found = {part: torch.stack(several) for part, several in masks.items()}
    return MarkedPictures(torch.cat(inputs), found, tuple(views), names)


def _seen(cell: Any, image: Image.Image, network: LoadedModel, folder: Path, what: str) -> Tensor:
    if isinstance(cell, str) and Path(cell).suffix.lower() in SUFFIXES:
        mask: Image.Image | None = load_mask(folder / cell, image.size)
    else:
        try:
            mask = drawn_boxes(cell or None, image.size)
        except ValueError as exc:
            raise InputError(f"{what} must be a box x0 y0 x1 y1 or the file of a mask; got {cell!r}.") from exc
    if mask is None:
        raise InputError(f"{what} must be a box x0 y0 x1 y1 or the file of a mask; got {cell!r}.")
    seen = network.mask(mask)
    if not bool(seen.any()):
        raise InputError(f"{what} must lie in the part of the picture that the network sees; {cell!r} does not.")
    return seen
