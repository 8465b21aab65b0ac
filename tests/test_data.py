"""Images in: whatever holds them, and whatever is wrong with them."""

from __future__ import annotations

import io
import json
import logging
import random
import time
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from zoo.data import NAMES, Images, gathering, images, single
from zoo.data.framing import frame
from zoo.data.listing import hold_out, list_folder
from zoo.data.torchvision_sets import SETS
from zoo.errors import DataError, FileError

if TYPE_CHECKING:
    from pathlib import Path

GREY, COLOUR = (1, 8, 8), (3, 8, 8)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def picture(height: int = 8, width: int = 8, *, seed: int = 0) -> Image.Image:
    return Image.fromarray(noise(height, width, 3, seed=seed))


def save(path: Path, image: Image.Image | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture(seed=len(str(path))) if image is None else image).save(path, **options)
    return path


def of(pixels) -> list:
    """One pixel of each channel in the middle."""
    return pixels[:, pixels.shape[1] // 2, pixels.shape[2] // 2].tolist()


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    return tmp_path


class TestImages:
    held = Images(
        torch.arange(40 * 12, dtype=torch.int64).remainder(256).to(torch.uint8).view(40, 3, 2, 2),
        labels=torch.arange(40) % 4,
        classes=tuple("abcd"),
        name="counted",
        split="train",
        files=tuple(f"{place}.png" for place in range(40)),
    )

    def test_batches_are_floats_in_the_unit_interval(self):
        x = self.held.batch(torch.tensor([3, 1]))
        assert x.dtype == torch.float32
        assert torch.equal(x, self.held.pixels[[3, 1]] / 255)
        assert torch.equal(self.held.batch(slice(5, 7)), self.held.pixels[5:7] / 255)
        assert self.held.pixels.dtype == torch.uint8

    @pytest.mark.parametrize("index", [torch.tensor([7, 2, 2]), slice(30, None, 3), torch.arange(40) > 36])
    def test_a_subset_keeps_labels_and_files_with_their_images(self, index):
        part = self.held.subset(index)
        assert len(part) in (3, 4)
        assert part.files == tuple(f"{place}.png" for place in torch.arange(40)[index].tolist())
        assert torch.equal(part.labels, self.held.labels[index])
        assert torch.equal(part.pixels, self.held.pixels[index])
        assert (part.name, part.split, part.classes) == ("counted", "train", tuple("abcd"))

    def test_holding_out_divides_and_repeats(self):
        kept, held = self.held.held_out(5, seed=1)
        assert len(kept) == 35
        assert len(held) == 5
        assert set(kept.files) | set(held.files) == set(self.held.files)
        assert self.held.held_out(5, seed=1)[1].files == held.files
        assert self.held.held_out(5, seed=2)[1].files != held.files
        assert [*held.files] == sorted(held.files, key=self.held.files.index)
        assert len(self.held.held_out(0.1, seed=0)[1]) == 4
        assert len(self.held.held_out(0.001, seed=0)[1]) == 1

    @pytest.mark.parametrize("count", [0, -1, 40, 41])
    def test_holding_out_leaves_something_on_both_sides(self, count):
        with pytest.raises(DataError, match="cannot hold out"):
            self.held.held_out(count, seed=0)

    def test_the_fingerprint_is_of_the_pixels_in_their_order(self):
        again = Images(self.held.pixels.clone())
        assert again.fingerprint == self.held.fingerprint
        assert len(again.fingerprint) == 64
        others = [
            self.held.subset(slice(1, None)),
            self.held.subset(torch.arange(39, -1, -1)),
            Images(self.held.pixels.view(40, 3, 1, 4)),
        ]
        assert len({image.fingerprint for image in [again, *others]}) == 4
        assert self.held.subset(slice(0, 40, 2)).fingerprint == self.held.subset(torch.arange(0, 40, 2)).fingerprint

    def test_pixels_are_bytes_and_labels_as_many(self):
        with pytest.raises(DataError, match="uint8"):
            Images(torch.rand(2, 3, 4, 4))
        with pytest.raises(DataError, match="1 labels for 2 images"):
            Images(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), labels=torch.tensor([1]))


