"""Folders of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from zoo.data.decoding import decode
from zoo.data.gathering import gather
from zoo.data.listing import list_folder
from zoo.data.pixels import Images

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.data.framing import Shape


def read_folder(folder: Path, shape: Shape, *, split: str, strict: bool, name: str) -> Images:
    """The images of a folder, sorted by their relative names.

    Subfolders ``train`` and ``test``, ``val`` or ``valid`` are its splits; without them a hash of each name sets about
    5 % apart for testing. Folders within a split, or within the folder, are the classes.

    Raises:
        DataError: see ``list_folder`` and ``gather``.
    """
    listing = list_folder(folder, split)
    files = listing.files
    read = gather(files, lambda place: decode(folder / files[place], shape), shape, source=name, strict=strict)
    return Images(
        read.pixels,
        labels=None if listing.labels is None else torch.tensor(listing.labels)[read.places],
        classes=listing.classes,
        name=name,
        split=listing.split,
        files=tuple(files[place] for place in read.places.tolist()),
        skipped=read.skipped,
        ignored=listing.ignored,
    )
