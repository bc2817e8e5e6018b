"""Pictures: every kind is read as a viewer shows it, and everything that is not one is refused in words."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from attrib import io as aio
from attrib.errors import InputError
from attrib.io.images import MAX_PIXELS, SUFFIXES


def noise(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A picture of random colours (H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


# --- what is read ---


def test_a_lossless_file_gives_back_the_pixels(tmp_path: Path) -> None:
    pixels = noise(5, 9)
    image = aio.load_image(saved(aio.as_image(pixels), tmp_path / "a.png"))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(aio.as_array(image), pixels)


UNDO = {  # EXIF orientation -> what turns the upright picture into the stored one
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", UNDO)
def test_convention_the_picture_is_upright(orientation: int, tmp_path: Path) -> None:
    upright = aio.as_image(noise(4, 7))
    undo = UNDO[orientation]
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = aio.load_image(saved(stored, tmp_path / "a.png", exif=exif))
    np.testing.assert_array_equal(aio.as_array(image), aio.as_array(upright))


def with_alpha(mode: str) -> Image.Image:
    """Left column: opaque black; right column: black that is fully transparent."""
    alpha = np.array([[255, 0]], dtype=np.uint8)
    grey = Image.fromarray(np.zeros_like(alpha))
    layers = {"LA": [grey], "RGBA": [grey] * 3}[mode]
    return Image.merge(mode, [*layers, Image.fromarray(alpha)])


def by_palette() -> Image.Image:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.info["transparency"] = 1
    return image


def by_colour_key() -> Image.Image:
    image = Image.fromarray(np.array([[[0, 0, 0], [10, 20, 30]]], dtype=np.uint8))
    image.info["transparency"] = (10, 20, 30)
    return image


@pytest.mark.parametrize(
    "image", [with_alpha("LA"), with_alpha("RGBA"), by_palette(), by_colour_key()], ids=["LA", "RGBA", "P", "tRNS"]
)
def test_convention_transparent_parts_are_white(image: Image.Image, tmp_path: Path) -> None:
    path = saved(image, tmp_path / "a.png", transparency=image.info.get("transparency"))
    assert aio.as_array(aio.load_image(path)).tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_half_transparent_red_is_pink() -> None:
    assert aio.as_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 128))).getpixel((0, 0)) == (255, 127, 127)


def test_palette_colours_are_looked_up(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert aio.load_image(saved(image, tmp_path / "a.gif")).getpixel((0, 0)) == (10, 20, 30)


def test_cmyk_ink_becomes_light(tmp_path: Path) -> None:
    path = saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "a.jpg", quality=100)
    np.testing.assert_allclose(aio.load_image(path).getpixel((3, 3)), (255, 0, 0), atol=3)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_convention_16_bit_grey_is_divided_by_257(suffix: str, tmp_path: Path) -> None:
    grey = np.array([[0, 128, 129, 257, 32896, 65535]], dtype=np.uint16)
    image = aio.load_image(saved(Image.fromarray(grey), tmp_path / f"a.{suffix}"))
    assert aio.as_array(image)[0].tolist() == [[v] * 3 for v in (0, 0, 1, 1, 128, 255)]


def test_16_bit_grey_of_a_ppm_file_is_divided_by_257_too(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 3 1 65535\n" + struct.pack(">3H", 0, 257, 65535))
    assert aio.as_array(aio.load_image(path))[0, :, 0].tolist() == [0, 1, 255]


def test_big_endian_16_bit_grey_is_read_alike(tmp_path: Path) -> None:
    image = Image.frombytes("I;16B", (2, 1), struct.pack(">2H", 257, 65535))
    assert aio.as_array(aio.as_rgb(image))[0, :, 0].tolist() == [1, 255]


def test_black_and_white_is_0_and_255(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[True, False]]))
    assert aio.as_array(aio.load_image(saved(image, tmp_path / "a.png")))[0, :, 0].tolist() == [255, 0]


def test_convention_the_first_frame_counts(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (3, 2), "red"), Image.new("RGB", (3, 2), "blue")
    path = saved(first, tmp_path / "a.gif", save_all=True, append_images=[second])
    assert aio.load_image(path).getpixel((0, 0)) == (255, 0, 0)


def test_converting_leaves_the_given_image_alone() -> None:
    image = Image.new("RGBA", (2, 2), (1, 2, 3, 0))
    aio.as_rgb(image)
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0)) == (1, 2, 3, 0)


# --- what is refused ---


def test_a_missing_file_is_named_with_its_neighbour(tmp_path: Path) -> None:
    saved(Image.new("RGB", (1, 1)), tmp_path / "chelsea.png")
    with pytest.raises(InputError, match=r"must be an existing file; got '.*chelsae.png'\. Did you mean 'chelsea.png'"):
        aio.load_image(tmp_path / "chelsae.png")


def test_a_missing_folder_is_no_other_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be an existing file"):
        aio.load_image(tmp_path / "none" / "a.png")


def test_a_folder_is_not_an_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be a file; got the folder .*\. list_images gives"):
        aio.load_image(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system here")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="regular file"):
        aio.load_image(tmp_path / "pipe.png")


@pytest.mark.parametrize("content", [b"", b"These are notes, not pixels."], ids=["empty", "text"])
def test_a_file_that_is_no_picture_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"that Pillow can read; got '.*notes.png'"):
        aio.load_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_a_cut_off_file_is_called_incomplete(suffix: str, tmp_path: Path) -> None:
    path = saved(aio.as_image(noise(64, 64)), tmp_path / f"a.{suffix}")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"must be a complete, undamaged picture; got '.*'.*Copy or download it again"):
        aio.load_image(path)


def test_a_forbidden_file_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(Image.new("RGB", (1, 1)), tmp_path / "a.png")

    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", forbidden)  # file modes do not stop root
    with pytest.raises(InputError, match="permission denied"):
        aio.load_image(path)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_grey_has_no_known_white(mode: str, tmp_path: Path) -> None:
    path = saved(Image.new(mode, (2, 2)), tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif: image must have 8 or 16 bits .* got 32 \(mode"):
        aio.load_image(path)


# --- decompression bombs ---


@pytest.mark.parametrize(("limit", "pillow"), [(399, "warns"), (150, "raises")])
def test_a_picture_above_the_limit_is_refused_where_pillow(limit: int, pillow: str, tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (20, 20)), tmp_path / "a.png")
    with pytest.raises(InputError, match=rf"at most {limit} pixels; got 400 in '.*a.png'.*larger max_pixels"):
        aio.load_image(path, max_pixels=limit)


def test_a_picture_at_the_limit_is_read(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (20, 20)), tmp_path / "a.png")
    assert aio.load_image(path, max_pixels=400).size == (20, 20)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def test_a_small_file_of_ten_thousand_million_pixels_is_refused_by_default(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(100_000, 100_000))
    with pytest.raises(InputError, match="at most 89,478,485 pixels; got 10,000,000,000"):
        aio.load_image(path)


def test_a_larger_limit_lifts_pillows_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(Image.new("RGB", (20, 20)), tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert aio.load_image(path, max_pixels=400).size == (20, 20)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("limit", [399, 400])
def test_pillows_limit_and_the_warning_filters_are_left_as_found(limit: int, tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (20, 20)), tmp_path / "a.png")
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    try:
        aio.load_image(path, max_pixels=limit)
    except InputError:
        assert limit == 399
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_threads_with_different_limits_do_not_mix_them(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (20, 20)), tmp_path / "a.png")
    wrong: list[int] = []

    def work(limit: int) -> None:
        for _ in range(50):
            try:
                aio.load_image(path, max_pixels=limit)
                refused = False
            except InputError:
                refused = True
            if refused != (limit < 400):
                wrong.append(limit)

    threads = [threading.Thread(target=work, args=(limit,)) for limit in (100, 400, MAX_PIXELS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("limit", [0, -1, 2.5, True, "many"])
def test_the_limit_itself_is_checked(limit: object, tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (1, 1)), tmp_path / "a.png")
    with pytest.raises(InputError, match="max_pixels must be an integer >= 1"):
        aio.load_image(path, max_pixels=limit)  # type: ignore[arg-type]


def _encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    aio.as_image(noise(24, 16)).save(buffer, kind)
    return buffer.getvalue()


FILES = {kind: _encoded(kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM")}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(FILES)),
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    kept=st.floats(0.1, 1),
)
def test_damaged_bytes_give_a_picture_or_an_input_error(
    kind: str, places: list[tuple[float, int]], kept: float, tmp_path: Path
) -> None:
    content = bytearray(FILES[kind])
    for place, value in places:
        content[int(place * len(content))] = value
    path = tmp_path / "fuzz"
    path.write_bytes(content[: int(kept * len(content))])
    try:
        image = aio.load_image(path, max_pixels=10_000)
    except InputError:
        return
    assert image.mode == "RGB"


# --- folders ---


def test_a_folder_gives_its_pictures_sorted_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "c.webp"):
        (tmp_path / name).touch()
    (tmp_path / "sub.png").mkdir()
    assert [path.name for path in aio.list_images(tmp_path)] == ["a.png", "b.JPG", "c.webp"]


def test_files_keep_their_order_and_come_once(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "odd.name"):
        (tmp_path / name).touch()
    found = aio.list_images([tmp_path / "odd.name", str(tmp_path / "b.png"), tmp_path])
    assert [path.name for path in found] == ["odd.name", "b.png", "a.png"]


def test_a_folder_without_pictures_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"at least one picture \(.*\.png.*got '.*' with none\. Sub-folders are not"):
        aio.list_images([tmp_path])


def test_a_missing_path_in_a_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"existing file; got '.*none\.png'"):
        aio.list_images([tmp_path / "none.png"])


def test_no_paths_at_all_are_refused() -> None:
    with pytest.raises(InputError, match="files or folders; got none"):
        aio.list_images([])


def test_every_suffix_is_one_that_pillow_reads() -> None:
    Image.init()
    readable = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    assert SUFFIXES - {".avif"} <= readable  # which Pillow reads since 11.3


# --- arrays ---


def test_arrays_and_images_go_back_and_forth() -> None:
    pixels = noise(4, 6)
    array = aio.as_array(aio.as_image(pixels[:, ::-1]))  # not contiguous
    np.testing.assert_array_equal(array, pixels[:, ::-1])
    array[0, 0] = 0  # a copy that can be written to


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 3)), np.zeros((3, 4, 4), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
    ids=["float", "channels first", "grey", "empty"],
)
def test_other_arrays_are_refused_with_what_they_are(array: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match=rf"\(H, W, 3\); got {array.dtype} \({array.shape[0]}, "):
        aio.as_image(array)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"must be a PIL image; got ndarray.*load_image"):
        aio.as_rgb(noise(2, 2))  # type: ignore[arg-type]


# --- preprocessing ---


def recipes() -> dict[str, object]:
    """One of torchvision's evaluation recipes for each different setting."""
    models = torchvision.models
    every = [models.get_model_weights(name).DEFAULT.transforms() for name in models.list_models(module=models)]
    return {f"{r.resize_size[0]}-{r.crop_size[0]}-{r.interpolation.value}-{r.mean[0]}": r for r in every}


