"""The cache: made once, believed when it is whole and current, shared by processes, no larger than allowed."""

from __future__ import annotations

import errno
import json
import os
import pwd
import resource
import signal
import sys
from pathlib import Path

import pytest
import torch
from children import ended, run, start, until

from zoo import cache, files
from zoo.cache import Key, folder, making
from zoo.errors import FileError

ROWS, SHARD = 10, 4  # three shards: of four rows, four and two
WHOLE = [*range(ROWS)]
PROBE = [*range(SHARD)]
FILES = [f"{first:012d}.safetensors" for first in (0, 4, 8)]


class StoppedError(Exception):
    pass


class Table:
    """Makes rows that are known, and remembers which it was asked for."""

    def __init__(self, factor: float = 1.0):
        self.factor, self.made = factor, []

    def __call__(self, places, tick):
        self.made += [*places]
        tick(len(places))
        return rows(places, self.factor)


def rows(places, factor=1.0):
    number = torch.tensor([*places])
    return {"x": number[:, None] * torch.tensor([1.0, factor]), "whole": number, "odd": number % 2 == 1}


def key(kind="codes", title="numbers", identity=("of",), **parts):
    return Key(kind, title, {"of": "numbers", "weights": "abc", **parts}, identity)


def obtain(table, wanted=None, **options):
    return cache.obtain(wanted or key(), ROWS, table, row_bytes=8, **options)


def right(shards, factor=1.0):
    whole = rows(WHOLE, factor)
    return len(shards) == ROWS and all(torch.equal(shards.all(name), value) for name, value in whole.items())


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(making, "SHARD_BYTES", 8 * SHARD)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ZOO_CACHE_LIMIT", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def said():
    return []


@pytest.fixture
def entry():
    """The folder of an entry that is whole."""
    obtain(Table())
    return key().folder


class TestOnce:
    def test_rows_are_made_once_and_read_again(self, said):
        table, ticks = Table(), []
        assert right(obtain(table, tick=ticks.append, say=said.append))
        assert table.made == WHOLE
        assert ticks == [4, 4, 2]
        again = Table()
        assert right(obtain(again, tick=ticks.append, say=said.append))
        assert again.made == PROBE
        assert sum(ticks) == ROWS  # a probe is no progress
        assert said == []

    def test_shards_hold_what_they_should_and_are_indexed(self, entry):
        index = json.loads((entry / "index.json").read_text())
        assert sorted(path.name for path in entry.iterdir()) == [*FILES, "index.json"]
        assert [(shard["file"], shard["first"], shard["rows"]) for shard in index["shards"]] == [
            (FILES[0], 0, 4), (FILES[1], 4, 4), (FILES[2], 8, 2)
        ]  # fmt: skip
        for shard in index["shards"]:
            assert shard["bytes"] == (entry / shard["file"]).stat().st_size
            assert shard["sha256"] == files.sha256(entry / shard["file"])
        assert (index["rows"], index["title"], index["key"]) == (ROWS, "numbers", dict(key().parts))

    def test_rows_larger_than_a_shard_are_one_a_shard(self):
        shards = cache.obtain(key(), 3, Table(), row_bytes=10**9)
        assert shards.rows == [1, 1, 1]

    @pytest.mark.parametrize(("together", "held"), [(2, [4, 4, 2]), (3, [3, 3, 3, 1]), (4, [4, 4, 2]), (5, [4, 4, 2])])
    def test_shards_begin_where_rows_are_made_together(self, together, held):
        shards = obtain(Table(), together=together)
        assert shards.rows == held
        assert right(shards)

    @pytest.mark.parametrize(
        "changed", [{"kind": "features"}, {"weights": "abd"}, {"more": 1}, {"more": None}, {"of": "others"}]
    )
    def test_another_key_is_another_entry(self, entry, changed):
        table = Table(2.0)
        assert right(obtain(table, key(**changed)), 2.0)
        assert table.made == WHOLE
        assert right(obtain(Table()))

    def test_the_order_of_parts_the_title_and_what_is_the_same_thing_are_no_part_of_a_key(self, entry):
        table = Table()
        other = Key("codes", "another title", {"weights": "abc", "of": "numbers"}, ("weights",))
        assert right(obtain(table, other))
        assert table.made == PROBE

    def test_what_changed_is_said(self, entry, said):
        obtain(Table(), key(weights="new"), say=said.append)
        assert said == ["numbers: weights changed: made anew"]
        said.clear()
        obtain(Table(), key(of="letters"), say=said.append)
        obtain(Table(), key(kind="features"), say=said.append)
        assert said == []

    def test_a_part_of_an_entry_is_another_thing(self, said):
        for wanted in (key().of("digests"), key(), key().of("names"), key(weights="new").of("names")):
            obtain(Table(), wanted, say=said.append)
        assert said == ["numbers, names: weights changed: made anew"]

    def test_an_entry_that_goes_while_it_is_compared(self, entry, said, monkeypatch):
        there = cache.entries()
        cache.clear(there[0])
        monkeypatch.setattr(sys.modules["zoo.cache.entries"], "entries", lambda: there)
        assert right(obtain(Table(), key(weights="new"), say=said.append))
        assert said == []


