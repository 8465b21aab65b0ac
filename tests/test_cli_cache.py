"""`zoo cache`: what is listed, verified and cleared, what is asked first, and what the exit code says."""

from __future__ import annotations

import json
import os
import time

import pytest
import torch
from click.testing import CliRunner

from zoo import cache
from zoo.cache import Key, folder, making
from zoo.cli import caching, main
from zoo.cli.columns import columns

TITLES = {
    "codes": "conv2x2x4(hidden=[4]) of cats (train)",
    "images": "dogs, all, 8x8x3",
    "features": "resnet18 of cats (test)",
}


def zoo(*words, code=0, **options):
    """`zoo cache` in this process; its result, which must have this exit code."""
    result = CliRunner().invoke(main, ["cache", *map(str, words)], prog_name="zoo", **options)
    assert result.exit_code == code, f"{result.exit_code}\n{result.output}\n{result.exception!r}"
    return result


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZOO_CACHE_LIMIT", "3MB")
    monkeypatch.setattr(making, "SHARD_BYTES", 4 * 1000 * 4)
    return tmp_path / "cache"


@pytest.fixture
def full(root):
    """Three entries of ten rows, of which the codes were used last; their folders by kind."""
    folders = {}
    for age, (kind, title) in enumerate(TITLES.items()):
        key = Key(kind, title, {"of": kind}, ("of",))
        cache.obtain(key, 10, lambda rows, _: {"x": torch.rand(len(rows), 1000).round()}, row_bytes=4000)
        os.utime(key.folder / "index.json", (1.7e9 - age, 1.7e9 - age))
        folders[kind] = key.folder
    return folders


def titles():
    return [entry.title for entry in cache.entries()]


def flip(shard):
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)


def half(kind):
    """Leave an entry half-written."""
    entry = next(entry for entry in cache.entries() if entry.kind == kind)
    index = json.loads((entry.folder / "index.json").read_text())
    index["shards"].pop()
    (entry.folder / "index.json").write_text(json.dumps(index))


class TestList:
    def test_what_there_is_the_last_used_first(self, full, root):
        result = zoo("list")
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(1.7e9))
        rows = [[kind, TITLES[kind], "10 rows", "40.9 KB", day, full[kind].name[:8]] for kind in TITLES]
        printed = [line.split() for line in result.stdout.splitlines()]
        expected = [line.split() for line in columns(rows).splitlines()]
        assert [line[:4] for line in printed] == [line[:4] for line in expected]
        assert [line[-1] for line in printed] == [line[-1] for line in expected]
        assert day in result.stdout
        sizes = sum(entry.bytes for entry in cache.entries())
        assert f"3 entries, {folder.readable(sizes)}, in {root} (limit 3.0 MB)" in result.stderr

    def test_one_kind(self, full):
        (line,) = zoo("list", "--kind", "images").stdout.splitlines()
        assert line.split()[:2] == ["images", "dogs,"]
        assert "Invalid value for '--kind'" in zoo("list", "--kind", "pictures", code=2).stderr

    def test_json(self, full, root):
        half("features")
        (full["images"] / "index.json").unlink()
        said = json.loads(zoo("list", "--json").stdout)
        assert (said["folder"], said["limit"]) == (str(root), 3_000_000)
        entries = {entry["kind"]: entry for entry in said["entries"]}
        assert entries["codes"]["folder"] == str(full["codes"])
        assert (entries["codes"]["rows"], entries["codes"]["made"], entries["codes"]["error"]) == (10, 10, None)
        assert entries["codes"]["bytes"] == sum(path.stat().st_size for path in full["codes"].iterdir())
        assert entries["codes"]["used"] == 1.7e9
        assert (entries["features"]["rows"], entries["features"]["made"]) == (10, 8)
        assert "was never finished" in entries["images"]["error"]
        assert len(json.loads(zoo("list", "--json", "--kind", "codes").stdout)["entries"]) == 1

    def test_what_is_half_written_or_damaged_is_said(self, full):
        half("features")
        (full["images"] / "index.json").write_text("{")
        said = zoo("list").stdout
        assert "8 of 10 rows" in said
        assert "damaged" in said

    def test_an_empty_cache(self, root):
        result = zoo("list")
        assert result.stdout == ""
        assert f"0 entries, 0 B, in {root}" in result.stderr
        assert json.loads(zoo("list", "--json").stdout)["entries"] == []
        assert not root.exists()  # to look is not to make

    def test_a_limit_that_is_none(self, monkeypatch):
        monkeypatch.setenv("ZOO_CACHE_LIMIT", "much")
        result = zoo("list", code=1)
        assert "ZOO_CACHE_LIMIT='much' is no size" in result.stderr
        assert "Traceback" not in result.output


