"""Disks that are full, and disks that may only be read: what was there stays, and the error says what to do."""

from __future__ import annotations

import errno
import fcntl
import os
import resource

import pytest
import torch
import volumes
from children import run
from filelock import FileLock
from volumes import mounted

from zoo import cache, files
from zoo.builder import build, load
from zoo.cache import Key, making
from zoo.errors import FileError, UnwritableError, ZooError
from zoo.training import fit
from zoo.training import run as runs
from zoo.training.checkpoints import Checkpoint, Shelf

OLD, NEW = "4x4x1/conv2x2x2(width=2, blocks=0)/fc3(hidden=[4])", "4x4x1/fc2(hidden=[64])"
FULL = "make room there, or choose another folder"
KEY = Key("codes", "numbers", {"of": "numbers"}, ("of",))
OTHER = Key("codes", "others", {"of": "others"}, ("of",))


def save(spec, folder):
    return build(spec).save(folder, report={"levels": [], "spec": spec})


def contents(folder):
    """What lies in a folder, with what stands in it."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "filler"}


def is_whole(folder, spec):
    assert str(load(folder).spec) == str(build(spec).spec)
    assert load(folder).report["spec"] == spec


def saves_or_stays(folder):
    """Whether a stack can take the place of the old one; if not, nothing has changed."""
    before = contents(folder)
    try:
        save(NEW, folder)
    except UnwritableError as error:
        assert str(error).startswith(f"{folder} cannot be written (")  # noqa: PT017 - every limit gives it or none
        assert str(error).endswith(FULL)  # noqa: PT017
        assert contents(folder) == before
        is_whole(folder, OLD)
        return False
    is_whole(folder, NEW)
    return True


def checkpoint(step):
    return Checkpoint(0, step, tensors={"weights/x": torch.full((500,), float(step))})


def shelves_or_stays(folder):
    """Whether a second checkpoint can be written; if not, the first is still the last."""
    shelf = Shelf(folder)
    before = contents(folder)
    try:
        shelf.save(checkpoint(2))
    except UnwritableError as error:
        assert str(error).endswith(FULL)  # noqa: PT017
        assert contents(folder) == before
        assert shelf.load("last").step == 1
        return False
    assert shelf.load("last").step == 2
    return True


def make(places, tick):
    return {"x": torch.tensor([*places])[:, None].expand(-1, 200).float()}


def obtain(key=KEY, made=make):
    return cache.obtain(key, 40, made, row_bytes=800)


def keeps_or_says(_folder):
    """Whether the rows can be kept; if not, the entry is none or one that can be gone on with."""
    try:
        obtain()
    except FileError as error:
        assert "make room ('zoo cache clear'), or set the environment variable ZOO_CACHE" in str(error)  # noqa: PT017
        assert all(cache.verify(entry) == [] or entry.made == 0 for entry in cache.entries())
        assert not list(cache.root().rglob(f"{files.UNFINISHED}*"))
        return False
    assert torch.equal(obtain().all("x"), make(range(40), None)["x"])
    return True


ATTEMPTS = [(saves_or_stays, "stack"), (shelves_or_stays, "shelf"), (keeps_or_says, "cache")]

# -- full ------------------------------------------------------------------------------------------------------------


def fill(folder):
    """With one more page free each time: it fails, until it does not."""
    volumes.apart()
    disk = volumes.small(folder / "disk", 2**20)
    for attempt, place in ATTEMPTS:
        found = []
        while not (found and found[-1]):
            save(OLD, disk / "stack")
            Shelf(disk / "shelf").forget_after(None)
            Shelf(disk / "shelf").save(checkpoint(1))
            (disk / "cache").mkdir(exist_ok=True)
            with volumes.nearly_full(disk, len(found)):
                found.append(attempt(disk / place))
        assert 2 <= len(found) < 40, (place, found)


def limit(folder):
    """The same with a limit to the size of a file: no disk of one's own is needed for that."""
    for attempt, place in ATTEMPTS:
        found = []
        for size in (0, 1, 100, 1000, 2000, 4000, 20_000):
            save(OLD, folder / "stack")
            Shelf(folder / "shelf").forget_after(None)
            Shelf(folder / "shelf").save(checkpoint(1))
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            found.append(attempt(folder / place))
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert sorted(found) == found, (place, found)
        assert found[-1]
        assert not found[2]