class TestDamage:
    def flip(self, path):
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)

    def cut(self, path):
        os.truncate(path, path.stat().st_size - 1)

    def empty(self, path):
        os.truncate(path, 0)

    def remove(self, path):
        path.unlink()

    def exchange(self, path):
        path.write_bytes((path.parent / FILES[(FILES.index(path.name) + 1) % 3]).read_bytes())

    @pytest.mark.parametrize("part", [0, 1, 2])
    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            ("flip", "its sha256 is another"),
            ("cut", "bytes instead of"),
            ("empty", "has 0 bytes"),
            ("remove", "is missing"),
            ("exchange", " "),
        ],
    )
    def test_a_damaged_shard_costs_its_own_rows(self, entry, said, damage, words, part):
        getattr(self, damage)(entry / FILES[part])
        table, first = Table(), SHARD * part
        assert right(obtain(table, say=said.append))
        lost = WHOLE[first : first + SHARD]
        assert table.made == [*(range(4, 8) if part == 0 else PROBE), *lost]  # the probe is of a shard that is whole
        assert str(entry / FILES[part]) in said[0]
        assert words in said[0]
        assert f"its {len(lost)} rows are made anew" in said[0]
        again = Table()
        assert right(obtain(again))
        assert again.made == PROBE

    def test_a_disk_that_cannot_read_a_shard(self, entry, said, monkeypatch):
        sha256 = files.sha256

        def broken(path):
            if path.name == FILES[1]:
                monkeypatch.setattr(files, "sha256", sha256)
                raise OSError(errno.EIO, "Input/output error")
            return sha256(path)

        monkeypatch.setattr(files, "sha256", broken)
        table = Table()
        assert right(obtain(table, say=said.append))
        assert table.made == [*PROBE, *range(4, 8)]
        assert "Input/output error" in said[0]

    @pytest.mark.parametrize(
        "text",
        [
            None, "", "{", "[]", "{}", '{"title": "x", "key": {}, "rows": 10, "shards": [{}]}',
            '{"title": "x", "key": {}, "rows": 10, "shards": [{"file": "../x", "first": 0, "rows": 4, "bytes": 1, '
            '"sha256": ""}]}',
        ],
    )  # fmt: skip
    def test_without_an_index_everything_is_made_anew(self, entry, said, text):
        (entry / "index.json").unlink()
        if text is not None:
            (entry / "index.json").write_text(text)
        table = Table()
        assert right(obtain(table, say=said.append))
        assert table.made == WHOLE
        assert "made anew" in said[0]
        assert str(entry) in said[0]

    def test_an_index_of_a_later_format_is_not_believed(self, entry, said):
        index = json.loads((entry / "index.json").read_text())
        (entry / "index.json").write_text(json.dumps({**index, "format_version": 2}))
        table = Table()
        assert right(obtain(table, say=said.append))
        assert table.made == WHOLE
        assert "format_version 2" in said[0]

    def test_stale_rows_are_all_made_anew(self, entry, said):
        table = Table(2.0)
        assert right(obtain(table, say=said.append), 2.0)
        assert table.made == PROBE + WHOLE
        assert len(said) == 1
        assert "something else than is made now" in said[0]

    @pytest.mark.parametrize(
        "change",
        [
            lambda rows: rows | {"more": rows["x"].clone()},
            lambda rows: {"x": rows["x"], "odd": rows["odd"]},
            lambda rows: rows | {"x": rows["x"][:, :1]},
            lambda rows: rows | {"whole": rows["whole"].to(torch.int32)},
            lambda rows: rows | {"odd": ~rows["odd"]},
        ],
    )
    def test_rows_of_another_form_are_stale_too(self, entry, said, change):
        table, made = Table(), Table.__call__
        obtain(lambda places, tick: change(made(table, places, tick)), say=said.append)
        assert table.made == PROBE + WHOLE
        assert len(said) == 1

    def test_numbers_may_be_as_far_off_as_is_allowed(self, entry):
        near, far = Table(1.004), Table(1.02)
        assert right(obtain(near, close=0.01))
        assert near.made == PROBE
        assert right(obtain(far, close=0.01), 1.02)
        assert far.made == PROBE + WHOLE

    def test_shards_of_another_size_are_made_anew_and_the_old_ones_removed(self, entry, monkeypatch):
        monkeypatch.setattr(making, "SHARD_BYTES", 8 * 5)
        table = Table()
        assert right(obtain(table))
        assert table.made == WHOLE
        names = [f"{first:012d}.safetensors" for first in (0, 5)]
        assert sorted(path.name for path in entry.iterdir()) == [*names, "index.json"]
        assert [verified.made for verified in cache.entries()] == [ROWS]