@pytest.mark.parametrize("name", sorted(recipes()))
@pytest.mark.parametrize("size", [(301, 200), (57, 123), (224, 224)], ids=str)
def test_preprocess_is_torchvisions_recipe_to_the_bit(name: str, size: tuple[int, int]) -> None:
    recipe = recipes()[name]
    image = aio.as_image(noise(*size))
    ours = aio.Preprocess(
        resize=recipe.resize_size[0],  # type: ignore[attr-defined]
        crop=recipe.crop_size[0],  # type: ignore[attr-defined]
        mean=tuple(recipe.mean),  # type: ignore[attr-defined]
        std=tuple(recipe.std),  # type: ignore[attr-defined]
        interpolation=recipe.interpolation.value,  # type: ignore[attr-defined]
    )
    assert torch.equal(ours(image), recipe(image))  # type: ignore[operator]


def test_the_view_is_what_was_normalised() -> None:
    preprocess = aio.Preprocess(resize=20, crop=16)
    image = aio.as_image(noise(33, 50))
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (preprocess.mean, preprocess.std))
    pixels = (preprocess(image) * std + mean).mul(255).round().byte().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(aio.as_array(preprocess.view(image)), pixels)


def test_the_view_keeps_the_place_of_things() -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[10:20, 50:60] = 255  # after cutting 20 columns at each side and halving: rows 5..9, columns 15..19
    view = aio.as_array(aio.Preprocess(resize=20, crop=20, interpolation="nearest").view(aio.as_image(pixels)))
    expected = np.zeros((20, 20, 3), np.uint8)
    expected[5:10, 15:20] = 255
    np.testing.assert_array_equal(view, expected)