class TestArrays:
    @pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
    @pytest.mark.parametrize(
        ("dims", "shape"),
        [((5, 8, 8), GREY), ((5, 1, 8, 8), GREY), ((5, 8, 8, 1), GREY), ((5, 3, 8, 8), COLOUR), ((5, 8, 8, 3), COLOUR)],
    )
    def test_every_layout_gives_the_same_pixels(self, kind, dims, shape):
        array = noise(*dims)
        found = images(kind(array), shape)
        last = dims[-1] in (1, 3)
        expected = array[:, None] if array.ndim == 3 else np.moveaxis(array, 3, 1) if last else array
        assert np.array_equal(found.pixels.numpy(), expected)
        assert found.pixels.is_contiguous()
        assert (found.split, found.labels, found.files) == ("all", None, None)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_floats_are_rounded_to_bytes(self, dtype):
        array = torch.from_numpy(noise(4, 3, 8, 8))
        steps = array.to(dtype) / 255
        found = images(steps.requires_grad_(), COLOUR).pixels
        if dtype == torch.bfloat16:  # holds 8 bits itself
            assert (found.int() - array.int()).abs().max() <= 1
        else:
            assert torch.equal(found, array)
        nearly = images(torch.full((1, 1, 8, 8), 1 + 1e-7, dtype=torch.float64), GREY)
        assert nearly.pixels.min() == 255

    @pytest.mark.parametrize(
        ("low", "high", "advice"),
        [(-1, 1, "from -1 to 1: undo"), (0, 255, "from 0 to 255: divide"), (float("nan"), 1, "nan"), (0, 2, "to 2")],
    )
    def test_floats_outside_are_refused_with_their_range(self, low, high, advice):
        array = np.full((2, 8, 8), 0.5, dtype=np.float32)
        array[1, 0, :2] = low, high
        with pytest.raises(DataError, match=advice):
            images(array, GREY)
        with pytest.raises(DataError, match="image 1"):
            images(array, GREY)

    @pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.bool_, np.complex64, object])
    def test_other_numbers_are_refused(self, dtype):
        with pytest.raises(DataError, match="uint8"):
            images(np.zeros((2, 8, 8), dtype=dtype), GREY)

    @pytest.mark.parametrize(
        ("dims", "shape", "words"),
        [
            ((3, 16, 16), COLOUR, "3 grey images or one in colour"),
            ((16, 16, 3), COLOUR, "3 grey images or one in colour|16 grey images or one in colour"),
            ((16, 16, 3), GREY, "one in colour"),
            ((5, 3, 16, 3), COLOUR, "channels at either end"),
            ((5, 4, 8, 1), GREY, "channels at either end"),
            ((5, 3, 3, 3), (3, 3, 3), "channels at either end"),
            ((5, 7, 8, 9), COLOUR, "no axis of 1 or 3 or 4 channels"),
            ((5, 2, 9, 9), (2, 8, 8), None),
            ((5, 1, 9, 9), (2, 8, 8), "1 channels cannot be brought to 2"),
            ((8, 8), GREY, r"got uint8 \(8, 8\)"),
            ((1, 1, 1, 8, 8), GREY, "got uint8"),
            ((0, 8, 8), GREY, "got uint8"),
            ((2, 0, 8), GREY, "got uint8"),
        ],
    )
    def test_what_cannot_be_told_apart_is_refused_with_words(self, dims, shape, words):
        if words is None:
            assert images(noise(*dims), shape).shape == shape
            return
        with pytest.raises(DataError, match=words):
            images(noise(*dims), shape)

    def test_the_asked_size_settles_what_could_be_either(self):
        array = noise(5, 3, 8, 3)
        assert np.array_equal(images(array, (3, 8, 3)).pixels.numpy(), array)
        assert np.array_equal(images(array, (3, 3, 8)).pixels.numpy(), np.moveaxis(array, 3, 1))
        assert len(images(noise(3, 16, 16), (1, 16, 16))) == 3

    def test_an_array_and_a_file_of_it_give_the_same(self, tmp_path):
        array = noise(3, 20, 31, 3)
        for place, pixels in enumerate(array):
            save(tmp_path / f"{place}.png", Image.fromarray(pixels))
        for shape in (GREY, COLOUR, (3, 40, 9)):
            from_files = images(tmp_path, shape, split="all")
            assert torch.equal(images(array, shape).pixels, from_files.pixels)

    def test_channels(self):
        grey = images(noise(5, 8, 8), COLOUR)
        assert torch.equal(grey.pixels[:, 0], grey.pixels[:, 2])
        assert np.array_equal(grey.pixels[:, 1].numpy(), noise(5, 8, 8))
        clear = np.zeros((1, 4, 8, 8), dtype=np.uint8)
        assert images(clear, COLOUR).pixels.min() == 255
        assert torch.equal(images(clear, (4, 8, 8)).pixels, torch.from_numpy(clear))
        many = images(noise(2, 6, 16, 16), (6, 8, 8))
        one = images(noise(2, 6, 16, 16)[:, 2:3], GREY)
        assert torch.equal(many.pixels[:, 2:3], one.pixels)

    def test_later_changes_of_the_array_do_not_reach_the_images(self):
        array = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
        found = images(array, GREY)
        array.fill_(9)
        assert found.pixels.max() == 0


def test_a_default_device_of_the_users_holds_nothing(tmp_path):
    """``meta`` stands for a GPU that torch.set_default_device names."""
    for number, name in enumerate(("cats", "cats", "dogs", "dogs")):
        save(tmp_path / name / f"{number}.png", picture(seed=number))
    with torch.device("meta"):
        items = [(x, number % 2) for number, x in enumerate(torch.from_numpy(noise(4, 1, 8, 8)))]
        read = [images(data, GREY) for data in (str(tmp_path), items, "sample")]
        read += [single.image(name, GREY) for name in ("sample:3", str(tmp_path / "cats" / "0.png"))]
        for part in (found.subset(slice(0, 1)) for found in read):
            labels = [] if part.labels is None else [part.labels]
            for tensor in (part.pixels, part.batch(slice(0, 1)), part.digests, *labels):
                assert tensor.device.type == "cpu"
    assert [found.labels is None for found in read] == [False] * 4 + [True]


