"""Data known by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from zoo.data.bundled import read_sample
from zoo.data.folders import read_folder
from zoo.data.pixels import Images
from zoo.data.stores import Joined
from zoo.data.torchvision_sets import SETS
from zoo.errors import DataError

if TYPE_CHECKING:
    from zoo.data.framing import Shape

SAMPLE = "sample"
FOLDERS = ("cifar10", "cifar100")  # torchvision's archives of these are pickles

NAMES = tuple(sorted((SAMPLE, *FOLDERS, *SETS)))
"""Every name there is, beside those of folders below ``data_root()``."""


def data_root() -> Path:
    """Where named data lies: the folder that the environment variable ``ZOO_DATA`` names, ``data`` unless set."""
    return Path(os.environ.get("ZOO_DATA") or "data").expanduser()


def read_named(name: str, shape: Shape, *, split: str, strict: bool) -> Images:
    """The images of a name in ``NAMES``. It has no part of its own for ``"val"``: that is its test part.

    Raises:
        DataError: the data is not there; the message says where it was looked for and how to get it.
    """
    if name in FOLDERS:
        return _read_class_folders(name, shape, split=split, strict=strict)
    if split == "all":
        train, test = (read_named(name, shape, split=part, strict=strict) for part in ("train", "test"))
        return _join(train, test)
    part = "test" if split == "val" else split
    if name == SAMPLE:
        return read_sample(shape, split=part)
    return SETS[name].read(data_root(), shape, name=name, split=part, strict=strict)


def _read_class_folders(name: str, shape: Shape, *, split: str, strict: bool) -> Images:
    folder = data_root() / name
    if not folder.is_dir():
        raise DataError(
            f"{name}: there is no folder {folder}. Its images are read from train/CLASS/*.png and test/CLASS/*.png "
            "in it, and not from torchvision's archive, which holds pickles: docs/data.md has the few lines that "
            f"write them out. Data is looked for below ZOO_DATA, which is {folder.parent}"
        )
    return read_folder(folder, shape, split=split, strict=strict, name=name)


def _join(one: Images, other: Images) -> Images:
    labels = [part.labels for part in (one, other) if part.labels is not None]
    return Images(
        Joined(one, other),
        labels=torch.cat(labels) if len(labels) == 2 else None,
        classes=one.classes if len(labels) == 2 else None,
        name=one.name,
        split="all",
        skipped=one.skipped + other.skipped,
    )
