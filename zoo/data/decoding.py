"""Image files to pixels."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from zoo.data.framing import MODES, frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zoo.data.framing import Bytes, Shape

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm"),
    *(".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
"""What a file must end in, in either case, to count as an image."""

# Named, so that Pillow tries no decoder that runs other programs (EPS) or reads a kind of file nobody asked for.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000", "TGA")

SHRINK = 2  # a JPEG may be decoded at 1/2, 1/4 or 1/8 while it stays this many times larger than what is asked for


def decode(path: Path, shape: Shape) -> Bytes:
    """The first picture of a file as (C, H, W) bytes, framed as ``zoo.data.framing.frame`` does it.

    Raises:
        DataError: C is neither 1 nor 3.
        ValueError: the file is empty, or ``frame`` cannot show it.
        Exception: whatever Pillow raises for a file that it cannot read to its end.
    """
    channels, height, width = shape
    try:
        with Image.open(path, formats=_formats()) as picture:
            side = SHRINK * max(height, width)  # either way round: EXIF may yet turn it
            picture.draft(MODES.get(channels), (side, side))
            return frame(picture, shape)
    except UnidentifiedImageError:
        if not path.stat().st_size:
            raise ValueError("the file is empty") from None
        raise


@contextmanager
def quietly() -> Iterator[None]:
    """Keep Pillow's warnings back while this lasts: what matters of a file is whether it can be read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


@cache
def _formats() -> tuple[str, ...]:
    """Those this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)
