"""Rows under a key: read where they are there and whole, made and kept where not."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch

from zoo import files
from zoo.cache.entries import FORMAT_VERSION, INDEX, damage, evict, read_index, remains
from zoo.cache.folder import held, is_read_only, limit, readable, writing
from zoo.cache.shards import Shards
from zoo.errors import FileError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from zoo.cache.shards import Key

SHARD_BYTES = 64 * 2**20
"""What one shard holds about: the memory it takes to write one, and what is made again when one is lost."""
PIECE = "piece-"
"""Begins the file of rows that one process made of a shard which several make."""
PROBED = 4
"""Rows that are made again each time, to see that the cache still holds what would be made now."""

Rows = dict[str, "Tensor"]
Tick = Callable[[int], None]
Make = Callable[[range, Tick], Rows]


class Sharing(Protocol):
    """The processes that make an entry together, as this one sees them."""

    @property
    def rank(self) -> int:
        """Of this process, from 0."""
        ...

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def total(self, values: Sequence[float]) -> list[float]:
        """The sums over all of them."""
        ...

    def wait(self) -> None:
        """Go on when everybody has come this far."""
        ...


def _silent(_: Any) -> None:
    """Nobody is told."""


def obtain(
    key: Key,
    count: int,
    make: Make,
    *,
    row_bytes: int,
    together: int = 1,
    tick: Tick = _silent,
    say: Callable[[str], None] = _silent,
    close: float = 0.0,
    among: Sharing | None = None,
) -> Shards:
    """The rows of a key, from the cache, or made now and kept there.

    Shards are written whole, one after the other, so a run that ends in the middle goes on at the first that is
    missing. What is there is believed only if its sha256 is right and its first rows come out the same when they are
    made again; any other shard is made anew. One process at a time works on an entry: others wait, then read.

    Args:
        key: everything the rows depend on.
        count: how many rows there are.
        make: the tensors of a range of rows, each (rows, ...); it calls its second argument with the number of rows
            it has got further.
        row_bytes: of one row, about.
        together: ``make`` makes so many rows at once, and a shard begins where it does.
        tick: what ``make`` calls; called with 0 while another process is waited for, and while what is there is
            hashed. What it raises ends the work.
        say: told what was found damaged, stale or half-written, and what is waited for.
        close: how far numbers of a row made again may be from what is kept, in units of the larger of 1 and their size.
        among: processes that all call this at once, with the same key, and share out what is missing.

    Raises:
        FileError: the cache cannot be written to, and does not hold all rows.
    """
    limit()  # what is no size is found out now rather than when the work is done
    among = None if among is None or among.count == 1 else among
    rows = max(1, SHARD_BYTES // max(1, row_bytes))
    work = _Work(key, count, make, rows - (rows % together if rows > together else 0), tick, say, close, among)
    if among is not None and among.rank:
        work.help(among)
    told: list[None] = []

    def waiting() -> None:
        if not told:
            say(f"{key.title}: another process is at work on the same; waiting for it")
            told.append(None)
        tick(0)

    try:
        with held(key.digest, waiting=waiting):
            opened = work.opened(work.complete())
    except FileError as error:
        shards = work.sound() if is_read_only(error) else {}
        if len(shards) < max(1, len(work.parts)):
            raise
        if work.leads and among is not None:  # the others are in `help`, and are told that nothing is missing
            among.total([0.0] * len(work.parts))
            among.wait()
        return work.opened([shards[first] for first in sorted(shards)])  # of a cache that others keep for us
    for entry in evict(keep=key.folder):
        say(f"the cache is over its limit of {readable(limit())}: let go of {entry.title}, {readable(entry.bytes)}")
    return opened


def find(key: Key, count: int, make: Make, *, close: float = 0.0) -> Shards | None:
    """The rows of a key if all of them are in the cache and whole, as ``obtain`` would believe them; else None.

    Nothing is waited for, made or said; the arguments are those of ``obtain``.
    """
    try:
        index = read_index(key.folder)
        shards = sorted(index["shards"], key=lambda shard: shard["first"])
        ends = [0, *itertools.accumulate(shard["rows"] for shard in shards)]
        whole = index["rows"] == count and [shard["first"] for shard in shards] + [count] == ends
        if not whole or any(damage(key.folder, shard) for shard in shards) or not _current(key, shards[0], make, close):
            return None
        found = Shards(key.folder / shard["file"] for shard in shards)
    except FileError:  # as when somebody clears the cache at this moment
        return None
    with suppress(OSError):
        os.utime(key.folder / INDEX)
    return found


@dataclass(frozen=True)
class _Work:
    """One call of ``obtain``, by whoever holds the lock."""

    key: Key
    count: int
    make: Make
    shard_rows: int
    tick: Tick
    say: Callable[[str], None]
    close: float
    among: Sharing | None

    @property
    def parts(self) -> list[range]:
        """The rows of each shard."""
        size = self.shard_rows
        return [range(start, min(start + size, self.count)) for start in range(0, self.count, size)]

    def complete(self) -> list[dict[str, Any]]:
        """Every shard of the entry, those that are missing or wrong made now."""
        key, parts = self.key, self.parts
        with writing():
            files.sweep(key.folder)
        sound = self.sound()
        if sound and len(sound) < len(parts):
            self.tell(f"{len(sound)} of {len(parts)} shards are there already; going on")
        missing = [part for part in parts if part.start not in sound]
        if self.leads and self.among is not None:
            with writing():  # what lies there is damaged or stale, and must not pass for what the others make
                for stale in (*(_path(key.folder, part) for part in missing), *key.folder.glob(f"{PIECE}*")):
                    stale.unlink(missing_ok=True)
            self.among.total([float(part in missing) for part in parts])
        for together in self._rounds(missing):
            sound |= self._made(together)
            with writing():
                shards = [sound[first] for first in sorted(sound)]
                index = {"format_version": FORMAT_VERSION, "title": key.title, "key": dict(key.parts),
                         "rows": self.count, "shards": shards}  # fmt: skip
                files.write_json(key.folder / INDEX, index)
        with writing(), suppress(PermissionError):  # in a cache that others keep for us
            os.utime(key.folder / INDEX)  # the time of its last use, by which it may be let go
            for stray in {*key.folder.glob("*.safetensors")} - {key.folder / shard["file"] for shard in sound.values()}:
                stray.unlink()
        if self.leads and self.among is not None:
            self.among.wait()
        return [sound[part.start] for part in parts]

    def help(self, among: Sharing) -> None:
        """Make this process's share of what the first one, which holds the lock, finds missing."""
        parts = self.parts
        wanted = among.total([0.0] * len(parts))
        for together in self._rounds([part for part, flag in zip(parts, wanted, strict=True) if flag]):
            piece = self._pieces(together, among.rank % len(together))[among.rank // len(together)]
            if len(piece):
                rows = self.make(piece, self.tick)
                with writing():
                    files.write_tensors(_path(self.key.folder, piece, "" if piece in together else PIECE), rows)
            among.wait()
        among.wait()

    @property
    def leads(self) -> bool:
        """Whether other processes make a share of this."""
        return self.among is not None and self.among.rank == 0

    def _rounds(self, missing: list[range]) -> list[list[range]]:
        """What is made at once: a shard by each process, or by several where there are fewer shards."""
        size = 1 if self.among is None else self.among.count
        return [missing[first : first + size] for first in range(0, len(missing), size)]

    def _pieces(self, together: list[range], place: int) -> list[range]:
        """The rows of a round's shard that each of its processes makes; they take turns at the shards."""
        count = 1 if self.among is None else len(range(place, self.among.count, len(together)))
        shard = together[place]
        return [shard[len(shard) * number // count : len(shard) * (number + 1) // count] for number in range(count)]

    def _made(self, together: list[range]) -> dict[int, dict[str, Any]]:
        """The shards of a round by their first row, with what the other processes made of them."""
        own = self._pieces(together, 0)[0]
        rows = self.make(own, self.tick) if len(own) else {}
        if self.leads and self.among is not None:
            self.among.wait()
        return {part.start: self._joined(together, place, {own: rows}) for place, part in enumerate(together)}

    def _joined(self, together: list[range], place: int, own: dict[range, Rows]) -> dict[str, Any]:
        """A shard, as one process wrote it whole, or put together of pieces; what did not arrive is made here."""
        folder, shard, pieces = self.key.folder, together[place], self._pieces(together, place)
        if pieces == [shard] and shard not in own and self.leads:
            with writing():
                theirs = _facts(folder, shard)
            if theirs is not None:
                self.tick(len(shard))
                return theirs
        rows = [own[piece] if piece in own else self._arrived(piece) for piece in pieces if len(piece)]
        whole = rows[0] if len(rows) == 1 else {name: torch.cat([some[name] for some in rows]) for name in rows[0]}
        with writing():
            return _written(folder, shard, whole)

    def _arrived(self, piece: range) -> Rows:
        """What another process made of a shard; made here if it did so on another machine, in a cache of its own."""
        path = _path(self.key.folder, piece, PIECE)
        if not self.leads or not path.exists():
            return self.make(piece, self.tick)
        self.tick(len(piece))
        return files.read_tensors(path)[0]

    def sound(self) -> dict[int, dict[str, Any]]:
        """The shards that are there and may be kept, by their first row."""
        folder = self.key.folder
        if not folder.exists():
            changed = remains(self.key)
            if changed is not None:
                self.tell(f"{changed}: made anew")
            return {}
        try:
            index = read_index(folder)
        except FileError as error:
            self.tell(f"{error}: made anew")
            return {}
        layout = {part.start: len(part) for part in self.parts}
        if index["rows"] != self.count or any(layout.get(it["first"]) != it["rows"] for it in index["shards"]):
            self.tell("kept in shards of another size, by another version perhaps: made anew")
            return {}
        sound = {}
        for shard in index["shards"]:
            self.tick(0)
            wrong = damage(folder, shard)
            if wrong is None:
                sound[shard["first"]] = shard
            else:
                self.tell(f"{wrong}: its {shard['rows']:,} rows are made anew")
        if sound and not _current(self.key, next(iter(sound.values())), self.make, self.close):
            self.tell("the cache holds something else than is made now, by another version perhaps: made anew")
            return {}
        return sound

    def opened(self, shards: list[dict[str, Any]]) -> Shards:
        """These shards, to be read."""
        return Shards(self.key.folder / shard["file"] for shard in shards)

    def tell(self, text: str) -> None:
        """One line about this entry."""
        self.say(f"{self.key.title}: {text}")


def _current(key: Key, shard: dict[str, Any], make: Make, close: float) -> bool:
    """Whether the first rows of a shard come out the same when they are made again."""
    kept = files.read_tensors(key.folder / shard["file"])[0]
    again = make(range(shard["first"], shard["first"] + min(PROBED, shard["rows"])), _silent)
    if again.keys() != kept.keys():
        return False
    pairs = [(value, kept[name][: len(value)]) for name, value in again.items()]
    # Whether codes are kept in float16 depends on all rows of a shard, and may come out otherwise for a few of them.
    return all(
        a.shape == b.shape
        and (a.dtype == b.dtype or (a.is_floating_point() and b.is_floating_point()))
        and torch.allclose(a.double(), b.double(), rtol=close, atol=close)
        for a, b in pairs
    )


def _written(folder: Path, part: range, rows: Rows) -> dict[str, Any]:
    path = _path(folder, part)
    files.write_tensors(path, rows)
    return cast("dict[str, Any]", _facts(folder, part))


def _facts(folder: Path, part: range) -> dict[str, Any] | None:
    """What the index says of a shard; None where there is no such file."""
    path = _path(folder, part)
    if not path.exists():
        return None
    return {
        "file": path.name,
        "first": part.start,
        "rows": len(part),
        "bytes": path.stat().st_size,
        "sha256": files.sha256(path),
    }


def _path(folder: Path, part: range, kind: str = "") -> Path:
    return folder / f"{kind}{part.start:012d}.safetensors"
