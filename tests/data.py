"""Real pictures with labels and masks, for tests; every test that uses them is marked ``needs_data``.

They lie outside the repository: in the folder that the environment variable ATTRIB_TEST_DATA names, or in
``shared/data`` beside the checkout.
"""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from attrib.io import load_image

Labelled = tuple[Image.Image, int]


def _find() -> Path | None:
    named = os.environ.get("ATTRIB_TEST_DATA")
    if named is not None and not Path(named).is_dir():
        raise FileNotFoundError(f"ATTRIB_TEST_DATA must name a folder; got {named!r}")
    folder = Path(named) if named is not None else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


DATA = _find()
needs_data = pytest.mark.skipif(DATA is None, reason="no folder of real nets and images: set ATTRIB_TEST_DATA")


def path(*parts: str) -> Path:
    """A file of the data folder; skips the test when there is no such folder."""
    if DATA is None:
        pytest.skip("no folder of real nets and images: set ATTRIB_TEST_DATA")
    return DATA.joinpath(*parts)


@dataclass(frozen=True)
class Photo:
    """An ImageNet photo, its class, and where the object is: a model's mask screened by eye, not human truth."""

    name: str
    image: Image.Image
    target: int
    mask: npt.NDArray[np.bool_]
    boxes: tuple[tuple[int, int, int, int], ...]


def photos(count: int = 50) -> list[Photo]:
    """The first ``count`` of 50 ImageNet photos with masks and boxes (x0, y0, x1, y1)."""
    folder = path("imagenet_masks_dev")
    return [
        Photo(
            name=item["name"],
            image=load_image(folder / item["image"]),
            target=item["imagenet_class"],
            mask=np.asarray(Image.open(folder / item["mask"]).convert("L")) > 127,
            boxes=tuple(tuple(box) for box in item["boxes_xyxy"]),
        )
        for item in json.loads((folder / "index.json").read_text())[:count]
    ]


def open_photo(name: str) -> Image.Image:
    """One of the openly licensed photos, such as ``"dog_cat_both"``."""
    return load_image(path("open_licence_images", f"{name}.png"))


def samples(kind: str) -> list[Labelled]:
    """20 labelled pictures of ``imagenet``, ``cifar10``, ``cifar100``, ``mnist`` or ``fashionMNIST``."""
    files = sorted(path("foolbox_samples").glob(f"{kind}_*.*"))
    return [(load_image(file), int(file.stem.rpartition("_")[2])) for file in files]


def cifar10(count: int) -> list[Labelled]:
    """The first ``count`` of 1000 CIFAR-10 training images, lossless."""
    with np.load(path("cifar10_lossless_train1000", "cifar10_train1000.npz")) as file:
        images, labels = file["images"][:count], file["labels"][:count]
    return [(Image.fromarray(image), int(label)) for image, label in zip(images, labels, strict=True)]


def mnist(count: int) -> list[Labelled]:
    """The first ``count`` of the 10,000 MNIST test images."""
    folder = path("mnist_t10k")
    pixels = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    images = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28)[:count]  # after four 4-byte integers
    return [(Image.fromarray(image), label) for image, label in zip(images, labels[8 : 8 + count], strict=True)]