def test_one_mean_means_grey() -> None:
    preprocess = aio.Preprocess(resize=2, crop=2, mean=(0.5,), std=(0.25,))
    x = preprocess(Image.new("RGB", (2, 2), (51, 51, 51)))
    torch.testing.assert_close(x, torch.full((1, 2, 2), (0.2 - 0.5) / 0.25))
    assert preprocess.view(Image.new("L", (2, 2), 51)).getpixel((0, 0)) == (51, 51, 51)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": 10, "crop": 11}, "resize must be at least crop=11; got 10"),
        ({"resize": 10, "crop": 0}, "crop must be an integer >= 1"),
        ({"resize": 2.5, "crop": 1}, "resize must be an integer"),
        ({"resize": 4, "crop": 4, "mean": (0.5,)}, "mean and std must both have 1 or 3 values"),
        ({"resize": 4, "crop": 4, "std": (1.0, 0.0, 1.0)}, "std positive"),
        ({"resize": 4, "crop": 4, "mean": (float("nan"),) * 3}, "mean must be finite"),
        ({"resize": 4, "crop": 4, "interpolation": "bicubc"}, "Did you mean 'bicubic'"),
    ],
)
def test_impossible_preprocessing_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        aio.Preprocess(**options)  # type: ignore[arg-type]