class TestFraming:
    def test_a_picture_of_the_asked_size_keeps_its_pixels(self):
        array = noise(8, 8, 3)
        assert np.array_equal(frame(Image.fromarray(array), COLOUR), array.transpose(2, 0, 1))

    def test_it_covers_and_crops_the_centre(self):
        wide = np.zeros((8, 24, 3), dtype=np.uint8)
        wide[:, 8:16] = 200
        assert frame(Image.fromarray(wide), COLOUR).min() == 200
        assert frame(Image.fromarray(wide.transpose(1, 0, 2)), COLOUR).min() == 200

    def test_of_a_picture_with_other_proportions_the_middle_is_taken(self):
        ramp = np.tile(np.arange(100, dtype=np.uint8), (30, 1))
        found = frame(Image.fromarray(ramp), (1, 15, 25))[0, 7].astype(int)  # the middle 50 of 100 columns, halved
        assert np.abs(found - np.arange(25.5, 75, 2)).max() <= 1

    def test_it_is_antialiased(self):
        stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))
        assert np.abs(frame(Image.fromarray(stripes), GREY).astype(int) - 127).max() < 8

    @pytest.mark.parametrize(
        ("image", "expected"),
        [
            (Image.new("RGBA", (9, 9), (255, 0, 0, 0)), [255, 255, 255]),
            (Image.new("RGBA", (9, 9), (255, 0, 0, 255)), [255, 0, 0]),
            (Image.new("RGBA", (9, 9), (0, 0, 0, 51)), [204, 204, 204]),
            (Image.new("LA", (9, 9), (0, 0)), [255, 255, 255]),
            (Image.new("RGB", (9, 9), (0, 90, 250)).quantize(4), [0, 90, 250]),
            (Image.new("CMYK", (9, 9), (255, 0, 0, 0)), [0, 255, 255]),
            (Image.new("1", (9, 9), 1), [255, 255, 255]),
            (Image.new("L", (9, 9), 7), [7, 7, 7]),
            (Image.new("HSV", (9, 9), (0, 255, 255)), [255, 0, 0]),
            (Image.new("I;16", (9, 9), 65535), [255, 255, 255]),
            (Image.new("I;16", (9, 9), 100 * 257), [100, 100, 100]),
            (Image.new("I;16B", (9, 9), 100 * 257), [100, 100, 100]),
            (Image.new("I", (9, 9), 50 * 257), [50, 50, 50]),
            (Image.new("F", (9, 9), 0.4), [102, 102, 102]),
        ],
        ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
    )
    def test_modes(self, image, expected):
        assert of(frame(image, COLOUR)) == expected
        assert abs(of(frame(image, GREY))[0] - (np.array(expected) @ [0.299, 0.587, 0.114])) < 1

    def test_a_transparent_palette_is_laid_on_white(self, tmp_path):
        image = Image.new("P", (8, 8), 1)
        image.putpalette([255, 0, 0, 0, 0, 255])
        path = save(tmp_path / "p.png", image, transparency=1)
        assert of(frame(Image.open(path), COLOUR)) == [255, 255, 255]

    @pytest.mark.parametrize("image", [Image.new("I", (8, 8), 70_000), Image.new("F", (8, 8), -3.0)])
    def test_numbers_of_unknown_meaning_are_unreadable(self, image):
        with pytest.raises(ValueError, match="instead of"):
            frame(image, COLOUR)

    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
    def test_exif_turns_it_upright(self, tmp_path, suffix):
        array = np.zeros((16, 16, 3), dtype=np.uint8)
        array[:, 8:] = 255  # bright on the right, and at the bottom once turned
        exif = Image.Exif()
        exif[0x0112] = 6
        save(tmp_path / f"turned.{suffix}", Image.fromarray(array), exif=exif)
        found = images(tmp_path, (3, 16, 16), split="all").pixels[0, 0].float()
        assert found[12:].mean() > 240
        assert found[:4].mean() < 15

    def test_channels_that_no_picture_has(self, tmp_path):
        save(tmp_path / "a.png")
        with pytest.raises(DataError, match="4 were asked for"):
            images(tmp_path, (4, 8, 8))


