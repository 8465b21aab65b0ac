"""Many images read into one tensor, in parallel, with those that cannot be read named and left out."""

from __future__ import annotations

import logging
import math
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from zoo.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from zoo.data.framing import Bytes, Shape

logger = logging.getLogger("zoo.data")

CHUNK = 32  # images a thread takes at a time
MANY = 5_000  # images from which on reading them takes long enough to show a bar
NAMED = 3  # files that the warning names


@dataclass(frozen=True)
class Gathered:
    """What was read.

    Args:
        pixels: uint8 (N, C, H, W).
        places: (N,) which of the images asked for these are, ascending.
        skipped: the others, each as ``"name: reason"``.
    """

    pixels: Tensor
    places: Tensor
    skipped: tuple[str, ...]


def gather(
    names: Sequence[str],
    load: Callable[[int], Bytes],
    shape: Shape,
    *,
    source: str,
    strict: bool,
    threads: int | None = None,
) -> Gathered:
    """Read images by their places.

    Args:
        names: what to call each in messages.
        load: gives the image at a place as (C, H, W) bytes. What it raises makes the image unreadable, but a
            ``DataError``, which is about more than this image, is passed on.
        shape: (C, H, W).
        source: what to call the whole in messages.
        strict: refuse an unreadable image instead of leaving it out.
        threads: None for one per processor.

    Raises:
        DataError: an image is unreadable and ``strict``, or all of them are.
    """
    pixels = _room(len(names), shape, source)
    failures: dict[int, str] = {}

    def read(chunk: range) -> dict[int, str]:
        failed = {}
        for place in chunk:
            try:
                pixels[place] = load(place)
            except DataError:
                raise
            except Exception as error:  # Pillow's parsers and other people's datasets raise anything
                failed[place] = _reason(error)
        return failed

    chunks = [range(start, min(start + CHUNK, len(names))) for start in range(0, len(names), CHUNK)]
    bar = tqdm(total=len(names), desc=f"reading {source}", unit="image", leave=False, disable=len(names) < MANY or None)
    with ThreadPoolExecutor(threads or _processors()) as pool, bar, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters of a file is whether it can be read
        for chunk, failed in zip(chunks, pool.map(read, chunks), strict=True):  # left early, map cancels the rest
            if failed and strict:
                place, reason = next(iter(failed.items()))
                raise DataError(f"{source}: {names[place]}: {reason}. Without --strict it would be left out")
            failures |= failed
            bar.update(len(chunk))
    return _readable(pixels, [f"{names[place]}: {reason}" for place, reason in failures.items()], failures, source)


def _room(count: int, shape: Shape, source: str) -> Bytes:
    try:
        return np.empty((count, *shape), dtype=np.uint8)
    except MemoryError as error:
        size = count * math.prod(shape) / 2**30
        raise DataError(
            f"{source}: {count} images of {shape} take {size:.1f} GiB: use fewer or smaller ones"
        ) from error


def _readable(pixels: Bytes, skipped: list[str], failures: dict[int, str], source: str) -> Gathered:
    places = torch.tensor([place for place in range(len(pixels)) if place not in failures], dtype=torch.long)
    if not len(places):
        raise DataError(f"{source}: none of the {len(pixels)} images can be read; {skipped[0]}")
    if skipped:
        more = f" and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
        logger.warning(
            "%s: left out %d of %d images that cannot be read: %s%s",
            source, len(skipped), len(pixels), "; ".join(skipped[:NAMED]), more,
        )  # fmt: skip
    everything = torch.from_numpy(pixels)
    return Gathered(everything[places] if skipped else everything, places, tuple(skipped))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow can read"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _processors() -> int:
    """Those this process may use: in a container often fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
