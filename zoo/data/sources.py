"""Whatever holds images, as images of one shape."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from torch import Tensor

from zoo import files
from zoo.data.arrays import read_array
from zoo.data.folders import read_folder
from zoo.data.framing import frame_array
from zoo.data.gathering import Origin, gather
from zoo.data.items import read_items
from zoo.data.named import NAMES, data_root, read_named
from zoo.data.pixels import Images
from zoo.data.stored import read_file
from zoo.errors import DataError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.data.framing import Bytes, Shape

Split = Literal["train", "val", "test", "all"]


def images(data: Any, shape: Sequence[int], *, split: str = "train", strict: bool = False) -> Images:
    """Bring images to one shape and hold them as bytes.

    Args:
        data: a name (``zoo.data.NAMES``, or a folder below ``$ZOO_DATA``), a folder, a ``.npy`` or ``.safetensors``
            file; an array or tensor (N, H, W), (N, C, H, W) or (N, H, W, C), uint8 or float in [0, 1]; a list of
            single images, of any sizes; a torch Dataset that gives images or (image, label); or ``Images``.
        shape: (C, H, W). Images are resized to cover it and cropped to the centre, and turned to grey or RGB.
        split: ``"train"`` or ``"test"``; ``"val"``, what there is to validate on: the validation part, else the test
            part, else everything; or ``"all"``. A folder without splits of its own has about 5 % set apart for
            testing. What is passed in memory or as one file is one split already and comes whole; its
            ``Images.split`` is then ``"all"``.
        strict: refuse an unreadable file instead of leaving it out with a warning.

    Raises:
        DataError: the data is not there, holds no images, or cannot be brought to this shape.

    >>> sample = images("sample", (1, 28, 28), split="test")
    >>> len(sample), sample.shape, sample.classes[9]
    (1000, (1, 28, 28), 'Ankle boot')
    >>> sample.batch(slice(0, 16)).shape
    torch.Size([16, 1, 28, 28])
    """
    wanted = _checked(shape)
    if split not in get_args(Split):
        raise DataError(f"split {split!r}: {nearest(split, get_args(Split))}")
    if isinstance(data, str) and data in NAMES:
        return read_named(data, wanted, split=split, strict=strict)
    if isinstance(data, str | os.PathLike):
        return _at(os.fspath(data), wanted, split=split, strict=strict)
    if isinstance(data, Images):
        return data if data.shape == wanted else _reframed(data, wanted)
    if isinstance(data, np.ndarray | Tensor):
        return read_array(data, wanted, name="array" if isinstance(data, np.ndarray) else "tensor")
    if hasattr(data, "__getitem__") and not isinstance(data, dict | bytes):
        return read_items(data, wanted, name=type(data).__name__, strict=strict)
    raise DataError(
        f"a {type(data).__name__} holds no images that the zoo can read: give a name, a folder, a file, an array, "
        "a tensor, a list of images or a torch Dataset"
    )


def _reframed(data: Images, shape: Shape) -> Images:
    """The same images in another shape."""
    names = [f"image {place}" for place in range(len(data))]

    def load(place: int) -> Bytes:
        return frame_array(data.subset(slice(place, place + 1)).pixels[0].numpy(), shape)

    return replace(data, store=gather(Origin(names, load, shape, data.name, strict=True)).store, places=None)


def _at(place: str, shape: Shape, *, split: str, strict: bool) -> Images:
    """The images of a folder or file, here or below ``$ZOO_DATA``."""
    root = data_root()
    path = next((path for path in (files.expanded(place), root / place) if files.exists(path)), None)
    if path is None or not place:
        below = [entry.name for entry in root.iterdir() if entry.is_dir()] if root.is_dir() else []
        hint = nearest(place.lower(), {*NAMES, *below})
        raise DataError(
            f"no data at {place!r}: it is no name, and there is no such folder or file here or in {root}; {hint}"
        )
    if path.is_dir():
        return read_folder(path, shape, split=split, strict=strict, name=path.resolve().name)
    return read_file(path, shape)


def _checked(shape: Sequence[int]) -> Shape:
    if len(shape) != 3 or min(shape) < 1:
        raise DataError(f"images have a shape (C, H, W), got {tuple(shape)}")
    channels, height, width = shape
    return channels, height, width