class TestHalfWritten:
    def test_what_raises_in_the_middle_goes_on_where_it_was(self, said):
        def stopping(count):
            done.append(count)
            if sum(done) > 8:
                raise StoppedError

        done = []
        with pytest.raises(StoppedError):
            obtain(Table(), tick=stopping)
        (half,) = cache.entries()
        assert (half.made, half.rows, half.error) == (8, 10, None)
        table = Table()
        assert right(obtain(table, say=said.append))
        assert table.made == [*PROBE, 8, 9]
        assert said == ["numbers: 2 of 3 shards are there already; going on"]

    def test_being_asked_to_stop_is_heard_while_much_is_hashed(self, entry):
        def stop(count):
            raise StoppedError

        with pytest.raises(StoppedError):
            obtain(Table(), tick=stop)
        table = Table()
        assert right(obtain(table))
        assert table.made == PROBE

    def test_what_killed_processes_left_is_swept(self, entry):
        for name in ("x-000000000000.safetensors", "y-index.json"):
            (entry / f".unfinished-{name}").write_bytes(b"half")
        table = Table()
        assert right(obtain(table))
        assert table.made == PROBE
        assert sorted(path.name for path in entry.iterdir()) == [*FILES, "index.json"]

    @pytest.mark.parametrize(("moment", "there"), [(1, 0), (2, 4), (3, 8)])
    def test_a_process_killed_in_the_middle_of_a_shard(self, tmp_path, root, said, moment, there):
        status = run(killed_while_writing, moment, log=tmp_path / "log", environ={"ZOO_CACHE": str(root)})
        assert status == -signal.SIGKILL
        assert any(path.name.startswith(".unfinished") for path in key().folder.iterdir())
        table = Table()
        assert right(obtain(table, say=said.append))
        assert table.made == (WHOLE if there == 0 else [*PROBE, *WHOLE[there:]])
        assert sorted(path.name for path in key().folder.iterdir()) == [*FILES, "index.json"]
        assert len(said) == 1

    def test_readers_keep_what_they_opened(self, entry):
        before = obtain(Table())
        assert right(obtain(Table(3.0)), 3.0)
        assert right(before)
        (gone,) = cache.entries()
        assert cache.clear(gone)
        assert right(before)