class TestVerify:
    def test_all_is_well(self, full):
        assert "3 entries checked, 0 damaged" in zoo("verify").stdout

    def test_what_is_damaged_is_named_and_the_exit_code_is_one(self, full):
        names = sorted(path.name for path in full["codes"].glob("*.safetensors"))
        flip(full["codes"] / names[0])
        (full["codes"] / names[2]).unlink()
        result = zoo("verify", code=1)
        assert f"{TITLES['codes']}: {full['codes'] / names[0]} is damaged: its sha256 is another" in result.stdout
        assert f"{full['codes'] / names[2]} is missing" in result.stdout
        assert names[1] not in result.stdout
        assert "3 entries checked, 1 damaged" in result.stdout
        assert "made again when it is next asked for; 'zoo cache clear' removes it" in result.stdout
        assert "checked, 0 damaged" in zoo("verify", "--kind", "images").stdout

    def test_an_index_that_cannot_be_read(self, full):
        (full["features"] / "index.json").write_text("{}")
        assert str(full["features"] / "index.json") in zoo("verify", "--kind", "features", code=1).stdout

    def test_what_is_half_written_is_not_damaged(self, full):
        half("codes")
        assert "checked, 0 damaged" in zoo("verify").stdout

    def test_what_has_just_been_begun_is_not_damaged(self, full):
        """No shard is whole yet, and another process is at work."""
        key = Key("codes", "begun", {"of": "begun"}, ())
        key.folder.mkdir()
        (key.folder / ".unfinished-x").write_bytes(b"half")
        with folder.held(key.digest, waiting=lambda: None):
            assert "checked, 0 damaged" in zoo("verify").stdout
        assert "checked, 1 damaged" in zoo("verify", code=1).stdout

    def test_an_empty_cache(self):
        assert "0 entries checked, 0 damaged" in zoo("verify").stdout


class TestClear:
    def test_it_asks(self, full):
        result = zoo("clear", input="n\n", code=1)
        assert "Remove 3 entries, " in result.stdout
        assert len(titles()) == 3
        zoo("clear", input="", code=1)
        assert len(titles()) == 3
        assert "Removed 3 entries, " in zoo("clear", input="y\n").stdout
        assert titles() == []
        assert not any(full[kind].exists() for kind in full)

    def test_yes(self, full):
        zoo("clear", "--yes")
        assert titles() == []
        assert "Nothing to remove." in zoo("clear", "--yes").stdout

    @pytest.mark.parametrize(
        ("words", "left"),
        [
            (["--kind", "codes"], ["images", "features"]),
            (["*cats*"], ["images"]),
            (["*cats*", "--kind", "features"], ["codes", "images"]),
            (["dogs*"], ["codes", "features"]),
            (["cats"], ["codes", "images", "features"]),
            ([TITLES["codes"]], ["images", "features"]),  # though [4] in it is a class of characters to a glob
            (["*(hidden=[[]4])*"], ["images", "features"]),
            (["nothing*"], ["codes", "images", "features"]),
            ([""], ["codes", "images", "features"]),  # "$UNSET", say
        ],
    )
    def test_patterns(self, full, words, left):
        zoo("clear", *words, "--yes")
        assert titles() == [TITLES[kind] for kind in left]

    def test_by_number(self, full):
        printed = zoo("list").stdout.splitlines()[1].split()[-1]
        assert full["images"].name.startswith(printed)
        zoo("clear", printed, "--yes")
        assert titles() == [TITLES["codes"], TITLES["features"]]
        assert not full["images"].exists()

    def test_what_is_damaged_can_be_removed(self, full):
        (full["codes"] / "index.json").write_text("{")
        zoo("clear", "--kind", "codes", "--yes")
        assert not full["codes"].exists()

    def test_what_is_worked_on_stays(self, full):
        with folder.held(full["codes"].name, waiting=lambda: None):
            result = zoo("clear", "--yes")
        assert "Removed 2 entries" in result.stdout
        assert f"Still there, because it is in use or cannot be removed: {full['codes']}" in result.stdout
        assert titles() == [TITLES["codes"]]

    def test_what_was_removed_is_made_again(self, full):
        zoo("clear", "--yes")
        made = []

        def make(rows, _):
            made.extend(rows)
            return {"x": torch.zeros(len(rows), 1000)}

        cache.obtain(Key("codes", TITLES["codes"], {"of": "codes"}, ("of",)), 10, make, row_bytes=4000)
        assert made == [*range(10)]


def test_the_kinds_are_those_of_the_cache():
    assert sorted(caching.KINDS) == sorted(cache.shards.KINDS)


def test_without_a_command_there_is_help():
    result = zoo(code=2)
    assert "list" in result.output
    assert "ZOO_CACHE_LIMIT" in result.output
