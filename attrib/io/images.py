"""Pictures for people: files to upright RGB images, folders to files, images to arrays; every failure in words."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from attrib import checks
from attrib.errors import InputError, did_you_mean

AnyPath: TypeAlias = "str | PathLike[str]"

MAX_PIXELS = 89_478_485  # Pillow's own limit: a quarter of a gigabyte at three bytes per pixel
SUFFIXES = frozenset(
    {
        ".avif",
        ".bmp",
        ".gif",
        ".jfif",
        ".jp2",
        ".jpeg",
        ".jpg",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    }
)

_LOCK = threading.Lock()  # Pillow's pixel limit is one value per process


def load_image(path: AnyPath, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read a picture file as an upright 8-bit RGB image.

    Convention:
        - the EXIF orientation is applied: the image is as a viewer shows it.
        - transparent parts are laid over white; 16-bit grey is divided by 257; colour profiles are ignored.
        - of several frames or pages, the first.

    Args:
        path: the file.
        max_pixels: refuse larger pictures *before* decoding them: a few kilobytes can unfold to gigabytes.

    Returns:
        A PIL image of mode ``"RGB"``.

    Raises:
        InputError: the file is missing, a folder, not a complete picture, or too large.

    Example:
        >>> load_image("no_such_file.png")
        Traceback (most recent call last):
        attrib.errors.InputError: image must be an existing file; got 'no_such_file.png'.
    """
    file = _existing(path)
    checks.integer("max_pixels", max_pixels, 1)
    with _words(file, max_pixels):
        with _pixel_limit(max_pixels):
            opened = Image.open(file)
        with opened:
            opened.load()
            return as_rgb(ImageOps.exif_transpose(opened), source=opened.format)


def as_rgb(image: Image.Image, *, source: str | None = None) -> Image.Image:
    """Convert a PIL image of any mode to 8-bit RGB: transparent parts over white, 16-bit grey divided by 257.

    Args:
        image: the picture.
        source: the file format that it came from, where it matters: in a PPM file 32-bit integers hold 16-bit greys.

    Returns:
        An image of mode ``"RGB"``; ``image`` itself is not changed.

    Example:
        >>> as_rgb(Image.new("RGBA", (2, 2), (255, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    if not isinstance(image, Image.Image):
        raise InputError(f"image must be a PIL image; got {type(image).__name__}. Read files with load_image.")
    if image.mode.startswith("I;16") or (image.mode == "I" and source == "PPM"):
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257  # 65535 / 255, rounded to nearest
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in {"I", "F"}:
        raise InputError(
            f"image must have 8 or 16 bits per channel; got 32 (mode {image.mode!r}), whose black and white are not "
            "known. Scale it to 0...255 and save it as 8 bits."
        )
    if "transparency" in image.info or image.mode in {"LA", "La", "PA", "RGBA", "RGBa"}:
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image.convert("RGBA"))
        return page.convert("RGB")
    return image.convert("RGB")


def list_images(paths: AnyPath | Sequence[AnyPath]) -> list[Path]:
    """Expand folders into the pictures in them, sorted by name; files are kept as they are.

    Args:
        paths: files and folders. Folders are not searched recursively; hidden files are left out.

    Returns:
        The files in the order given, each once.

    Raises:
        InputError: a path does not exist, or a folder holds no picture.
    """
    given = [paths] if isinstance(paths, (str, PathLike)) else list(paths)
    if not given:
        raise InputError("images must be files or folders; got none.")
    found = [file for path in given for file in (_folder(Path(path)) if Path(path).is_dir() else [_existing(path)])]
    return list(dict.fromkeys(found))


def as_array(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Convert a PIL image to a new uint8 array ``(H, W, 3)``.

    Example:
        >>> as_array(Image.new("RGB", (5, 2), "red"))[0, 0].tolist()
        [255, 0, 0]
    """
    return np.array(as_rgb(image))


def as_image(array: npt.NDArray[np.uint8]) -> Image.Image:
    """Convert a uint8 array ``(H, W, 3)`` to a PIL image; the inverse of :func:`as_array`.

    Example:
        >>> as_image(np.zeros((2, 5, 3), dtype=np.uint8)).size
        (5, 2)
    """
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise InputError(
            f"image must be a uint8 array of shape (H, W, 3); got {array.dtype} {array.shape}. "
            "Scale floats to 0...255, round and convert with .astype('uint8')."
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _folder(folder: Path) -> list[Path]:
    files = sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    )
    if not files:
        raise InputError(
            f"folder must hold at least one picture ({', '.join(sorted(SUFFIXES))}); got {str(folder)!r} with none. "
            "Sub-folders are not searched."
        )
    return files


def _existing(path: AnyPath) -> Path:
    file = Path(fspath(path))
    if file.is_dir():
        raise InputError(f"image must be a file; got the folder {str(path)!r}. list_images gives the pictures in it.")
    if not file.exists():
        siblings = [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []
        raise InputError(f"image must be an existing file; got {str(path)!r}.{did_you_mean(file.name, siblings)}")
    if not file.is_file():
        raise InputError(f"image must be a regular file; got {str(path)!r}, which is a device, pipe or socket.")
    return file


@contextmanager
def _pixel_limit(max_pixels: int) -> Iterator[None]:
    """Let Pillow raise above ``max_pixels``; by itself it only warns up to twice its limit."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


@contextmanager
def _words(file: Path, max_pixels: int) -> Iterator[None]:
    """Turn whatever Pillow raises about ``file`` into one InputError."""
    try:
        yield
    except InputError as exc:
        raise InputError(f"{file}: {exc}") from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        pixels = int("".join(re.findall(r"\((\d+) pixels\)", str(exc))[:1]) or 0)
        got = f"{pixels:,}" if pixels else "more"
        raise InputError(
            f"image must have at most {max_pixels:,} pixels; got {got} in {str(file)!r}. "
            "Scale it down, or pass a larger max_pixels if you trust the file."
        ) from exc
    except UnidentifiedImageError as exc:
        raise InputError(f"image must be a picture that Pillow can read; got {str(file)!r}, which is not one.") from exc
    except PermissionError as exc:
        raise InputError(f"image must be readable; got {str(file)!r}: permission denied.") from exc
    except Exception as exc:  # on broken bytes Pillow's readers raise anything from SyntaxError to struct.error
        raise InputError(
            f"image must be a complete, undamaged picture; got {str(file)!r} ({exc}). Copy or download it again."
        ) from exc
