"""Images larger than memory: the same wherever they are held, found anew when they change, and never held twice."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from children import Memory, run
from PIL import Image
from safetensors.torch import save_file
from torch.utils.data import Dataset

from zoo import cache, codes
from zoo.builder import build
from zoo.cache import making
from zoo.data import folders, gathering, images
from zoo.data.decoding import decode
from zoo.data.stores import Decoded, Mapped, Resident
from zoo.errors import DataError, FileError
from zoo.training import fit
from zoo.training import loop as loops
from zoo.training import run as runs

SHAPE = (3, 8, 8)
SIZE = 3 * 8 * 8
GOOD = 40
BAD = {"cat/empty.png": b"", "cat/text.png": b"<html>", "dog/cut.png": None}
HELD = {
    "resident": ({}, Resident),
    "mapped": ({"ZOO_MEMORY_LIMIT": "1"}, Mapped),
    "decoded": ({"ZOO_MEMORY_LIMIT": "1", "ZOO_CACHE_LIMIT": "16KB"}, Decoded),
}


def paint(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(making, "SHARD_BYTES", 16 * SIZE)
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    """Two classes of images, and three files that are none."""
    for number in range(GOOD):
        paint(tmp_path / "animals" / ("cat", "dog")[number % 2] / f"{number:02}.png", number)
    for name, data in BAD.items():
        whole = (tmp_path / "animals/cat/00.png").read_bytes()
        (tmp_path / "animals" / name).write_bytes(whole[: len(whole) // 2] if data is None else data)
    return tmp_path / "animals"


@pytest.fixture
def decoded(monkeypatch):
    """The names of all files that were decoded, in turn."""
    names = []

    def decoding(path, shape):
        names.append(path.name)
        return decode(path, shape)

    monkeypatch.setattr(folders, "decode", decoding)
    return names


@pytest.fixture
def hold(monkeypatch):
    """Have images held so."""

    def choose(name):
        for variable in ("ZOO_MEMORY_LIMIT", "ZOO_CACHE_LIMIT"):
            monkeypatch.delenv(variable, raising=False)
        for variable, value in HELD[name][0].items():
            monkeypatch.setenv(variable, value)

    return choose


def held(name, hold, folder, **options):
    hold(name)
    found = images(folder, SHAPE, split="all", **options)
    assert type(found.store) is HELD[name][1]
    return found


class TestTheSame:
    @pytest.mark.parametrize("name", ["mapped", "decoded"])
    def test_wherever_they_are_held(self, folder, hold, name):
        one, other = held("resident", hold, folder), held(name, hold, folder)
        assert len(one) == len(other) == GOOD
        assert (one.files, one.classes, one.name, one.ignored) == (
            other.files,
            other.classes,
            other.name,
            other.ignored,
        )
        assert one.labels.tolist() == other.labels.tolist() == [0] * 20 + [1] * 20
        assert one.skipped == other.skipped
        assert [line.split(": ")[0] for line in other.skipped] == sorted(BAD)
        assert [line.split(": ")[1] for line in other.skipped][:2] == [
            "the file is empty", "not an image that Pillow can read"
        ]  # fmt: skip
        assert "truncated" in other.skipped[2]
        assert one.fingerprint == other.fingerprint
        assert torch.equal(one.pixels, other.pixels)
        for index in (torch.tensor([39, 0, 7, 7]), torch.arange(GOOD) % 3 == 0, slice(5, None, 9)):
            assert torch.equal(one.batch(index), other.batch(index))
            mine, theirs = one.subset(index), other.subset(index)
            assert (mine.files, mine.fingerprint) == (theirs.files, theirs.fingerprint)
            assert mine.labels.tolist() == theirs.labels.tolist()
            assert torch.equal(mine.subset(slice(1, 3)).pixels, theirs.subset(slice(1, 3)).pixels)
        for mine, theirs in zip(one.held_out(0.2, 3), other.held_out(0.2, 3), strict=True):
            assert (mine.files, mine.fingerprint) == (theirs.files, theirs.fingerprint)
            assert torch.equal(mine.pixels, theirs.pixels)

    def test_pixels_are_those_of_the_files(self, folder, hold):
        found = held("mapped", hold, folder)
        for place, file in enumerate(found.files):
            assert np.array_equal(found.pixels[place].numpy(), decode(folder / file, SHAPE))

    @pytest.mark.parametrize("name", HELD)
    def test_strict_names_the_first(self, folder, hold, name):
        with pytest.raises(DataError, match=r"animals: cat/empty\.png: the file is empty\. Without --strict"):
            held(name, hold, folder, strict=True)

    @pytest.mark.parametrize("name", HELD)
    def test_strict_of_what_was_read_before(self, folder, hold, name):
        held(name, hold, folder)
        with pytest.raises(DataError, match=r"cat/empty\.png: the file is empty"):
            held(name, hold, folder, strict=True)

    @pytest.mark.parametrize("name", HELD)
    def test_none_readable(self, tmp_path, hold, name):
        (tmp_path / "bad").mkdir()
        for number in range(3):
            (tmp_path / "bad" / f"{number}.png").write_bytes(b"no")
        for _ in range(2):
            with pytest.raises(DataError, match=r"none of the 3 images can be read; 0\.png: not an image"):
                held(name, hold, tmp_path / "bad")

    @pytest.mark.parametrize("name", HELD)
    def test_what_pillow_only_warns_of_is_read_every_time(self, folder, hold, name, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # a bomb from 80 on, worth a warning from 40
        assert held(name, hold, folder).pixels.shape == (GOOD, *SHAPE)

    @pytest.mark.parametrize("name", HELD)
    def test_how_many_are_left_out_is_said(self, folder, hold, name, caplog):
        for _ in range(2):
            caplog.clear()
            with caplog.at_level(logging.WARNING, "zoo.data"):
                held(name, hold, folder)
            (record,) = caplog.records
            assert "left out 3 of 43 images that cannot be read: cat/empty.png: the file is empty" in record.message

    def test_a_size_that_is_none(self, folder, monkeypatch):
        monkeypatch.setenv("ZOO_MEMORY_LIMIT", "plenty")
        with pytest.raises(FileError, match="ZOO_MEMORY_LIMIT='plenty' is no size"):
            images(folder, SHAPE)


class TestNextTime:
    @pytest.mark.parametrize("name", ["mapped", "decoded"])
    def test_the_next_start_decodes_next_to_nothing(self, folder, hold, decoded, name):
        first = held(name, hold, folder)
        assert len(decoded) == GOOD + len(BAD) * 2  # once more for the reason
        decoded.clear()
        again = held(name, hold, folder)
        assert sorted(decoded) == sorted(["00.png", "02.png", "04.png", "06.png", "empty.png", "text.png", "cut.png"])
        assert again.fingerprint == first.fingerprint
        assert len(cache.entries()) == 1

    @pytest.mark.parametrize("name", ["mapped", "decoded"])
    @pytest.mark.parametrize("change", ["changed", "touched", "added", "removed", "renamed"])
    def test_what_happened_to_a_file_is_noticed_and_told(self, folder, hold, caplog, name, change):
        before = held(name, hold, folder)
        path = folder / "cat/06.png"
        facts = path.stat()
        if change == "changed":
            paint(path, 99)
        elif change == "added":
            paint(folder / "cat/99.png", 99)
        elif change == "removed":
            path.unlink()
        elif change == "renamed":
            path.rename(path.with_stem("zz"))
        if change in ("changed", "touched"):
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
        caplog.clear()
        with caplog.at_level(logging.WARNING, "zoo.data"):
            after = held(name, hold, folder)
        assert "files changed: made anew" in caplog.records[0].message
        assert "cannot be read" in caplog.records[1].message
        assert len(caplog.records) == 2
        shutil.rmtree(cache.root())
        assert after.fingerprint == held("resident", hold, folder).fingerprint
        assert (after.fingerprint == before.fingerprint) is (change == "touched")

    def test_a_damaged_shard_is_made_again(self, folder, hold, decoded, caplog):
        first = held("mapped", hold, folder).fingerprint
        (entry,) = cache.entries()
        shard = sorted(entry.folder.glob("*.safetensors"))[1]
        os.truncate(shard, 100)
        decoded.clear()
        caplog.clear()
        with caplog.at_level(logging.WARNING, "zoo.data"):
            assert held("mapped", hold, folder).fingerprint == first
        assert len(decoded) == 4 + 16 + len(BAD)
        assert "its 16 rows are made anew" in caplog.records[0].message

    def test_holding_them_otherwise_is_no_change(self, folder, hold, caplog):
        with caplog.at_level(logging.WARNING, "zoo.data"):
            for name in ("decoded", "mapped", "decoded"):
                held(name, hold, folder)
        assert all("cannot be read" in record.message for record in caplog.records)
        assert len(caplog.records) == 3

    @pytest.mark.parametrize("name", ["mapped", "decoded"])
    def test_what_can_be_read_only_now_is_not_taken_for_black(self, hold, name):
        """A disk that failed for a moment, or a larger limit of Pillow."""
        broken = {17}

        def load(place):
            if place in broken:
                raise OSError(5, "Input/output error")
            return np.full(SHAPE, place, dtype=np.uint8)

        def gather(*, strict):
            origin = gathering.Origin([*map(str, range(GOOD))], load, SHAPE, "x", strict=strict)
            return gathering.gather(origin, lambda: cache.Key("images", "x", {}, ()))

        hold(name)
        assert gather(strict=False).skipped == ("17: Input/output error",)
        broken.clear()
        again = gather(strict=False)
        assert again.places.tolist() == [place for place in range(GOOD) if place != 17]
        assert "17: could not be read when it was looked at first, and can be now: 'zoo cache" in again.skipped[0]
        with pytest.raises(DataError, match=r"x: 17: could not .* 'zoo cache clear --kind images'"):
            gather(strict=True)
        cache.clear(cache.entries()[0])
        assert gather(strict=True).skipped == ()


class TestLater:
    @pytest.mark.parametrize("change", ["removed", "damaged"])
    def test_a_file_that_cannot_be_read_any_more(self, folder, hold, change):
        found = held("decoded", hold, folder)
        path = folder / "cat/06.png"
        path.unlink() if change == "removed" else path.write_bytes(b"no")
        place = found.files.index("cat/06.png")
        assert found.batch(torch.tensor([place + 1])).shape == (1, *SHAPE)
        words = r"animals: cat/06\.png could be read before, and cannot be now: .*" + (
            "No such file" if change == "removed" else "cannot identify"
        )
        with pytest.raises(DataError, match=words):
            found.batch(torch.arange(len(found)))

    def test_a_map_does_not_need_its_files(self, folder, hold):
        found = held("mapped", hold, folder)
        first = found.pixels
        shutil.rmtree(folder)
        shutil.rmtree(cache.root())
        assert torch.equal(found.pixels, first)


class Squares(Dataset):
    """Images that come one by one, some of which are broken."""

    def __init__(self, broken=()):
        self.broken, self.asked = broken, []

    def __len__(self):
        return 30

    def __getitem__(self, place):
        self.asked.append(place)
        if place in self.broken:
            raise OSError("the disk has a hole")
        return torch.full((3, 8, 8), place * 8, dtype=torch.uint8), place % 2


class TestOneByOne:
    def test_datasets_are_read_when_asked_for(self, hold):
        hold("mapped")
        source = Squares(broken=(3, 29))
        found = images(source, SHAPE)
        assert type(found.store) is Decoded
        assert source.asked == [*range(30)]
        assert found.skipped == ("item 3: the disk has a hole", "item 29: the disk has a hole")
        assert found.batch(torch.tensor([3, 0]))[:, 0, 0, 0].mul(255).tolist() == [32, 0]
        assert found.labels.tolist() == [place % 2 for place in range(29) if place != 3]
        hold("resident")
        assert found.fingerprint == images(Squares(broken=(3, 29)), SHAPE).fingerprint
        assert cache.entries() == []

    @pytest.mark.parametrize("data", [np.random.default_rng(0).random((30, 9, 11)), Squares()])
    def test_arrays_and_others_of_another_shape(self, hold, data):
        hold("resident")
        whole = images(data, (1, 6, 5))
        hold("mapped")
        found = images(data, (1, 6, 5))
        assert type(found.store) is Decoded
        assert torch.equal(found.pixels, whole.pixels)
        assert images(found, (3, 4, 4)).fingerprint == images(whole, (3, 4, 4)).fingerprint

    def test_two_parts_of_a_name_are_one(self, hold, monkeypatch):
        hold("resident")
        whole = images("sample", (1, 5, 5), split="all")
        hold("mapped")
        found = images("sample", (1, 5, 5), split="all")
        assert found.fingerprint == whole.fingerprint
        index = torch.tensor([9999, 0, 8999, 9000, 9000])
        assert torch.equal(found.batch(index), whole.batch(index))
        assert found.subset(index).labels.tolist() == whole.labels[index].tolist()


# ---- Anonymous memory: what a process holds beside the files that it maps ----

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads /proc")
SIDE = 28
MB = 10**6


def write_npy(path: Path, count: int) -> None:
    """A file of images that takes no room on the disk where they are black."""
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 1, SIDE, SIDE))
    array[:: max(1, count // 500), 0, 5:9] = 200
    array.flush()


def shuffled(found, batches=60):
    """Draw batches in random order."""
    for _ in range(batches):
        found.batch(torch.randint(len(found), (64,)))


def draw(path, out):
    with Memory() as memory:
        found = images(path, (1, SIDE, SIDE))
        assert found.fingerprint
        shuffled(found)
    out.write_text(str(memory.grown))


def draw_files(folder, out):
    gathering.BLOCK, making.SHARD_BYTES = 256, 4 * MB
    with Memory() as memory:
        shuffled(images(folder, (3, 64, 64), split="all"), 10)
    out.write_text(str(memory.grown))


def learn(path, out):
    """Level 1 on images, their codes, level 2 on these."""
    making.SHARD_BYTES, codes.BATCH = 2 * MB, 64
    loops.PREPARED_ELEMENTS, runs.FINISHED_ELEMENTS = 10**5, 10**4
    torch.manual_seed(0)
    stack = build("28x28x1/conv7x7x10(width=4, blocks=0)/fc4(hidden=[8], linear=false)")
    with Memory() as memory:
        fit(stack, path, steps=3, precision="fp32", progress=False, batch_size=16)
    out.write_text(str(memory.grown))


def grown(work, place, tmp_path, **environ):
    """What a process of its own needs to do this."""
    out = tmp_path / "grown"
    variables = {"ZOO_CACHE": str(tmp_path / f"cache-{Path(place).name}"), "ZOO_MEMORY_LIMIT": "1MB", **environ}
    assert run(work, place, out, log=tmp_path / "log", environ=variables) == 0, (tmp_path / "log").read_text()
    return int(out.read_text())


@needs_proc
class TestFlat:
    def test_npy(self, tmp_path):
        small, large = (tmp_path / f"{name}.npy" for name in ("small", "large"))
        write_npy(small, 20_000)
        write_npy(large, 200_000)  # 157 MB
        needs = [grown(draw, path, tmp_path) for path in (small, large)]
        assert needs[1] < needs[0] + 16 * MB  # of that, 6 MB of digests

    def test_safetensors(self, tmp_path):
        path = tmp_path / "images.safetensors"
        save_file({"images": torch.zeros(60_000, 1, SIDE, SIDE, dtype=torch.uint8)}, path)  # 47 MB
        assert grown(draw, path, tmp_path) < 16 * MB

    @pytest.mark.parametrize("how", [{}, {"ZOO_CACHE_LIMIT": "1MB"}, {"ZOO_MEMORY_LIMIT": "1GB"}])
    def test_files(self, tmp_path, how):
        for number in range(20):
            pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            (tmp_path / "images").mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png", compress_level=0)
        needs = []
        for count in (400, 8000):  # 5 and 98 MB
            (tmp_path / f"{count}").mkdir()
            for number in range(count):
                os.link(tmp_path / "images" / f"{number % 20}.png", tmp_path / f"{count}" / f"{number}.png")
            needs.append(grown(draw_files, tmp_path / f"{count}", tmp_path, **how))
        if "ZOO_MEMORY_LIMIT" in how:  # in memory: what is measured here can be seen
            assert needs[1] > needs[0] + 60 * MB
        else:
            assert needs[1] < needs[0] + 12 * MB

    def test_a_whole_run(self, tmp_path):
        small, large = (tmp_path / f"{name}.npy" for name in ("small", "large"))
        write_npy(small, 4_000)
        write_npy(large, 40_000)  # 31 MB, and 78 MB of codes
        needs = [grown(learn, path, tmp_path) for path in (small, large)]
        assert needs[1] < needs[0] + 16 * MB