def test_what_is_synced_is_open_for_writing(tmp_path, monkeypatch):
    """Windows refuses to sync what is not."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE))
    save(NEW, tmp_path)
    assert set(synced) == {os.O_RDWR}


@pytest.mark.parametrize("scarce", [fill, limit])
def test_a_full_disk(tmp_path, scarce):
    environ = {"ZOO_CACHE": str(tmp_path / "disk" / "cache")}
    code = run(small_shards, scarce, tmp_path, log=tmp_path / "log", environ=environ)
    assert mounted(code) == 0, (tmp_path / "log").read_text()


def small_shards(work, *arguments):
    making.SHARD_BYTES = 10 * 800
    work(*arguments)


def train(folder):
    """A run that finds the disk full says so, and goes on where it was when there is room."""
    runs.trackers = lambda **_: []  # TensorBoard writes in a thread of its own
    volumes.apart()
    disk = volumes.small(folder / "disk", 2**20)
    x = torch.rand(100, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with volumes.nearly_full(disk, 10):
        said = refused(lambda: fit(build(NEW), x, out=disk / "run", steps=3, progress=False))
    assert said.startswith(str(disk / "run" / "checkpoints"))
    assert said.endswith(f"cannot be written (No space left on device): {FULL}")
    assert not list(disk.rglob(f"{files.UNFINISHED}*"))
    fit(build(NEW), x, out=disk / "run", steps=3, progress=False, resume=True)
    assert load(disk / "run").level(1).trained


def test_a_run_on_a_full_disk(tmp_path):
    code = run(train, tmp_path, log=tmp_path / "log", environ={"ZOO_CACHE": str(tmp_path / "cache")})
    assert mounted(code) == 0, (tmp_path / "log").read_text()


# -- only to be read -------------------------------------------------------------------------------------------------


def read_only(folder):
    save(OLD, folder / "stack")
    obtain()
    volumes.apart()
    volumes.read_only(folder)
    before = contents(folder)
    is_whole(folder / "stack", OLD)
    for change in (
        lambda: save(NEW, folder / "stack"),
        lambda: files.write_report(folder / "stack", {"levels": []}),
        lambda: save(NEW, folder / "new"),
        lambda: Shelf(folder / "stack").save(checkpoint(1)),
    ):
        said = refused(change)
        assert str(folder) in said
        assert said.endswith("cannot be written (Read-only file system): choose another folder")
    reads_what_is_there("Read-only file system")
    assert contents(folder) == before


def refused(change):
    try:
        change()
    except ZooError as error:
        return str(error)
    raise AssertionError("it was written")


def reads_what_is_there(reason):
    """Of the cache; what is not there cannot be made."""
    asked = []

    def made(places, tick):
        asked.extend(places)
        return make(places, tick)

    assert torch.equal(obtain(made=made).all("x"), make(range(40), None)["x"])
    assert asked == [0, 1, 2, 3]  # to see whether they are what would be made now
    assert [entry.made for entry in cache.entries()] == [40]
    assert cache.verify(cache.entries()[0]) == []
    assert not cache.clear(cache.entries()[0])
    said = refused(lambda: obtain(OTHER))
    assert f"cannot be written to ({reason})" in said
    assert "set the environment variable ZOO_CACHE to another folder" in said


def test_a_disk_that_may_only_be_read(tmp_path):
    environ = {"ZOO_CACHE": str(tmp_path / "disk" / "cache")}
    (tmp_path / "disk").mkdir()
    code = run(small_shards, read_only, tmp_path / "disk", log=tmp_path / "log", environ=environ)
    assert mounted(code) == 0, (tmp_path / "log").read_text()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_cache_whose_locks_are_not_ours(tmp_path, monkeypatch, number):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(making, "SHARD_BYTES", 10 * 800)
    obtain()

    def refuse(*_args, **_kwargs):
        raise OSError(number, "not yours")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    reads_what_is_there("not yours")
    shard = next(KEY.folder.glob("*.safetensors"))
    shard.write_bytes(b"damaged")
    assert "cannot be written to (not yours)" in refused(obtain)  # rather than rows that are not there
