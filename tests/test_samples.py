"""Labelled pictures with masks from everything that users have: folders, tables, data sets; read one at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from attrib.errors import InputError
from attrib.io import LoadedModel, Preprocess, Samples, open_samples, samples_again
from attrib.io.masks import drawn_boxes, load_mask
from tests import data, nets, studies
from tests.tiny import loaded, picture


def pixels(image: Any) -> list[Any]:
    found: list[Any] = np.asarray(image).tolist()
    return found


def mask_of(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (16, 12)) -> Image.Image:
    page = np.zeros(size[::-1], dtype=np.uint8)
    for x0, y0, x1, y1 in boxes:
        page[y0:y1, x0:x1] = 255
    return Image.fromarray(page)


class TestFiles:
    def test_a_folder_is_read_picture_by_picture(self, tmp_path: Path) -> None:
        for i in range(3):
            picture(i).save(tmp_path / f"{i}.png")
        (tmp_path / "1.png").write_bytes(b"broken")
        found = open_samples(tmp_path)
        assert (found.names, found.labels, found.masked) == (("0.png", "1.png", "2.png"), (None,) * 3, False)
        assert pixels(found[2].image) == pixels(picture(2))
        with pytest.raises(InputError, match="picture that Pillow can read"):
            found[1]

    def test_folders_in_a_folder_are_labels(self, tmp_path: Path) -> None:
        for kind in ("cat", "ant", "7"):
            (tmp_path / kind).mkdir()
            picture().save(tmp_path / kind / "a.png")
        found = open_samples(str(tmp_path))
        assert found.names == ("7/a.png", "ant/a.png", "cat/a.png")
        assert found.labels == (7, "ant", "cat")
        assert [one.label for one in found] == [7, "ant", "cat"]

    def test_a_table_names_files_beside_it_with_labels_masks_and_boxes(self, tmp_path: Path) -> None:
        studies.photos(tmp_path, 2)
        (tmp_path / "t.csv").write_text(
            'image,label,mask,box\n0.png,3,0_mask.png,"1 1 2 2"\n1.png,cat,,"2,3,9,8"\n0.png,,,\n', encoding="utf-8"
        )
        found = open_samples(tmp_path / "t.csv")
        assert found.names == ("0.png", "1.png", "0.png #2")
        assert found.labels == (3, "cat", None)
        assert pixels(found[0].mask) == pixels(Image.open(tmp_path / "0_mask.png"))  # goes before the box
        assert pixels(found[1].mask) == pixels(mask_of((2, 3, 9, 8)))
        assert found[2].mask is None
        assert found.masked

    @pytest.mark.parametrize("ending", ["json", "jsonl"])
    def test_json_may_call_its_fields_as_it_likes(self, tmp_path: Path, ending: str) -> None:
        studies.photos(tmp_path, 2)
        rows = [{"file": f"{i}.png", "class": i, "boxes_xyxy": [[0, 0, 4, 4], [8, 2, 9, 5]]} for i in range(2)]
        text = json.dumps(rows) if ending == "json" else "\n".join(map(json.dumps, rows))
        (tmp_path / f"t.{ending}").write_text(text)
        columns = {"image": "file", "label": "class", "boxes": "boxes_xyxy"}
        found = open_samples(tmp_path / f"t.{ending}", columns=columns, limit=1)
        assert (len(found), found[0].label) == (1, 0)
        assert pixels(found[0].mask) == pixels(mask_of((0, 0, 4, 4), (8, 2, 9, 5)))
        again = samples_again(json.loads(json.dumps(found.spec)))
        assert (again.digest, again.names) == (found.digest, found.names)

    def test_a_digest_follows_names_and_labels(self, tmp_path: Path) -> None:
        table = studies.photos(tmp_path)
        before = open_samples(table).digest
        assert open_samples(table).digest == before
        table.write_text(table.read_text().replace("5.png,0", "5.png,1"))
        assert open_samples(table).digest != before

    @pytest.mark.parametrize(
        ("text", "columns", "words"),
        [
            ("file,label\na.png,1\n", {}, "must have a column 'image'; t.csv has 'file', 'label'"),
            ("image\na.png\n", {"label": "class"}, "columns must name columns that are there; got 'class'"),
            ("image\na.png\n", {"lable": "image"}, "a field must be one of 'image', 'label'"),
            ("image\n", {}, "must have a column 'image'"),
        ],
    )
    def test_a_table_that_cannot_be_used_says_why(
        self, tmp_path: Path, text: str, columns: dict[str, str], words: str
    ) -> None:
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(InputError, match=words):
            open_samples(tmp_path / "t.csv", columns=columns)

    def test_what_is_not_there_or_no_table_is_named(self, tmp_path: Path) -> None:
        studies.photos(tmp_path)
        with pytest.raises(InputError, match=r"existing table; got .* Did you mean 'table.csv'"):
            open_samples(tmp_path / "tabel.csv")
        (tmp_path / "t.json").write_text("{")
        with pytest.raises(InputError, match="cannot be read"):
            open_samples(tmp_path / "t.json")
        (tmp_path / "t.json").write_text("3")
        with pytest.raises(InputError, match="must be a list of records"):
            open_samples(tmp_path / "t.json")
        with pytest.raises(InputError, match="columns must be for a table"):
            open_samples(tmp_path, columns={"label": "x"})


class TestDataSets:
    def test_tuples_mappings_and_pictures_alone(self) -> None:
        mask = np.zeros((12, 16), dtype=bool)
        mask[2:5, 3:9] = True
        items = [
            picture(),
            (picture(), np.int64(2)),
            (np.asarray(picture()), torch.tensor(1), mask),
            {"image": picture(), "label": "cat", "boxes": [3, 2, 9, 5]},
        ]
        found = open_samples(items)
        assert [one.label for one in found] == [None, 2, 1, "cat"]
        assert [one.mask is None for one in found] == [True, True, False, False]
        assert pixels(found[2].mask) == pixels(found[3].mask) == pixels(mask_of((3, 2, 9, 5)))
        assert not found.portable
        with pytest.raises(InputError, match="must be files, a table or a name to be read again elsewhere"):
            samples_again(found.spec)

    def test_torchvision_keeps_labels_apart(self) -> None:
        class Targets(list[Any]):
            targets = torch.tensor([4, 2])

        found = open_samples(Targets([(picture(), 4), (picture(1), 2)]))
        assert found.labels == (4, 2)

    def test_a_fake_data_set_of_torchvision(self) -> None:
        sets = pytest.importorskip("torchvision.datasets")
        found = open_samples(sets.FakeData(4, (3, 12, 16), num_classes=5))
        assert len(found) == 4
        assert 0 <= found[1].label < 5
        assert found[1].image.size == (16, 12)

    def test_model_ready_tensors_take_masks_of_their_size(self) -> None:
        mask = torch.zeros(12, 16, dtype=torch.bool)
        mask[2:5, 3:9] = True
        found = open_samples([(torch.rand(3, 12, 16), 1, mask), {"image": torch.rand(3, 12, 16), "boxes": "3 2 9 5"}])
        assert all(torch.equal(one.mask, mask) for one in found)

    @pytest.mark.parametrize("way", ["here", "disk"])
    def test_hugging_face_data_sets(self, way: str, tmp_path: Path) -> None:
        library = pytest.importorskip("datasets")
        features = library.Features(img=library.Image(), fine=library.ClassLabel(names=["a", "b"]))
        made = library.Dataset.from_dict({"img": [picture(), picture(1)], "fine": [1, -1]}, features=features)
        if way == "disk":
            made.save_to_disk(tmp_path / "set")
        found = open_samples(tmp_path / "set" if way == "disk" else made)
        assert found.labels == (1, None)
        assert [one.label for one in found] == [1, None]
        assert pixels(found[1].image) == pixels(picture(1))
        assert found.portable is (way == "disk")
        bare = open_samples(made.remove_columns("fine"), columns={"image": "img"})
        assert (bare.labels, bare[0].label) == ((None, None), None)

    @pytest.mark.parametrize("given", [3, object(), [3.5], []])
    def test_what_is_no_data_is_refused(self, given: Any) -> None:
        with pytest.raises(InputError):
            open_samples(given)

    def test_positions_count_from_the_end_and_slices_are_lists(self) -> None:
        found = open_samples([(picture(i), i) for i in range(4)])
        assert found[-1].label == 3
        assert [one.label for one in found[1:3]] == [1, 2]
        with pytest.raises(IndexError):
            found[4]
        assert isinstance(found.first(2), Samples)


class TestMasks:
    @given(st.integers(0, 14), st.integers(0, 10), st.integers(1, 16), st.integers(1, 12))
    def test_a_box_holds_the_pixels_between_its_corners(self, x0: int, y0: int, w: int, h: int) -> None:
        box = (x0, y0, x0 + w, y0 + h)
        assert pixels(drawn_boxes(box, (16, 12))) == pixels(mask_of(box))

    def test_a_pixel_that_is_in_part_inside_is_inside(self) -> None:
        assert pixels(drawn_boxes((1.2, 0.9, 2.1, 1.1), (4, 3))) == pixels(mask_of((1, 0, 3, 2), size=(4, 3)))

    @pytest.mark.parametrize("box", ["1 2 3", "5 5 5 9", "9 1 3 4", "[[1, 2, 3]]"])
    def test_a_box_that_is_none_is_refused(self, box: str) -> None:
        with pytest.raises(InputError, match="box"):
            drawn_boxes(box, (16, 12))

    def test_a_mask_of_another_size_or_of_class_numbers_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"must have the size of its picture, \(H, W\) = \(12, 16\)"):
            load_mask(Image.new("L", (16, 11)), (16, 12))
        with pytest.raises(InputError, match="its brightest value is 2"):
            load_mask(Image.fromarray(np.full((12, 16), 2, dtype=np.uint8)), (16, 12))
        assert not np.asarray(load_mask(Image.new("L", (16, 12)), (16, 12))).any()

    @pytest.mark.parametrize("size", [(40, 30), (30, 40), (64, 64)])
    @pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
    def test_goes_through_the_same_resize_and_crop_as_its_picture(
        self, size: tuple[int, int], interpolation: Any
    ) -> None:
        net = LoadedModel(nets.make("module"), Preprocess(resize=16, crop=12, interpolation=interpolation))
        mask = mask_of((10, 5, 25, 22), size=size)
        seen = net.mask(mask)
        exact = Preprocess(resize=16, crop=12, interpolation="nearest").view(mask)
        differ = seen != (torch.from_numpy(np.array(exact))[..., 0] > 127)
        assert float(differ.float().mean()) < (0.001 if interpolation == "nearest" else 0.13)  # the rim, at most
        drawn = net.view(mask.convert("RGB"))
        assert torch.equal(seen, torch.from_numpy(np.array(drawn))[..., 0] > 127)

    def test_of_timm_and_torchvision_follow_their_transforms(self) -> None:
        transforms = pytest.importorskip("torchvision.transforms")
        steps = [transforms.Resize(16), transforms.CenterCrop(12), transforms.ToTensor()]
        steps.append(transforms.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.1)))
        theirs = LoadedModel(nets.make("module"), transforms.Compose(steps))
        ours = LoadedModel(nets.make("module"), Preprocess(resize=16, crop=12))
        mask = mask_of((10, 5, 25, 22), size=(40, 30))
        assert torch.equal(theirs.mask(mask), ours.mask(mask))

    def test_a_preprocessing_may_have_a_way_of_its_own_and_one_that_mixes_pixels_is_refused(self) -> None:
        class Own(Preprocess):
            def mask(self, mask: Image.Image) -> Image.Image:
                return mask.transpose(Image.Transpose.ROTATE_180)

        mask = mask_of((0, 0, 4, 4))
        own = LoadedModel(nets.make("module"), Own(resize=12, crop=12)).mask(mask)
        assert own[-4:, -4:].all()
        assert int(own.sum()) == 16

        def standardised(image: Image.Image) -> torch.Tensor:
            x = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
            return x - x.mean()

        with pytest.raises(InputError, match="must treat all pixels alike"):
            LoadedModel(nets.make("module"), standardised).mask(mask)

    @data.needs_data
    def test_real_masks_keep_their_share(self) -> None:
        columns = {"label": "imagenet_class", "boxes": "boxes_xyxy"}
        found = open_samples(data.path("imagenet_masks_dev", "index.json"), columns=columns)
        assert (len(found), found.masked) == (50, True)
        net = LoadedModel(nets.make("module"), Preprocess(resize=64, crop=64))
        for photo, sample in zip(data.photos(5), found, strict=False):
            assert sample.label == photo.target
            assert np.array_equal(np.asarray(sample.mask) > 127, photo.mask)
            width, height = sample.image.size
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            share = photo.mask[top : top + side, left : left + side].mean()
            assert float(net.mask(sample.mask).float().mean()) == pytest.approx(share, abs=0.02)


def test_a_tiny_network_stands_for_all_others() -> None:
    assert loaded().mask(mask_of((0, 0, 16, 12))).all()