class TestReading:
    @pytest.mark.parametrize("count", [1, 4, 9, 10, 23])
    def test_take_is_plain_indexing(self, count, monkeypatch):
        shards = cache.obtain(key(), count, Table(), row_bytes=8)
        assert len(shards.parts) == -(-count // SHARD)
        whole, generator = rows(range(count)), torch.Generator().manual_seed(count)
        for size in (0, 1, 2, 7, 50):
            index = torch.randint(count, (size,), generator=generator)  # unsorted, and with repetitions
            for name, value in whole.items():
                assert torch.equal(shards.take(name, index), value[index])
                assert shards.take(name, index).dtype == value.dtype
        order = torch.randperm(count, generator=generator)
        assert torch.equal(shards.take("x", order), whole["x"][order])
        assert (shards.shape("x"), shards.shape("whole"), len(shards)) == ((2,), (), count)

    def test_what_is_taken_is_a_copy(self, entry):
        shards = obtain(Table())
        shards.take("x", torch.arange(ROWS)).fill_(7)
        assert right(shards)
        assert right(obtain(Table()))

    def test_shards_of_two_types_lose_nothing(self):
        def halved(places, tick):
            x = torch.tensor([*places])[:, None] + torch.tensor([1e-4, 7e4])
            return {"x": x.half() if places.start == 0 else x}

        shards = cache.obtain(key(), 8, halved, row_bytes=8)
        assert [part["x"].dtype for part in shards.parts] == [torch.float16, torch.float32]
        taken = shards.take("x", torch.tensor([5, 0]))
        assert torch.equal(taken[0], torch.tensor([5.0001, 70005.0]))
        assert torch.equal(taken, shards.all("x")[[5, 0]])


class TestLimit:
    def fill(self, *names):
        """Entries of about the same size, used in this order."""
        for place, name in enumerate(names):
            obtain(Table(), key(of=name, title=name))
            os.utime(key(of=name).folder / "index.json", (1e9 + place, 1e9 + place))
        return next(entry.bytes for entry in cache.entries())

    def titles(self):
        return [entry.title for entry in cache.entries()]

    def test_what_was_not_used_for_the_longest_time_goes(self, monkeypatch, said):
        size = self.fill("a", "b", "c")
        assert self.titles() == ["c", "b", "a"]
        obtain(Table(), key(of="a"))  # now b is the oldest
        monkeypatch.setenv("ZOO_CACHE_LIMIT", str(int(3.5 * size)))
        obtain(Table(), key(of="d", title="d"), say=said.append)
        assert self.titles() == ["d", "a", "c"]
        assert not key(of="b").folder.exists()
        assert len(said) == 1
        assert "let go of b" in said[0]
        obtain(Table(), key(of="e", title="e"))
        assert self.titles() == ["e", "d", "a"]

    def test_what_was_just_asked_for_stays_however_large(self, monkeypatch):
        self.fill("a", "b")
        monkeypatch.setenv("ZOO_CACHE_LIMIT", "0")
        assert right(obtain(Table(), key(of="a")))
        assert self.titles() == ["a"]

    def test_what_is_worked_on_stays(self, monkeypatch):
        self.fill("a", "b", "c")
        monkeypatch.setenv("ZOO_CACHE_LIMIT", "1")
        with folder.held(key(of="a").digest, waiting=lambda: None):
            assert not cache.clear(cache.entries()[-1])
            assert [gone.title for gone in cache.evict(keep=key(of="c").folder)] == ["b"]
            assert self.titles() == ["c", "a"]
        assert [gone.title for gone in cache.evict()] == ["a", "c"]
        assert cache.entries() == []

    def test_half_written_and_damaged_entries_count_too(self, monkeypatch):
        size = self.fill("a", "b")
        (key(of="a").folder / "index.json").unlink()
        os.utime(key(of="a").folder, (1e9, 1e9))
        assert [(entry.title, entry.error is None) for entry in cache.entries()] == [("b", True), ("?", False)]
        monkeypatch.setenv("ZOO_CACHE_LIMIT", str(int(1.5 * size)))
        assert [gone.title for gone in cache.evict()] == ["?"]

    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("", 20 * 10**9), ("1000", 1000), ("500MB", 5 * 10**8), ("20 GB", 2 * 10**10), ("1.5kb", 1500),
            (" 2t ", 2 * 10**12), ("7B", 7), ("3M", 3 * 10**6), ("0", 0),
        ],
    )  # fmt: skip
    def test_sizes(self, monkeypatch, text, size):
        monkeypatch.setenv("ZOO_CACHE_LIMIT", text)
        assert cache.limit() == size

    @pytest.mark.parametrize("text", ["much", "-1", "1e9", "20GiB", "GB", "1 000", "1.GB", "nan"])
    def test_sizes_that_are_none_are_refused_before_anything_is_made(self, monkeypatch, text):
        monkeypatch.setenv("ZOO_CACHE_LIMIT", text)
        table = Table()
        with pytest.raises(FileError, match=r"ZOO_CACHE_LIMIT=.* is no size: write 500MB"):
            obtain(table)
        assert table.made == []


