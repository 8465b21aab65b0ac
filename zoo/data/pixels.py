"""Images: their bytes, wherever those are, and what is known of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from zoo.data.stores import Resident, Store
from zoo.errors import DataError

if TYPE_CHECKING:
    from zoo.data.framing import Shape


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """Images of one shape, as bytes: in memory, or where they are read from when a batch is asked for.

    Args:
        store: uint8 (N, C, H, W), or where such bytes come from (``zoo.data.stores``).
        labels: int64 (N,), places in ``classes`` where those are known; None where the data has no labels.
        classes: names of the classes.
        name: what the data is called in reports.
        split: the part of the data this is: ``"train"``, ``"val"``, ``"test"``, or ``"all"`` where it is not split.
        files: where each image came from, relative to its folder; None where it came from no file of its own.
        skipped: what could not be read, each as ``"file: reason"``.
        ignored: how many other files lay in the folder: no images, or outside the splits.
        places: int64 (N,), which of the store's images these are; None for all of them.
    """

    store: Store | Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] | None = None
    name: str = "images"
    split: str = "all"
    files: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = ()
    ignored: int = 0
    places: Tensor | None = None

    def __post_init__(self) -> None:
        if isinstance(self.store, Tensor):
            object.__setattr__(self, "store", Resident(self.store))
        for what, values in (("labels", self.labels), ("files", self.files)):
            if values is not None and len(values) != len(self):
                raise DataError(f"{self.name}: {len(values)} {what} for {len(self)} images")

    def __len__(self) -> int:
        return len(self._store) if self.places is None else len(self.places)

    def __repr__(self) -> str:
        channels, height, width = self.shape
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return f"Images({self.name}, {self.split}: {len(self)} of {height}x{width}x{channels}{classes})"

    @property
    def shape(self) -> Shape:
        """Of each image: (C, H, W)."""
        return self._store.shape

    @property
    def pixels(self) -> Tensor:
        """All of the images at once, in memory: uint8 (N, C, H, W)."""
        if isinstance(self._store, Resident) and self.places is None:
            return self._store.pixels
        return self.take(torch.arange(len(self), device="cpu"))

    @property
    def digests(self) -> Tensor:
        """The sha256 of every image's bytes, uint8 (N, 32)."""
        return self._store.digests if self.places is None else self._store.digests[self.places]

    def take(self, index: Tensor) -> Tensor:
        """The images at these places, uint8 (B, C, H, W): ``Images`` are a ``Store`` themselves."""
        return self._store.take(self._rows(index))

    def batch(self, index: Tensor | slice) -> Tensor:
        """The images at these places, float32 (B, C, H, W) in [0, 1]."""
        return self._store.take(self._rows(index)).to(torch.float32).div_(255)

    def subset(self, index: Tensor | slice) -> Images:
        """The images at these places, in their order, with their labels and files; no pixel is copied."""
        labels = None if self.labels is None else self.labels[index]
        files = self.files
        if files is not None:
            files = tuple(files[place] for place in torch.arange(len(self), device="cpu")[index].tolist())
        return replace(self, labels=labels, files=files, places=self._rows(index))

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
        kept, held = self.divided(count, seed)
        return self.subset(kept), self.subset(held)

    def divided(self, count: float, seed: int) -> tuple[Tensor, Tensor]:
        """The places of the images that ``held_out`` keeps, and of those that it holds, ascending."""
        number = int(count) if count >= 1 else max(1, round(count * len(self)))
        if not 0 < number < len(self) or count <= 0:
            raise DataError(f"{self.name}: cannot hold out {count} of {len(self)} images")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed), device="cpu")
        return order[number:].sort().values, order[:number].sort().values

    def fold(self, number: int, of: int, *, seed: int) -> tuple[Tensor, Tensor]:
        """The places of all other parts, and those of part ``number`` of ``of`` equal ones, from 1; ascending.

        The parts are disjoint and together are everything. Every part has as many of each class as the others, give or
        take one; without labels they are only equal.

        Raises:
            DataError: there are not so many parts, or not so many images of some class.
        """
        labels = torch.zeros(len(self), dtype=torch.long, device="cpu") if self.labels is None else self.labels
        rarest = int(labels.unique(return_counts=True)[1].min())
        if not 1 <= number <= of or of < 2 or rarest < of:
            raise DataError(
                f"{self.name}: no part {number} of {of}: there are at least 2, counted from 1, and no more than "
                f"images of the rarest class, {rarest}"
            )
        from sklearn.model_selection import StratifiedKFold  # which takes a second to import, and is seldom needed

        parts = StratifiedKFold(of, shuffle=True, random_state=seed % 2**32).split(labels, labels)
        kept, held = next(islice(parts, number - 1, None))
        return torch.from_numpy(kept), torch.from_numpy(held)

    @cached_property
    def fingerprint(self) -> str:
        """A sha256, 64 hex digits: one for the same images in the same order, wherever they are kept."""
        digest = hashlib.sha256(repr((len(self), *self.shape)).encode())
        digest.update(self.digests.contiguous().numpy().data)
        return digest.hexdigest()

    @property
    def _store(self) -> Store:
        return cast("Store", self.store)  # since __post_init__

    def _rows(self, index: Tensor | slice) -> Tensor:
        """The places in the store of the images at these places."""
        if self.places is not None:
            return self.places[index]
        if isinstance(index, slice) or index.dtype == torch.bool:
            return torch.arange(len(self._store), device="cpu")[index]
        return index
