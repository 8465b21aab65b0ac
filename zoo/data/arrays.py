"""Images in arrays: which axis is which, and what the numbers mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from zoo.data.framing import frame_array
from zoo.data.gathering import Origin, gather
from zoo.data.pixels import Images
from zoo.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zoo.data.framing import Bytes, Shape

    Array = NDArray[Any]

CHANNELS = frozenset((1, 3, 4))
"""Sizes that tell an axis to be that of the channels: grey, RGB, RGBA. The number asked for does as well."""

SLACK = 1e-6  # beyond [0, 1], which rounding in floats may leave


def read_array(data: Array | Tensor, shape: Shape, *, name: str, shared: bool = False) -> Images:
    """Every image of an array (N, H, W), (N, C, H, W) or (N, H, W, C), uint8 or float in [0, 1].

    Args:
        data: the array.
        shape: (C, H, W) to bring its images to.
        name: what to call it.
        shared: nobody changes the array, the map of a file say, so bytes of the right shape need no copy.

    Raises:
        DataError: there are none, the layout cannot be told, or the numbers are others.
    """
    array = as_array(data)
    if array.ndim not in (3, 4) or not array.size:
        raise DataError(f"{name}: images are (N, H, W), (N, C, H, W) or (N, H, W, C), got {_form(array)}")
    if array.ndim == 3:
        _check_many(array.shape, shape, name)
        array = array[:, None]
    elif _channels_last(array.shape[1:], shape, name):
        array = np.moveaxis(array, 3, 1)
    if array.dtype == np.uint8 and array.shape[1:] == shape:
        return Images(torch.from_numpy(array if shared else np.array(array, order="C")), name=name)
    names = [f"image {place}" for place in range(len(array))]

    def load(place: int) -> Bytes:
        return frame_array(as_bytes(array[place], f"{name}, {names[place]}"), shape)

    return Images(gather(Origin(names, load, shape, name, strict=True)).store, name=name)


def one_image(data: Array | Tensor, shape: Shape, *, name: str) -> Bytes:
    """An array (H, W), (C, H, W) or (H, W, C) as (C, H, W) bytes of the asked shape.

    Raises:
        DataError: the layout cannot be told, or the numbers are neither uint8 nor float in [0, 1].
    """
    array = as_array(data)
    if array.ndim not in (2, 3) or not array.size:
        raise DataError(f"{name}: one image is (H, W), (C, H, W) or (H, W, C), got {_form(array)}")
    if array.ndim == 2:
        array = array[None]
    elif _channels_last(array.shape, shape, name):
        array = np.moveaxis(array, 2, 0)
    return frame_array(as_bytes(array, name), shape)


def as_array(data: Array | Tensor) -> Array:
    """The same numbers in NumPy, on the CPU."""
    if not isinstance(data, Tensor):
        return np.asarray(data)
    data = data.detach().cpu()
    array: Array = (data.float() if data.dtype == torch.bfloat16 else data).numpy()
    return array


def as_bytes(array: Array, name: str) -> Bytes:
    """Bytes as they are; floats from [0, 1] to the nearest of 256 steps.

    Raises:
        DataError: other numbers.
    """
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{name}: images are uint8 (0 to 255) or floats in [0, 1], got {array.dtype}")
    low, high = float(array.min()), float(array.max())
    if not (low >= -SLACK and high <= 1 + SLACK):  # NaN fails as well
        way_out = "divide them by 255" if low >= 0 and high <= 255 else "undo the normalisation"
        raise DataError(f"{name}: floats are in [0, 1], these go from {low:g} to {high:g}: {way_out}")
    steps: Bytes = np.rint(np.multiply(array, 255, dtype=np.float32).clip(0, 255)).astype(np.uint8)
    return steps


def _channels_last(dims: tuple[int, ...], shape: Shape, name: str) -> bool:
    """Whether one image of these dimensions is (H, W, C) rather than (C, H, W)."""
    channels, height, width = shape
    known = CHANNELS | {channels}
    first, last = dims[0] in known, dims[2] in known
    if not (first or last):
        sizes = " or ".join(map(str, sorted(known)))
        raise DataError(f"{name}: an image of {dims} has no axis of {sizes} channels at either end")
    if first and last:  # only the size asked for can tell
        first, last = dims == (channels, height, width), dims == (height, width, channels)
        if first == last:
            raise DataError(f"{name}: an image of {dims} may have its channels at either end: resize it to {shape}")
    return last


def _check_many(dims: tuple[int, ...], shape: Shape, name: str) -> None:
    """Refuse one colour image where (N, H, W) is expected."""
    channels, _, width = shape
    colours = CHANNELS - {1}
    if (dims[0] in colours and channels != 1) or (dims[2] in colours and dims[2] != width):
        raise DataError(
            f"{name}: {dims} may be {dims[0]} grey images or one in colour: "
            "add an axis, x[:, None] for grey images, x[None] for one in colour"
        )


def _form(array: Array) -> str:
    return f"{array.dtype} {array.shape}"
