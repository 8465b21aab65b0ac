"""Images in one file: an array of NumPy, or tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from zoo import files
from zoo.data.arrays import read_array
from zoo.data.items import labels_of
from zoo.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.data.framing import Shape
    from zoo.data.pixels import Images


def read_file(path: Path, shape: Shape) -> Images:
    """The images of a ``.npy``, or the tensors ``images`` and, where it has them, ``labels`` of a ``.safetensors``.

    Raises:
        DataError: the file is of another kind or cannot be read.
    """
    if path.suffix == ".npy":
        return _read_npy(path, shape)
    if path.suffix == ".safetensors":
        return _read_safetensors(path, shape)
    raise DataError(f"{path}: images come in a folder, or in one .npy or .safetensors file; this is neither")


def _read_npy(path: Path, shape: Shape) -> Images:
    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: no array of numbers that NumPy can read without pickle: {error}") from error
    return read_array(array, shape, name=path.name, shared=True)


def _read_safetensors(path: Path, shape: Shape) -> Images:
    tensors = files.read_tensors(path)[0]
    if "images" not in tensors:
        raise DataError(f"{path}: holds no tensor 'images'; there are: {', '.join(sorted(tensors)) or 'none'}")
    read = read_array(tensors["images"], shape, name=path.name, shared=True)
    if "labels" not in tensors:
        return read
    labels = labels_of(tensors["labels"].flatten().tolist())
    if labels is None or len(labels) != len(read):
        raise DataError(f"{path}: 'labels' are whole numbers from 0 up, one for each of the {len(read)} images")
    return replace(read, labels=labels)