class TestFolder:
    def test_where_it_is(self, monkeypatch, tmp_path):
        monkeypatch.setenv("ZOO_CACHE", "~/mine")
        assert cache.root() == Path.home() / "mine"
        monkeypatch.delenv("ZOO_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        assert cache.root() == Path.home() / ".cache" / "zoo"
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache.root() == tmp_path / "zoo"

    def test_nobody_needs_a_home(self, monkeypatch, tmp_path):
        def unknown(user):
            raise KeyError(user)

        monkeypatch.delenv("HOME")
        monkeypatch.setattr(pwd, "getpwuid", unknown)
        assert cache.root() == tmp_path / "cache"
        monkeypatch.delenv("ZOO_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        with pytest.raises(FileError, match="ZOO_CACHE"):
            cache.root()

    def test_a_folder_that_cannot_be_made(self, monkeypatch, tmp_path):
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file" / "cache"))
        table = Table()
        with pytest.raises(FileError, match=r"file/cache cannot be written to \(.*zoo cache clear.*ZOO_CACHE"):
            obtain(table)
        assert table.made == []
        assert cache.entries() == []

    def test_a_lock_that_cannot_be_taken_is_an_error_and_no_other_process(self, root):
        obtain(Table())
        lock = root / "locks" / f"{key().digest}.lock"
        lock.unlink()
        lock.mkdir()
        with pytest.raises(FileError, match="cannot be written to"):
            obtain(Table())
        with pytest.raises(FileError, match="cannot be written to"), folder.held_if_free(key().digest):
            pass
        assert not cache.clear(cache.entries()[0])

    @pytest.mark.parametrize(("module", "name"), [(files.weights, "save_file"), (files, "write_json")])
    @pytest.mark.parametrize("moment", [1, 3])
    def test_a_full_disk(self, monkeypatch, module, name, moment):
        real, calls = getattr(module, name), []

        def full(*arguments):
            calls.append(name)
            if len(calls) == moment:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments)

        monkeypatch.setattr(module, name, full)
        with pytest.raises(FileError, match=r"No space left on device\): make room"):
            obtain(Table())
        assert not [path.name for path in key().folder.iterdir() if path.name.startswith(".")]
        monkeypatch.setattr(module, name, real)
        table = Table()
        assert right(obtain(table))
        assert table.made == (WHOLE if moment == 1 else [*PROBE, 8, 9])

    def test_a_file_that_may_not_be_as_large(self, tmp_path, root):
        """The operating system refuses in the middle of a shard, as it does when a disk is full."""
        assert run(write_too_much, log=tmp_path / "log", environ={"ZOO_CACHE": str(root)}) == 0
        assert "cannot be written to" in (tmp_path / "log").read_text()
        assert [path.name for path in key().folder.iterdir() if "index" not in path.name] == []
        assert right(obtain(Table()))


class TestProcesses:
    def begin(self, name, tmp_path):
        """A process that makes the entry, slowly until it is let go, and writes down what it does."""
        return start(make_slowly, name, tmp_path, log=tmp_path / f"{name}.log",
                     environ={"ZOO_CACHE": str(tmp_path / "cache")})  # fmt: skip

    def log(self, tmp_path, name):
        return (tmp_path / f"{name}.log").read_text() if (tmp_path / f"{name}.log").is_file() else ""

    def made(self, tmp_path):
        """What all processes made, in turn: the name of the process, and the rows."""
        return [line.split(maxsplit=1) for line in (tmp_path / "made").read_text().splitlines()]

    def test_two_at_once_make_it_once(self, tmp_path):
        one = self.begin("one", tmp_path)
        until(lambda: (tmp_path / "made").is_file() and len(self.made(tmp_path)) == 2)
        two = self.begin("two", tmp_path)
        until(lambda: "waiting" in self.log(tmp_path, "two"))
        (tmp_path / "go").touch()
        assert [ended(one), ended(two)] == [0, 0]
        assert self.made(tmp_path) == [["one", "0-3"], ["one", "4-7"], ["one", "8-9"], ["two", "0-3"]]  # a probe
        assert (tmp_path / "one.log").read_text().splitlines() == ["ticked 10 waited False right"]
        assert (tmp_path / "two.log").read_text().splitlines() == [
            "numbers: another process is at work on the same; waiting for it", "ticked 0 waited True right"
        ]  # fmt: skip

    def test_the_one_that_waits_goes_on_when_the_other_is_killed(self, tmp_path):
        one = self.begin("one", tmp_path)
        until(lambda: (tmp_path / "made").is_file() and len(self.made(tmp_path)) == 2)
        two = self.begin("two", tmp_path)
        until(lambda: "waiting" in self.log(tmp_path, "two"))
        one.kill()
        (tmp_path / "go").touch()
        assert [ended(one), ended(two)] == [-signal.SIGKILL, 0]
        assert self.made(tmp_path)[2:] == [["two", "0-3"], ["two", "4-7"], ["two", "8-9"]]  # a probe, and what is left
        assert (tmp_path / "two.log").read_text().splitlines()[1:] == [
            "numbers: 1 of 3 shards are there already; going on", "ticked 6 waited True right"
        ]  # fmt: skip

    def test_waiting_can_be_stopped(self, entry):
        def stop(count):
            raise StoppedError

        with folder.held(key().digest, waiting=lambda: None), pytest.raises(StoppedError):
            obtain(Table(), tick=stop)
        assert right(obtain(Table()))


def killed_while_writing(moment):
    """Write half of a shard, and die."""
    making.SHARD_BYTES = 8 * SHARD
    real, calls = files.weights.save_file, []

    def save(tensors, path, metadata):
        calls.append(path)
        real(tensors, path, metadata)
        if len(calls) == moment:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    files.weights.save_file = save
    obtain(Table())


def write_too_much():
    making.SHARD_BYTES = 8 * SHARD
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    try:
        obtain(Table())
    except FileError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        say(error)
        return
    raise AssertionError("it was written")


def make_slowly(name, folder):
    making.SHARD_BYTES = 8 * SHARD
    ticks = []

    def make(places, tick):
        with (folder / "made").open("a") as file:
            file.write(f"{name} {places[0]}-{places[-1]}\n")
        if places.start == 4:
            until((folder / "go").is_file)
        tick(len(places))
        return rows(places)

    shards = obtain(make, tick=ticks.append, say=say)
    say(f"ticked {sum(ticks)} waited {0 in ticks} {'right' if right(shards) else 'wrong'}")


def say(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
