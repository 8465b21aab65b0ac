"""What the cache holds: listed, verified, let go."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo import files
from zoo.cache.folder import held_if_free, limit, root
from zoo.cache.shards import KINDS
from zoo.errors import FileError

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.cache.shards import Key

INDEX = "index.json"
FORMAT_VERSION = 1
FIELDS = {"title": str, "key": dict, "rows": int, "shards": list}
SHARD_FIELDS = {"file": str, "first": int, "rows": int, "bytes": int, "sha256": str}


@dataclass(frozen=True)
class Entry:
    """One entry of the cache.

    Args:
        kind: codes, features or images.
        folder: where it is.
        title: what it is of what.
        rows: how many it has when it is complete.
        made: how many are there.
        bytes: on disk.
        used: when it was last used, in seconds since 1970.
        error: why it cannot be used, None where it can.
    """

    kind: str
    folder: Path
    title: str
    rows: int
    made: int
    bytes: int
    used: float
    error: str | None = None


def entries() -> list[Entry]:
    """Everything in the cache, what was used last first."""
    found = [_entry(kind, folder) for kind in KINDS for folder in (root() / kind).glob("*") if folder.is_dir()]
    return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.used, reverse=True)


def verify(entry: Entry) -> list[str]:
    """What is wrong with an entry: a line for each damaged shard, none when all is well.

    One that another process is at work on is passed over: it may not have its first shard yet.
    """
    if _worked_on(entry):
        return []
    try:
        index = read_index(entry.folder)
    except FileError as error:
        return [str(error)]
    wrong = [damage(entry.folder, shard) for shard in index["shards"]]
    return [line for line in wrong if line is not None]


def clear(entry: Entry) -> bool:
    """Remove an entry, unless a process is at work on it; whether it is gone."""
    with suppress(FileError, OSError), held_if_free(entry.folder.name) as free:  # what others own may not be ours to do
        if free:
            # The index first: what is left of a removal that was cut short is then no entry any more.
            (entry.folder / INDEX).unlink(missing_ok=True)
            shutil.rmtree(entry.folder, ignore_errors=True)
            return not entry.folder.exists()
    return False


def evict(*, keep: Path | None = None) -> list[Entry]:
    """Remove what was not used for the longest time until the cache is within its limit; what was removed.

    Args:
        keep: the folder of an entry that stays.
    """
    there = entries()
    over = sum(entry.bytes for entry in there) - limit()
    gone = []
    for entry in reversed(there):
        if over <= 0:
            break
        if entry.folder != keep and clear(entry):
            over -= entry.bytes
            gone.append(entry)
    return gone


def read_index(folder: Path) -> dict[str, Any]:
    """The index of an entry, checked for its form.

    Raises:
        FileError: it is missing, damaged or something else.
    """
    path = folder / INDEX
    if not path.is_file():
        raise FileError(f"{folder} was never finished")
    index = files.read_json(path, largest=2**30)
    if index.get("format_version") != FORMAT_VERSION:
        raise FileError(f"{path}: format_version {index.get('format_version')!r}, this zoo reads {FORMAT_VERSION}")
    _check(index, FIELDS, path)
    for shard in index["shards"]:
        _check(shard, SHARD_FIELDS, path)
        if "/" in shard["file"] or "\\" in shard["file"]:
            raise FileError(f"{path}: {shard['file']!r} is no plain file name")
    return index


def damage(folder: Path, shard: dict[str, Any]) -> str | None:
    """What is wrong with a shard, by its size and its sha256; None when nothing is."""
    path = folder / shard["file"]
    if not path.is_file():
        return f"{path} is missing"
    try:
        if path.stat().st_size != shard["bytes"]:
            return f"{path} has {path.stat().st_size} bytes instead of {shard['bytes']}"
        if files.sha256(path) != shard["sha256"]:
            return f"{path} is damaged: its sha256 is another"
    except OSError as error:  # a broken disk, say
        return f"{path} cannot be read ({error.strerror})"
    return None


def remains(key: Key) -> str | None:
    """How the cached rows of the same thing differ from a key that is not there, as "data changed"; None without any.

    The same thing is an entry with the same ``key.identity`` and title: the same weights, the same folder.
    """
    for entry in entries():
        with suppress(FileError):  # removed by another process meanwhile
            old = read_index(entry.folder)["key"] if (entry.kind, entry.title) == (key.kind, key.title) else {}
            if old.keys() == key.parts.keys() and all(old[name] == key.parts[name] for name in key.identity):
                return " and ".join(name for name in key.parts if old[name] != key.parts[name]) + " changed"
    return None


def _worked_on(entry: Entry) -> bool:
    try:
        with held_if_free(entry.folder.name) as free:
            return not free
    except FileError:  # a cache that may only be read
        return False


def _entry(kind: str, folder: Path) -> Entry | None:
    try:
        used = (folder / INDEX if (folder / INDEX).exists() else folder).stat().st_mtime
        held = sum(path.stat().st_size for path in folder.iterdir())
    except OSError:  # removed by another process meanwhile
        return None
    try:
        index = read_index(folder)
    except FileError as error:
        return Entry(kind, folder, "?", 0, 0, held, used, str(error))
    made = sum(shard["rows"] for shard in index["shards"])
    return Entry(kind, folder, index["title"], index["rows"], made, held, used)


def _check(value: Any, fields: dict[str, type], path: Path) -> None:
    for name, kind in fields.items():
        if not isinstance(value, dict) or not isinstance(value.get(name), kind):
            raise FileError(f"{path}: wants {name!r}, {kind.__name__}: damaged")