class TestFolders:
    def test_class_folders_become_labels(self, tmp_path):
        for name in ("cat/1.png", "cat/deep/2.png", "ant/3.JPG", "bee/4.webp"):
            save(tmp_path / name)
        (tmp_path / "ant/notes.txt").write_text("no image")
        (tmp_path / "ant/.hidden.png").write_text("no image")
        found = images(str(tmp_path), COLOUR, split="all")
        assert found.files == ("ant/3.JPG", "bee/4.webp", "cat/1.png", "cat/deep/2.png")
        assert found.labels.tolist() == [0, 1, 2, 2]
        assert found.classes == ("ant", "bee", "cat")
        assert (found.ignored, found.skipped, found.name, found.split) == (1, (), tmp_path.name, "all")

    @pytest.mark.parametrize("folder", ["", "all/", "deep/down/"])
    def test_one_folder_for_everything_is_no_class(self, tmp_path, folder):
        for number in range(3):
            save(tmp_path / f"{folder}{number}.png")
        found = images(tmp_path, COLOUR, split="all")
        assert len(found) == 3
        assert found.labels is None
        assert found.classes is None

    def test_images_in_and_beside_folders_are_refused(self, tmp_path):
        save(tmp_path / "1.png")
        save(tmp_path / "cat/2.png")
        with pytest.raises(DataError, match=r"both in folders \(cat\) and beside them \(1.png\)"):
            images(tmp_path, COLOUR)

    def test_splits_may_be_written_in_capitals(self, tmp_path):
        for file in ("Training/ant/1.png", "Training/bee/2.png", "TEST/ant/3.png"):
            save(tmp_path / file)
        assert images(tmp_path, COLOUR).files == ("Training/ant/1.png", "Training/bee/2.png")
        assert images(tmp_path, COLOUR, split="test").classes == ("ant", "bee")

    @pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
    def test_subfolders_are_the_splits(self, tmp_path, name):
        for file in ("train/ant/1.png", "train/bee/2.png", "train/cat/3.png", f"{name}/cat/4.png", "extra/5.png"):
            save(tmp_path / file)
        train, test = images(tmp_path, COLOUR), images(tmp_path, COLOUR, split="test")
        assert train.files == ("train/ant/1.png", "train/bee/2.png", "train/cat/3.png")
        assert test.files == (f"{name}/cat/4.png",)
        assert test.labels.tolist() == [2]  # as in train, though the others are missing here
        assert test.classes == train.classes == ("ant", "bee", "cat")
        assert (train.split, test.split) == ("train", "test" if name == "test" else "val")
        assert images(tmp_path, COLOUR, split="val").files == test.files
        everything = images(tmp_path, COLOUR, split="all")
        assert sorted(everything.files) == sorted(train.files + test.files)
        assert train.ignored == 1

    def test_test_and_val_beside_each_other(self, tmp_path):
        for part in ("train", "val", "test"):
            save(tmp_path / part / "1.png")
        for part in ("train", "val", "test"):
            assert images(tmp_path, COLOUR, split=part).files == (f"{part}/1.png",)

    def test_a_split_without_classes_has_no_labels(self, tmp_path):
        for file in ("train/ant/1.png", "train/bee/2.png", "val/images/3.png", "test/4.png"):
            save(tmp_path / file)
        assert images(tmp_path, COLOUR).classes == ("ant", "bee")
        assert images(tmp_path, COLOUR, split="val").labels is None
        assert images(tmp_path, COLOUR, split="test").labels is None

    def test_a_split_that_is_missing(self, tmp_path):
        save(tmp_path / "test/a/1.png")
        save(tmp_path / "test/b/1.png")
        assert len(images(tmp_path, COLOUR, split="test")) == 2
        with pytest.raises(DataError, match="has test but no train"):
            images(tmp_path, COLOUR)
        (tmp_path / "train").mkdir()
        with pytest.raises(DataError, match="no image in its train folder"):
            images(tmp_path, COLOUR)

    def test_train_alone_is_split_like_any_folder(self, tmp_path):
        for number in range(10):
            save(tmp_path / f"train/{'ab'[number % 2]}/{number}.png")
        train, test = (images(tmp_path, COLOUR, split=split) for split in ("train", "test"))
        assert len(train) + len(test) == 10
        assert len(test) >= 1
        assert train.classes == ("a", "b")

    def test_a_class_may_be_called_train(self, tmp_path):
        for number in range(30):
            save(tmp_path / f"{('train', 'car', 'ship')[number % 3]}/{number}.png")
        assert images(tmp_path, COLOUR).classes == ("car", "ship", "train")

    def test_files_stay_in_their_split_when_others_come(self, tmp_path):
        names = [f"{number:04}.png" for number in range(2000)]
        kept, held = hold_out(names[:1000])
        more_kept, more_held = hold_out(names)
        assert set(kept) < set(more_kept)
        assert set(held) < set(more_held)
        assert 30 < len(held) < 70
        assert hold_out(names[::-1])[1] == more_held[::-1]

    def test_something_is_always_held_out_and_something_kept(self):
        for number in range(2, 40):
            kept, held = hold_out([f"{number}-{place}.png" for place in range(number)])
            assert kept
            assert held
        _, held = hold_out([f"{number}.png" for number in range(2000)])
        kept, still = hold_out(held)  # all of these would be held out
        assert (len(kept), len(still)) == (1, len(held) - 1)

    def test_held_out_images_are_the_others(self, tmp_path):
        for number in range(40):
            save(tmp_path / f"{number}.png", picture(seed=number))
        train, test = (images(tmp_path, COLOUR, split=split) for split in ("train", "test"))
        assert not set(train.files) & set(test.files)
        assert len(train) + len(test) == 40
        assert images(tmp_path, COLOUR, split="val").split == "all"

    def test_one_image_cannot_be_split(self, tmp_path):
        save(tmp_path / "1.png")
        assert len(images(tmp_path, COLOUR)) == 1
        with pytest.raises(DataError, match="holds one image"):
            images(tmp_path, COLOUR, split="test")

    def test_two_readings_are_equal(self, tmp_path):
        for number in range(70):
            save(tmp_path / f"{number % 3}/{number}.png", picture(40, 30 + number, seed=number))
        one, two = (images(tmp_path, COLOUR, split="all") for _ in range(2))
        assert one.fingerprint == two.fingerprint
        assert one.files == two.files == tuple(sorted(one.files))
        for place in (0, 33, 69):
            with Image.open(tmp_path / one.files[place]) as image:
                assert np.array_equal(one.pixels[place].numpy(), frame(image, COLOUR))

    def test_links_are_followed_but_not_in_circles(self, tmp_path):
        save(tmp_path / "elsewhere/cat/1.png")
        (tmp_path / "data/ant").mkdir(parents=True)
        save(tmp_path / "data/ant/2.png")
        (tmp_path / "data/cat").symlink_to(tmp_path / "elsewhere/cat")
        (tmp_path / "data/ant/up").symlink_to(tmp_path / "data")
        assert list_folder(tmp_path / "data", "all").files == ("ant/2.png", "cat/1.png")

    @pytest.mark.parametrize("names", [[], ["notes.txt", "scan.heic", "more/x.txt"]])
    def test_a_folder_without_images(self, tmp_path, names):
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("x")
        with pytest.raises(DataError, match=r"2 \.txt, 1 \.heic" if names else "no file at all"):
            images(tmp_path, COLOUR)

    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    @pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 16)])
    def test_large_jpegs_are_decoded_small_to_nearly_the_same(self, tmp_path, monkeypatch, mode, shape):
        image = picture(12, 12).resize((192, 128), Image.Resampling.BICUBIC).convert(mode)
        save(tmp_path / "a.jpg", image, quality=95)
        fast = images(tmp_path, shape, split="all").pixels.float()
        monkeypatch.setattr("zoo.data.decoding.SHRINK", 10**6)
        slow = images(tmp_path, shape, split="all").pixels.float()
        assert 0 < (fast - slow).square().mean().sqrt() < 1.7  # of 255; decoded half as large it is above 2


