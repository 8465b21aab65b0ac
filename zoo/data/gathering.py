"""Many images read in parallel into memory, into the cache, or when they are asked for, as their number bids.

Those that cannot be read are named and left out.
"""

from __future__ import annotations

import logging
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from zoo import cache
from zoo.cache.folder import size_of
from zoo.data.decoding import quietly
from zoo.data.stores import Decoded, Mapped, Resident, Store, digests_of
from zoo.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from zoo.cache import Key
    from zoo.data.framing import Bytes, Shape

logger = logging.getLogger("zoo.data")

CHUNK = 32  # images a thread takes at a time
MANY = 5_000  # images from which on reading them takes long enough to show a bar
NAMED = 3  # files that the warning names
BLOCK = 1024  # images read at once where none is kept

AGAIN = "could not be read when it was looked at first, and can be now: 'zoo cache clear --kind images' takes it up"

MEMORY_LIMIT = "1GB"
CACHE_SHARE = 0.5
"""Images that take more than this part of the cache's limit are not kept there, but read each time."""


@dataclass(frozen=True)
class Gathered:
    """What was read.

    Args:
        store: of all images asked for, in their order; one that cannot be read is black in it.
        places: (N,) those that can be read, ascending; None for all of them.
        skipped: the others, each as ``"name: reason"``.
    """

    store: Store
    places: Tensor | None
    skipped: tuple[str, ...]

    def of(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Of as many values as images were asked for, those of the images that can be read."""
        return tuple(values) if self.places is None else tuple(values[place] for place in self.places.tolist())


@dataclass(frozen=True)
class Origin:
    """Where images come from.

    Args:
        names: what to call each in messages.
        load: gives the image at a place as (C, H, W) bytes. What it raises makes the image unreadable, but a
            ``DataError``, which is about more than this image, is passed on.
        shape: (C, H, W).
        source: what to call the whole in messages.
        strict: refuse an unreadable image instead of leaving it out.
        threads: None for one per processor, which several processes of a run share.
    """

    names: Sequence[str]
    load: Callable[[int], Bytes]
    shape: Shape
    source: str
    strict: bool
    threads: int | None = None
    failures: dict[int, str] = field(default_factory=dict)

    def read(self, places: range, bar: Any, *, alone: bool = False) -> Bytes:
        """The images of these places, (n, C, H, W); why one is missing is noted in ``failures``.

        ``alone`` tells that other processes of the run read nothing meanwhile.
        """
        pixels = _room(len(places), self.shape, self.source)

        def read(chunk: range) -> dict[int, str]:
            failed = {}
            for place in chunk:
                try:
                    pixels[place - places.start] = self.load(place)
                except DataError:
                    raise
                except Exception as error:  # Pillow's parsers and other people's datasets raise anything
                    failed[place] = why(error)
                    pixels[place - places.start] = 0
            return failed

        chunks = [places[start : start + CHUNK] for start in range(0, len(places), CHUNK)]
        with ThreadPoolExecutor(self.threads or _processors(alone=alone)) as pool, quietly():
            for chunk, failed in zip(chunks, pool.map(read, chunks), strict=True):  # left early, map cancels the rest
                if failed and self.strict:
                    place, reason = next(iter(failed.items()))
                    name = f"{self.source}: {self.names[place]}"
                    raise DataError(f"{name}: {reason}. Without --strict it would be left out")
                self.failures.update(failed)
                bar.update(len(chunk))
        return pixels

    def rows(self, places: range, bar: Any, *, pixels: bool, alone: bool = False) -> dict[str, Tensor]:
        """The rows of a cache's entry: whether an image can be read, its sha256, and its pixels if those are kept."""
        read = self.read(places, bar, alone=alone)
        readable = torch.tensor([place not in self.failures for place in places], device="cpu")
        rows = {"readable": readable, "sha256": digests_of(read)}
        return rows | ({"pixels": torch.from_numpy(read)} if pixels else {})


def gather(origin: Origin, key: Callable[[], Key] | None = None) -> Gathered:
    """Read images: into memory up to ``ZOO_MEMORY_LIMIT`` (1GB unless set), beyond that into a memory map.

    The map is an entry of the cache, made once; it takes a key that says when the images are the same. Without one,
    and where the images would fill more than half of the cache, they are read once to see which of them can be, and
    again whenever they are asked for.

    Raises:
        DataError: an image is unreadable and ``strict``, or all of them are.
    """
    count, size = len(origin.names), math.prod(origin.shape)
    bar = tqdm(total=count, desc=f"reading {origin.source}", unit="image", leave=False, disable=count < MANY or None)
    with bar:
        if count * size <= size_of("ZOO_MEMORY_LIMIT", MEMORY_LIMIT):
            pixels = origin.read(range(count), bar)
            return _readable(origin, Resident(torch.from_numpy(pixels)))
        if key is None:
            parts = [origin.rows(range(start, min(start + BLOCK, count)), bar, pixels=False)
                     for start in range(0, count, BLOCK)]  # fmt: skip
            return _readable(origin, _decoded(origin, torch.cat([part["sha256"] for part in parts])))
        kept = count * size <= CACHE_SHARE * cache.limit()
        shards = cache.obtain(
            key() if kept else key().of("digests alone"),
            count,
            lambda places, _: origin.rows(places, bar, pixels=kept, alone=True),  # others wait for the entry
            row_bytes=size,
            say=logger.warning,
        )
    _give_reasons(origin, (~shards.all("readable")).nonzero().flatten().tolist(), bar)
    return _readable(origin, Mapped(shards) if kept else _decoded(origin, shards.all("sha256")))


def _give_reasons(origin: Origin, unreadable: list[int], bar: Any) -> None:
    """Read again what could not be read when the cache was filled, which keeps no reasons."""
    for place in unreadable:
        origin.read(range(place, place + 1), bar)
        if origin.failures.setdefault(place, AGAIN) == AGAIN and origin.strict:
            raise DataError(f"{origin.source}: {origin.names[place]}: {AGAIN}")


def _decoded(origin: Origin, digests: Tensor) -> Decoded:
    return Decoded(lambda place: f"{origin.source}: {origin.names[place]}", origin.load, origin.shape, digests,
                   origin.threads or _processors())  # fmt: skip


def _room(count: int, shape: Shape, source: str) -> Bytes:
    try:
        return np.empty((count, *shape), dtype=np.uint8)
    except MemoryError as error:
        size = count * math.prod(shape) / 2**30
        raise DataError(
            f"{source}: {count} images of {shape} take {size:.1f} GiB: set ZOO_MEMORY_LIMIT to what this machine has"
        ) from error


def _readable(origin: Origin, store: Store) -> Gathered:
    failures = dict(sorted(origin.failures.items()))
    skipped = tuple(f"{origin.names[place]}: {reason}" for place, reason in failures.items())
    if not skipped:
        return Gathered(store, None, ())
    if len(skipped) == len(store):
        raise DataError(f"{origin.source}: none of the {len(store)} images can be read; {skipped[0]}")
    more = f" and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
    logger.warning(
        "%s: left out %d of %d images that cannot be read: %s%s",
        origin.source, len(skipped), len(store), "; ".join(skipped[:NAMED]), more,
    )  # fmt: skip
    sound = [place for place in range(len(store)) if place not in failures]
    places = torch.tensor(sound, dtype=torch.long, device="cpu")
    return Gathered(store, places, skipped)


def why(error: Exception) -> str:
    """Why an image cannot be read, in a few words."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow can read"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _processors(*, alone: bool = False) -> int:
    """Those this process may use: in a container often fewer than there are, and its share unless it is ``alone``."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return found if alone else max(1, found // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
