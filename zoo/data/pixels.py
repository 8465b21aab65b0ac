"""Images in memory: one tensor of bytes, and what is known of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from zoo.errors import DataError


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """Images of one shape, held as bytes on the CPU.

    Args:
        pixels: uint8 (N, C, H, W).
        labels: int64 (N,), places in ``classes`` where those are known; None where the data has no labels.
        classes: names of the classes.
        name: what the data is called in reports.
        split: the part of the data this is: ``"train"``, ``"val"``, ``"test"``, or ``"all"`` where it is not split.
        files: where each image came from, relative to its folder; None where it came from no file of its own.
        skipped: what could not be read, each as ``"file: reason"``.
        ignored: how many other files lay in the folder: no images, or outside the splits.
    """

    pixels: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] | None = None
    name: str = "images"
    split: str = "all"
    files: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = ()
    ignored: int = 0

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4:
            raise DataError(f"pixels are uint8 (N, C, H, W), got {self.pixels.dtype} {tuple(self.pixels.shape)}")
        for what, values in (("labels", self.labels), ("files", self.files)):
            if values is not None and len(values) != len(self):
                raise DataError(f"{self.name}: {len(values)} {what} for {len(self)} images")

    def __len__(self) -> int:
        return len(self.pixels)

    def __repr__(self) -> str:
        channels, height, width = self.shape
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return f"Images({self.name}, {self.split}: {len(self)} of {height}x{width}x{channels}{classes})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of each image: (C, H, W)."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def batch(self, index: Tensor | slice) -> Tensor:
        """The images at these places, float32 (B, C, H, W) in [0, 1]."""
        return self.pixels[index].to(torch.float32).div_(255)

    def subset(self, index: Tensor | slice) -> Images:
        """The images at these places, in their order, with their labels and files."""
        labels = None if self.labels is None else self.labels[index]
        files = self.files
        if files is not None:
            files = tuple(files[place] for place in torch.arange(len(self))[index].tolist())
        return replace(self, pixels=self.pixels[index], labels=labels, files=files)

    def held_out(self, count: float, seed: int) -> tuple[Images, Images]:
        """Set some images aside: (kept, held), both in the order they had.

        Args:
            count: how many to hold, or below 1 the share of them (at least one image).
            seed: of the choice; the same seed holds the same images.

        Raises:
            DataError: the count leaves nothing to keep, or is not positive.

        >>> kept, held = Images(torch.zeros(10, 1, 2, 2, dtype=torch.uint8)).held_out(3, seed=0)
        >>> len(kept), len(held)
        (7, 3)
        """
        number = int(count) if count >= 1 else max(1, round(count * len(self)))
        if not 0 < number < len(self) or count <= 0:
            raise DataError(f"{self.name}: cannot hold out {count} of {len(self)} images")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.subset(order[number:].sort().values), self.subset(order[:number].sort().values)

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the pixels and their shape, 64 hex digits: one for the same images in the same order."""
        digest = hashlib.sha256(repr(tuple(self.pixels.shape)).encode())
        digest.update(self.pixels.contiguous().numpy().data)
        return digest.hexdigest()