class TestBadFiles:
    BAD = ("empty.png", "text.jpg", "cut.jpg", "cut.png", "bomb.png", "range.tif")

    @pytest.fixture
    def folder(self, tmp_path):
        for number in range(4):
            save(tmp_path / f"good{number}.png")
        (tmp_path / "empty.png").touch()
        (tmp_path / "text.jpg").write_text("<html>not found</html>")
        for suffix in ("jpg", "png"):
            whole = io.BytesIO()
            picture(64, 64).save(whole, {"jpg": "JPEG", "png": "PNG"}[suffix])
            (tmp_path / f"cut.{suffix}").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
        save(tmp_path / "bomb.png", Image.new("1", (20_000, 20_000)))
        save(tmp_path / "range.tif", Image.new("F", (8, 8), 1000.0))
        return tmp_path

    def test_they_are_left_out_and_named(self, folder, caplog):
        with caplog.at_level(logging.WARNING, "zoo.data"):
            found = images(folder, COLOUR, split="all")
        assert found.files == tuple(f"good{number}.png" for number in range(4))
        reasons = dict(line.split(": ", 1) for line in found.skipped)
        assert sorted(reasons) == sorted(self.BAD)
        assert reasons["empty.png"] == "the file is empty"
        assert reasons["text.jpg"] == "not an image that Pillow can read"
        assert "truncated" in reasons["cut.jpg"]
        assert "178,956,970 pixels" in reasons["bomb.png"]
        assert "1000" in reasons["range.tif"]
        (record,) = caplog.records
        assert "left out 6 of 10 images" in record.message
        assert "bomb.png" in record.message
        assert "and 3 more" in record.message
        assert "\n" not in record.message

    def test_strict_names_the_first(self, folder):
        with pytest.raises(DataError, match=r"bomb\.png: more than"):
            images(folder, COLOUR, split="all", strict=True)

    def test_labels_stay_with_their_images(self, tmp_path):
        for number in range(8):
            save(tmp_path / f"{'ab'[number // 4]}/{number}.png", Image.new("L", (8, 8), number))
        (tmp_path / "a/1.png").write_bytes(b"")
        found = images(tmp_path, GREY, split="all")
        assert found.pixels[:, 0, 0, 0].tolist() == [0, 2, 3, 4, 5, 6, 7]
        assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]

    def test_none_readable_is_an_error_that_says_why(self, tmp_path):
        (tmp_path / "a.png").touch()
        (tmp_path / "b.png").touch()
        with pytest.raises(DataError, match=r"none of the 2 images can be read; a\.png: the file is empty"):
            images(tmp_path, COLOUR, split="all")

    def test_a_wrong_suffix_does_not_matter(self, tmp_path):
        image = picture()
        image.save(tmp_path / "really_a_png.jpg", "PNG")
        assert np.array_equal(images(tmp_path, COLOUR, split="all").pixels[0].numpy(), frame(image, COLOUR))

    def test_formats_that_run_programs_are_not_opened(self, tmp_path):
        save(tmp_path / "a.png")
        picture().save(tmp_path / "b.png", "EPS")
        picture().save(tmp_path / "c.png", "PCX")  # runs nothing, but nobody asked for it either
        assert images(tmp_path, COLOUR, split="all").files == ("a.png",)

    def test_what_pillow_only_warns_of_is_read(self, tmp_path, monkeypatch):
        save(tmp_path / "a.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # a bomb from 80 on, worth a warning from 40
        assert len(images(tmp_path, COLOUR, split="all")) == 1

    def test_links_to_nowhere_are_named(self, tmp_path):
        save(tmp_path / "a.png")
        (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
        assert images(tmp_path, COLOUR, split="all").skipped == ("b.png: No such file or directory",)

    def test_strict_stops_at_the_first(self):
        begun = []

        def load(place):
            begun.append(place)
            time.sleep(0.001)
            raise OSError

        with pytest.raises(DataError, match="0: OSError"):
            gathering.gather(gathering.Origin([*map(str, range(2000))], load, GREY, "many", strict=True, threads=2))
        assert len(begun) < 500

    def test_damage_of_any_kind_is_survived(self, tmp_path):
        """Every warning is an error in these tests: none may escape either."""
        choose = random.Random(0)  # noqa: S311
        for kind, suffix in (("PNG", "png"), ("JPEG", "jpg"), ("GIF", "gif"), ("WEBP", "webp"), ("BMP", "bmp")):
            whole = io.BytesIO()
            picture(20, 24).save(whole, kind)
            for number in range(60):
                data = bytearray(whole.getvalue())
                for _ in range(choose.choice((1, 3, 20))):
                    data[choose.randrange(len(data))] = choose.randrange(256)
                (tmp_path / f"{number}.{suffix}").write_bytes(data[: choose.choice((None, len(data) - 9))])
        found = images(tmp_path, COLOUR, split="all")
        assert len(found) > 20
        assert len(found.skipped) > 20
        assert len(found) + len(found.skipped) == 300

    def test_too_many_for_the_memory(self, tmp_path):
        save(tmp_path / "a.png")
        with pytest.raises(DataError, match="GiB"):
            images(tmp_path, (3, 10**8, 10**8), split="all")


class Numbered(Dataset):
    """(image, label) in the form asked for; one item is broken."""

    classes = ("zero", "one", "two")

    def __init__(self, kind, *, label=int, broken=None, length=6):
        self.kind, self.label, self.broken, self.length = kind, label, broken, length

    def __len__(self):
        return self.length

    def __getitem__(self, place):
        if place == self.broken:
            raise OSError("the disk has a hole")
        image = Image.new("L", (10, 8), place)
        if self.kind == "tensor":
            image = torch.full((1, 8, 10), place / 255)
        if self.kind == "array":
            image = np.full((8, 10), place, dtype=np.uint8)
        return image if self.label is None else (image, self.label(place % 3))


class TestItems:
    @pytest.mark.parametrize("kind", ["pil", "tensor", "array"])
    @pytest.mark.parametrize("label", [int, torch.tensor, np.int64, lambda value: np.array([value])])
    def test_datasets_with_labels(self, kind, label):
        found = images(Numbered(kind, label=label), GREY)
        assert found.pixels[:, 0, 4, 4].tolist() == [0, 1, 2, 3, 4, 5]
        assert found.labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert found.classes == ("zero", "one", "two")
        assert (found.name, found.split) == ("Numbered", "all")

    def test_labels_are_whole_numbers_of_64_bits(self):
        found = images(Numbered("pil", label=bool), GREY)
        assert (found.labels.dtype, found.labels.tolist()) == (torch.int64, [0, 1, 1, 0, 1, 1])

    @pytest.mark.parametrize(
        "label", [None, str, float, lambda value: value - 1, lambda _: torch.zeros(5), lambda _: 2**63]
    )
    def test_labels_that_are_no_places_are_none(self, label):
        found = images(Numbered("pil", label=label), GREY)
        assert found.labels is None
        assert found.classes is None

    def test_tensor_datasets(self):
        x, y = torch.from_numpy(noise(5, 3, 8, 8)), torch.arange(5)
        assert torch.equal(images(TensorDataset(x), COLOUR).pixels, x)
        assert images(TensorDataset(x, y), COLOUR).labels.tolist() == [0, 1, 2, 3, 4]

    def test_broken_items_are_left_out_or_refused(self):
        found = images(Numbered("pil", broken=2), GREY)
        assert found.skipped == ("item 2: the disk has a hole",)
        assert found.labels.tolist() == [0, 1, 0, 1, 2]
        with pytest.raises(DataError, match="item 2: the disk has a hole"):
            images(Numbered("pil", broken=2), GREY, strict=True)

    def test_lists_of_several_sizes(self):
        found = images(
            [torch.rand(3, 9, 20), torch.rand(1, 30, 8), noise(12, 12, 3), noise(8, 8), picture(5, 5)], COLOUR
        )
        assert found.pixels.shape == (5, 3, 8, 8)
        assert np.array_equal(found.pixels[3, 0].numpy(), noise(8, 8))
        assert images([(picture(), 1), (picture(), 0)], COLOUR).labels.tolist() == [1, 0]

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ([], "holds no images"),
            ([torch.rand(3, 8, 8), torch.rand(3, 8, 8) * 2 - 1], "list, item 1: floats are in"),
            ([torch.rand(4, 3, 8, 8)], "item 0: one image is"),
            ((torch.rand(9, 3, 8, 8), torch.rand(9, 3, 8, 8), 1), "item 0: one image is"),
            (["cat.png"], "item 0: an image, or .*; got str"),
            ([(picture(), 1, 2)], "got tuple"),
            ([torch.rand(8, 3, 7)], "no axis"),
            ([torch.rand(3, 8, 1)], "channels at either end"),
            (Numbered("pil", length=0), "holds no images"),
            ({"images": 1}, "a dict holds no images"),
            (17, "a int holds no images"),
            (None, "a NoneType holds no images"),
            ("", "no data at ''"),
        ],
    )
    def test_what_holds_no_images(self, data, words):
        with pytest.raises(DataError, match=words):
            images(data, COLOUR)

    def test_a_dataset_without_places(self):
        class Stream(IterableDataset):
            def __iter__(self):
                yield picture()

        with pytest.raises(DataError, match="no length"):
            images(Stream(), COLOUR)

    def test_images_themselves(self):
        one = images(Numbered("pil"), GREY)
        assert images(one, GREY) is one
        larger = images(one, (3, 16, 16))
        assert larger.shape == (3, 16, 16)
        assert larger.labels is one.labels


