"""Where the bytes of images are: in memory, in the cache through a memory map, or in files, read when asked for.

Which of them is chosen by size (``zoo.data.gathering``); what they give is the same to the last byte.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from zoo.data.decoding import quietly
from zoo.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.cache import Shards
    from zoo.data.framing import Bytes, Shape

DIGEST = 32  # bytes of a sha256


class Store(Protocol):
    """Images of one shape, by their places."""

    @property
    def shape(self) -> Shape:
        """Of each image: (C, H, W)."""
        ...

    @property
    def digests(self) -> Tensor:
        """The sha256 of every image's bytes, uint8 (N, 32)."""
        ...

    def __len__(self) -> int: ...

    def take(self, index: Tensor) -> Tensor:
        """The images at these places, uint8 (B, C, H, W)."""
        ...


@dataclass(frozen=True)
class Resident:
    """One tensor, uint8 (N, C, H, W): in memory, or the map of one file."""

    pixels: Tensor

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4:
            raise DataError(f"pixels are uint8 (N, C, H, W), got {self.pixels.dtype} {tuple(self.pixels.shape)}")

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> Shape:
        """Of each image: (C, H, W)."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    @cached_property
    def digests(self) -> Tensor:
        """The sha256 of every image's bytes, uint8 (N, 32)."""
        return digests_of(self.pixels.numpy())

    def take(self, index: Tensor) -> Tensor:
        """The images at these places."""
        return self.pixels.index_select(0, index)  # copies rows whole: several times as fast as [index]


@dataclass(frozen=True)
class Mapped:
    """An entry of the cache, with rows of ``pixels`` and their ``sha256``."""

    shards: Shards

    def __len__(self) -> int:
        return len(self.shards)

    @property
    def shape(self) -> Shape:
        """Of each image: (C, H, W)."""
        channels, height, width = self.shards.shape("pixels")
        return channels, height, width

    @cached_property
    def digests(self) -> Tensor:
        """The sha256 of every image's bytes, uint8 (N, 32)."""
        return self.shards.all("sha256")

    def take(self, index: Tensor) -> Tensor:
        """The images at these places."""
        return self.shards.take("pixels", index)


@dataclass(frozen=True)
class Decoded:
    """Images that are read from where they come from each time they are asked for.

    Args:
        names: what to call each in messages.
        load: gives the image at a place as (C, H, W) bytes.
        shape: (C, H, W).
        digests: uint8 (N, 32).
        threads: that read at once.
    """

    names: Callable[[int], str]
    load: Callable[[int], Bytes]
    shape: Shape
    digests: Tensor
    threads: int

    def __len__(self) -> int:
        return len(self.digests)

    def take(self, index: Tensor) -> Tensor:
        """The images at these places.

        Raises:
            DataError: one of them could be read before, and cannot be now.
        """
        pixels = np.empty((len(index), *self.shape), dtype=np.uint8)

        def read(item: tuple[int, int]) -> None:
            row, place = item
            try:
                pixels[row] = self.load(place)
            except Exception as error:
                raise DataError(f"{self.names(place)} could be read before, and cannot be now: {error}") from error

        with ThreadPoolExecutor(self.threads) as pool, quietly():
            list(pool.map(read, enumerate(index.tolist())))
        return torch.from_numpy(pixels)


@dataclass(frozen=True)
class Joined:
    """The images of one store, then those of another."""

    first: Store
    second: Store

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @property
    def shape(self) -> Shape:
        """Of each image: (C, H, W)."""
        return self.first.shape

    @cached_property
    def digests(self) -> Tensor:
        """The sha256 of every image's bytes, uint8 (N, 32)."""
        return torch.cat([self.first.digests, self.second.digests])

    def take(self, index: Tensor) -> Tensor:
        """The images at these places."""
        pixels = torch.empty((len(index), *self.shape), dtype=torch.uint8, device="cpu")
        later = index >= len(self.first)
        pixels[~later] = self.first.take(index[~later])
        pixels[later] = self.second.take(index[later] - len(self.first))
        return pixels


def digests_of(pixels: Bytes) -> Tensor:
    """The sha256 of each image, uint8 (N, 32)."""
    digests = np.empty((len(pixels), DIGEST), dtype=np.uint8)
    for place, image in enumerate(pixels):
        digests[place] = np.frombuffer(hashlib.sha256(image.tobytes()).digest(), dtype=np.uint8)
    return torch.from_numpy(digests)
