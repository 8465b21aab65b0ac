"""Images one by one: lists of tensors, torch Datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.data.arrays import one_image
from zoo.data.framing import frame
from zoo.data.gathering import Origin, gather
from zoo.data.pixels import Images
from zoo.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.data.framing import Bytes, Shape


def read_items(items: Any, shape: Shape, *, name: str, strict: bool, threads: int | None = 1) -> Images:
    """Every image of a list or a torch Dataset: PIL images, tensors or arrays, alone or as (image, label).

    Labels are kept where all of them are whole numbers from 0 up.

    Args:
        items: has a length and places.
        shape: (C, H, W).
        name: what to call the data.
        strict: refuse an item that cannot be read instead of leaving it out.
        threads: 1 unless the items may be read from several at once; None for one per processor.

    Raises:
        DataError: there are none, or they are something else.
    """
    names = [f"item {place}" for place in range(_count(items, name))]
    targets: list[int | None] = [None] * len(names)

    def load(place: int) -> Bytes:
        image, targets[place] = _image_and_label(items[place], f"{name}, {names[place]}")
        if isinstance(image, Image.Image):
            return frame(image, shape)
        return one_image(image, shape, name=f"{name}, {names[place]}")

    read = gather(Origin(names, load, shape, name, strict, threads))
    labels = labels_of(read.of(targets))
    classes = None if labels is None else _classes(items, int(labels.max()))
    return Images(read.store, labels=labels, classes=classes, name=name, skipped=read.skipped, places=read.places)


def labels_of(targets: Sequence[Any]) -> Tensor | None:
    """Whole numbers from 0 up as int64 (N,), None where any of them is something else."""
    whole = [_whole(target) for target in targets]
    known = [value for value in whole if value is not None]
    return torch.tensor(known, dtype=torch.int64, device="cpu") if len(known) == len(whole) else None


def _count(items: Any, name: str) -> int:
    try:
        count = len(items)
    except TypeError:
        raise DataError(f"{name}: has no length, and images are read by their places: make it a list") from None
    if not count:
        raise DataError(f"{name}: holds no images")
    return count


def _image_and_label(item: Any, name: str) -> tuple[Any, int | None]:
    label = None
    if isinstance(item, tuple | list) and len(item) in (1, 2):
        item, label = item[0], _whole(item[1]) if len(item) == 2 else None
    if not isinstance(item, Image.Image | np.ndarray | Tensor):
        raise DataError(
            f"{name}: an image, or (image, label), is expected, where an image is a PIL image, a tensor or an array; "
            f"got {type(item).__name__}"
        )
    return item, label


def _whole(value: Any) -> int | None:
    if isinstance(value, Tensor | np.ndarray | np.generic):
        values = value.reshape(-1).tolist()
        value = values[0] if len(values) == 1 else None
    return int(value) if isinstance(value, int) and 0 <= value < 2**63 else None


def _classes(items: Any, largest: int) -> tuple[str, ...] | None:
    """The names that torchvision's datasets give their classes; the first of several names of one class."""
    classes = getattr(items, "classes", None)
    if not isinstance(classes, list | tuple) or len(classes) <= largest:
        return None
    return tuple(str(names[0] if isinstance(names, tuple | list) else names) for names in classes)