class TestStored:
    def test_npy(self, tmp_path):
        np.save(tmp_path / "x.npy", noise(6, 8, 8))
        found = images(tmp_path / "x.npy", GREY, split="test")
        assert np.array_equal(found.pixels[:, 0].numpy(), noise(6, 8, 8))
        assert (found.name, found.split) == ("x.npy", "all")
        np.save(tmp_path / "f.npy", noise(6, 8, 8) / 255)
        assert images(tmp_path / "f.npy", GREY).fingerprint == found.fingerprint

    def test_a_pickle_is_never_opened(self, tmp_path):
        np.save(tmp_path / "x.npy", np.array([Trap()], dtype=object), allow_pickle=True)
        with pytest.raises(DataError, match="without pickle"):
            images(tmp_path / "x.npy", GREY)

    def test_safetensors(self, tmp_path):
        x = torch.rand(6, 1, 8, 8)
        save_file({"images": x, "labels": torch.arange(6)}, tmp_path / "x.safetensors")
        found = images(str(tmp_path / "x.safetensors"), GREY)
        assert torch.equal(found.pixels, (x * 255).round().to(torch.uint8))
        assert found.labels.tolist() == [*range(6)]
        save_file({"images": x}, tmp_path / "y.safetensors")
        assert images(tmp_path / "y.safetensors", GREY).labels is None

    @pytest.mark.parametrize(
        ("tensors", "words"),
        [
            ({"codes": torch.rand(2, 3)}, "no tensor 'images'; there are: codes"),
            ({"images": torch.rand(3, 1, 8, 8), "labels": torch.arange(2)}, "one for each of the 3"),
            ({"images": torch.rand(2, 1, 8, 8), "labels": torch.rand(2)}, "whole numbers"),
        ],
    )
    def test_safetensors_with_something_else(self, tmp_path, tensors, words):
        save_file(tensors, tmp_path / "x.safetensors")
        with pytest.raises(DataError, match=words):
            images(tmp_path / "x.safetensors", GREY)

    def test_damaged_and_other_files(self, tmp_path):
        for name, error in (("x.npy", DataError), ("x.safetensors", FileError), ("x.zip", DataError)):
            (tmp_path / name).write_bytes(b"nothing of the kind")
            with pytest.raises(error, match=name):
                images(tmp_path / name, GREY)


