"""One picture to the asked shape: upright, on white, 8 bits, grey or colour, resized and cropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from zoo.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Shape = tuple[int, int, int]

MODES = {1: "L", 3: "RGB"}  # of Pillow, by the number of channels asked for
OPAQUE = {1: "L", 3: "RGB", 4: "RGBA"}  # of Pillow, by the number of channels an array has


def frame(picture: Image.Image, shape: Shape) -> Bytes:
    """A picture as (C, H, W) bytes, C being 1 or 3.

    It is turned upright as its EXIF data says, put on white where it is transparent, brought to 8 bits, to grey
    (ITU-R 601 luma) or RGB, and resized to cover the asked size (bicubic, antialiased) with the rest cropped evenly
    from both sides. A picture of the asked size keeps its pixels.

    Raises:
        DataError: C is neither.
        ValueError: numbers that are neither 16-bit integers nor floats in [0, 1]; a mode Pillow cannot convert.
    """
    channels, height, width = shape
    if channels not in MODES:
        raise DataError(f"pictures have 1 channel (grey) or 3 (RGB): {channels} were asked for")
    picture = _opaque(_eight_bits(ImageOps.exif_transpose(picture)))
    if picture.mode != MODES[channels]:
        picture = picture.convert(MODES[channels])
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC)
    pixels: Bytes = np.asarray(picture, dtype=np.uint8).reshape(height, width, channels)
    return pixels.transpose(2, 0, 1)


def frame_array(pixels: Bytes, shape: Shape) -> Bytes:
    """(c, h, w) bytes as (C, H, W): as ``frame`` does it, so that an array and a file of it give the same.

    With another number of channels than 1 (grey), 3 (RGB) or 4 (RGBA), asked for as it is, each is resized by itself.

    Raises:
        DataError: there is no way from so many channels to those asked for.
    """
    channels = len(pixels)
    if pixels.shape == shape:
        return pixels
    if channels == shape[0] and channels not in MODES:
        return np.concatenate([frame_array(plane[None], (1, *shape[1:])) for plane in pixels])
    if channels not in OPAQUE or shape[0] not in MODES:
        raise DataError(f"images with {channels} channels cannot be brought to {shape[0]}: 1, 3 and 4 can, to 1 or 3")
    upright = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return frame(Image.fromarray(upright[..., 0] if channels == 1 else upright), shape)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """16 bits a pixel and floats, which Pillow would clip instead of scaling."""
    if picture.mode == "F":
        values, top, words = np.asarray(picture), 1.0, "floats in [0, 1]"
    elif picture.mode == "I" or picture.mode.startswith("I;16"):
        values, top, words = np.asarray(picture), 65535.0, "16-bit integers"
    else:
        return picture
    if not (values.min() >= 0 and values.max() <= top):  # NaN fails as well
        raise ValueError(f"pixels from {values.min():g} to {values.max():g} instead of {words}")
    return Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8))


def _opaque(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
