"""Folders of images."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch

from zoo.cache import Key
from zoo.data.decoding import decode
from zoo.data.gathering import Origin, gather
from zoo.data.listing import list_folder
from zoo.data.pixels import Images

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.data.framing import Shape
    from zoo.data.listing import Listing


def read_folder(folder: Path, shape: Shape, *, split: str, strict: bool, name: str) -> Images:
    """The images of a folder, sorted by their relative names.

    Subfolders ``train`` and ``test``, ``val`` or ``valid`` are its splits; without them a hash of each name sets about
    5 % apart for testing. Folders within a split, or within the folder, are the classes.

    Raises:
        DataError: see ``list_folder`` and ``gather``.
    """
    listing = list_folder(folder, split)
    files = listing.files
    origin = Origin(files, lambda place: decode(folder / files[place], shape), shape, name, strict)
    read = gather(origin, lambda: _key(folder, listing, shape, name))
    return Images(
        read.store,
        labels=None if listing.labels is None else torch.tensor(read.of(listing.labels), device="cpu"),
        classes=listing.classes,
        name=name,
        split=listing.split,
        files=read.of(files),
        skipped=read.skipped,
        ignored=listing.ignored,
        places=read.places,
    )


def _key(folder: Path, listing: Listing, shape: Shape, name: str) -> Key:
    """When these images are the same: no file was added, removed or changed, by its size and time, and so is Pillow."""
    digest = hashlib.sha256()
    for file in listing.files:
        path = folder / file
        facts = path.stat() if path.exists() else path.lstat()  # a link to nowhere is an image that cannot be read
        digest.update(f"{file}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode(errors="surrogateescape"))
    parts = {
        "folder": str(folder.resolve()),
        "split": listing.split,
        "shape": list(shape),
        "files": digest.hexdigest(),
        "pillow": version("pillow"),
    }
    channels, height, width = shape
    return Key("images", f"{name}, {listing.split}, {height}x{width}x{channels}", parts, ("folder", "split", "shape"))