class Trap:
    """Unpickling this fails the test."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(header + array.tobytes())


def write_mnist(root: Path, folder: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = noise(30, 28, 28), np.arange(30, dtype=np.uint8) % 10
    for prefix, part in (("train", slice(0, 20)), ("t10k", slice(20, 30))):
        write_idx(root / folder / "raw" / f"{prefix}-images-idx3-ubyte", x[part])
        write_idx(root / folder / "raw" / f"{prefix}-labels-idx1-ubyte", y[part])
    return x, y


class TestNamed:
    @pytest.mark.parametrize(
        ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
    )
    def test_sets_of_mnists_kind_as_torchvision_reads_them(self, root, name, folder):
        from torchvision import datasets

        x, y = write_mnist(root, folder)
        train, test = (images(name, (1, 28, 28), split=split) for split in ("train", "test"))
        assert np.array_equal(train.pixels[:, 0].numpy(), x[:20])
        assert np.array_equal(test.labels.numpy(), y[20:])
        assert (train.name, train.split, test.split) == (name, "train", "test")
        reference = getattr(datasets, folder)(root, train=True)
        assert torch.equal(train.pixels[:, 0], reference.data)
        assert torch.equal(train.labels, reference.targets)
        if name != "mnist":  # torchvision calls those "0 - zero"
            assert train.classes == tuple(reference.classes)
        everything = images(name, (1, 28, 28), split="all")
        assert np.array_equal(everything.pixels[:, 0].numpy(), x)
        assert np.array_equal(everything.labels.numpy(), y)
        assert images(name, (1, 28, 28), split="val").fingerprint == test.fingerprint
        assert images(name, (3, 32, 32)).shape == (3, 32, 32)

    def test_the_pickle_that_torchvision_would_prefer_is_left_alone(self, root):
        x, _ = write_mnist(root, "MNIST")
        for name in ("training.pt", "test.pt"):
            (root / "MNIST/processed").mkdir(exist_ok=True)
            (root / "MNIST/processed" / name).write_bytes(b"\x80\x04.")
        assert np.array_equal(images("mnist", (1, 28, 28)).pixels[:, 0].numpy(), x[:20])

    def test_damaged_files_are_errors(self, root):
        write_mnist(root, "MNIST")
        path = root / "MNIST/raw/train-images-idx3-ubyte"
        for data in (path.read_bytes()[:-1], b"", b"\0\0\x08", b"\x1f\x8b" * 40):
            path.write_bytes(data)
            with pytest.raises(DataError, match="damaged"):
                images("mnist", (1, 28, 28))
        write_idx(path, noise(19, 28, 28))
        with pytest.raises(DataError, match="do not belong together"):
            images("mnist", (1, 28, 28))

    @pytest.mark.parametrize("name", [name for name in NAMES if name != "sample"])
    def test_what_is_missing_says_where_and_how(self, root, name):
        with pytest.raises(DataError) as caught:
            images(name, COLOUR)
        message = str(caught.value)
        assert str(root) in message
        assert "ZOO_DATA" in message
        assert "docs/data.md" in message if name.startswith("cifar") else "download=True" in message
        assert not [*root.iterdir()]

    @pytest.mark.parametrize("name", ["cifar10", "cifar100"])
    def test_cifar_is_read_from_class_folders_only(self, root, name):
        for archive in ("cifar-10-batches-py", "cifar-100-python"):
            (root / archive).mkdir()
            (root / archive / "data_batch_1").write_bytes(b"\x80\x04.")
        with pytest.raises(DataError, match="pickles"):
            images(name, COLOUR)
        for number in range(4):
            save(root / name / f"{('train', 'test')[number % 2]}/{'ab'[number // 2]}/{number}.png")
        assert images(name, COLOUR).files == ("train/a/0.png", "train/b/2.png")
        assert images(name, COLOUR, split="test").classes == ("a", "b")
        assert images(name, COLOUR).name == name

    def test_sets_that_torchvision_reads(self, root, monkeypatch):
        from scipy.io import savemat
        from torchvision import datasets

        for split in ("train", "test"):
            savemat(root / f"{split}_32x32.mat", {"X": noise(32, 32, 3, 6), "y": np.array([[1, 2, 10, 3, 4, 5]]).T})
        sizes = {split: ["", f"{split}_32x32.mat", None] for split in ("train", "test")}
        monkeypatch.setattr(datasets.SVHN, "split_list", sizes)
        found = images("svhn", (3, 32, 32), split="test")
        assert np.array_equal(found.pixels.numpy(), noise(32, 32, 3, 6).transpose(3, 2, 0, 1))
        assert found.labels.tolist() == [1, 2, 0, 3, 4, 5]
        assert (found.name, found.split) == ("svhn", "test")

    def test_imagenette(self, root):
        for number, part in enumerate(("train", "train", "val")):
            wnid = ("n01440764", "n02102040")[number % 2]
            save(root / f"imagenette2/{part}/{wnid}/{number}.JPEG")
        train, test = (images("imagenette", COLOUR, split=split) for split in ("train", "test"))
        assert (len(train), len(test)) == (2, 1)
        assert train.classes == ("tench", "English springer")
        assert (train.split, test.split) == ("train", "test")

    def test_every_torchvision_set_is_one_of_torchvisions(self):
        from torchvision import datasets

        for known in SETS.values():
            assert issubclass(getattr(datasets, known.torchvision), torch.utils.data.Dataset)
            assert set(known.arguments) == {"train", "test"}

    def test_folders_below_the_root_are_names_too(self, root):
        for number in range(3):
            save(root / f"holidays/{number}.png")
        assert images("holidays", COLOUR, split="all").name == "holidays"
        with pytest.raises(DataError, match="did you mean 'holidays'"):
            images("holydays", COLOUR)
        with pytest.raises(DataError, match="did you mean 'fashion_mnist'"):
            images("Fashion-MNIST", COLOUR)

    def test_the_root_without_a_variable_is_data(self, tmp_path, monkeypatch):
        monkeypatch.delenv("ZOO_DATA", raising=False)
        monkeypatch.chdir(tmp_path)
        save(tmp_path / "data/birds/1.png")
        assert len(images("birds", COLOUR, split="all")) == 1

    @pytest.mark.parametrize("shape", [(8, 8), (3, 0, 8), (1, 2, 3, 4)])
    def test_shapes_that_no_image_has(self, shape):
        with pytest.raises(DataError, match=r"shape \(C, H, W\)"):
            images("sample", shape)

    def test_splits_that_there_are_not(self):
        with pytest.raises(DataError, match="did you mean 'train'"):
            images("sample", GREY, split="trian")


class TestSample:
    folder = files("zoo.data") / "sample"

    @pytest.mark.parametrize(("split", "count"), [("train", 9000), ("test", 1000)])
    def test_it_is_balanced_and_of_the_promised_size(self, split, count):
        found = images("sample", (1, 28, 28), split=split)
        assert found.pixels.shape == (count, 1, 28, 28)
        assert found.labels.bincount().tolist() == [count // 10] * 10
        assert len(found.classes) == 10
        assert (found.name, found.split) == ("sample", split)
        assert len({bytes(image) for image in found.pixels.numpy()}) > 0.99 * count
        means = [found.pixels[found.labels == label].float().mean().item() for label in range(10)]
        assert means[2] > 2 * means[5]  # pullovers cover more than sandals: the labels fit the images

    def test_the_test_images_are_no_training_images(self):
        train, test = (images("sample", (1, 28, 28), split=split) for split in ("train", "test"))
        seen = {bytes(image) for image in train.pixels.numpy()}
        assert sum(bytes(image) in seen for image in test.pixels.numpy()) <= 1

    def test_it_is_small_and_has_its_licence_beside_it(self):
        entries = [entry for entry in self.folder.iterdir() if entry.is_file()]
        assert sum(len(entry.read_bytes()) for entry in entries) <= 5 * 2**20
        licence = (self.folder / "LICENSE").read_text("utf-8")
        assert "MIT" in licence
        assert "Zalando SE" in licence
        assert "WITHOUT WARRANTY OF ANY KIND" in licence

    def test_its_choice_is_recorded(self):
        index = json.loads((self.folder / "index.json").read_text("utf-8"))
        for split, count, all_of_them in (("train", 9000, 60_000), ("test", 1000, 10_000)):
            places = index[split]["places"]
            assert len(set(places)) == len(index[split]["labels"]) == count
            assert places == sorted(places)
            assert 0 <= places[0] <= places[-1] < all_of_them

    def test_all_of_it(self):
        assert len(images("sample", (1, 28, 28), split="all")) == 10_000
        assert images("sample", (3, 16, 16), split="test").shape == (3, 16, 16)


def test_a_bar_is_shown_for_many_images_on_a_terminal_only(tmp_path, monkeypatch):
    shown = []
    real = gathering.tqdm
    monkeypatch.setattr(gathering, "tqdm", lambda **options: shown.append(options["disable"]) or real(**options))
    images([picture()], COLOUR)
    monkeypatch.setattr(gathering, "MANY", 1)
    images([picture()], COLOUR)
    assert shown == [True, None]  # None: unless there is no terminal
