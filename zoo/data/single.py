"""One image out of many, by its name: a file, or a number in a set of images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from zoo import files
from zoo.data.decoding import SUFFIXES, decode, quietly
from zoo.data.gathering import why
from zoo.data.named import data_root
from zoo.data.pixels import Images
from zoo.data.sources import images
from zoo.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBERED = re.compile(r"(?P<data>.+):(?P<number>\d+)")


def image(source: str, shape: Sequence[int]) -> Images:
    """One image, brought to a shape as ``images`` does it.

    Args:
        source: an image file, here or below ``$ZOO_DATA``; or ``DATA:N``, number N, from 0, of all the images of some
            data, as in ``sample:9000``.
        shape: (C, H, W).

    Raises:
        DataError: there is no such image, it cannot be read or cannot be brought to this shape.

    >>> image("sample:9000", (1, 28, 28))
    Images(sample:9000, all: 1 of 28x28x1, 10 classes)
    """
    path = _found(source)
    if path is None:
        numbered = _NUMBERED.fullmatch(source)
        if numbered is None:
            raise DataError(
                f"no image at {source!r}: give a file, or a number of some data's images, as in 'sample:9000'"
            )
        return _numbered(numbered["data"], int(numbered["number"]), shape)
    if path.is_dir():
        raise DataError(f"{source} is a folder: one image is wanted, a file or a number, as in '{source}:0'")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{source} is no image by its name, which would end in {', '.join(SUFFIXES)}")
    channels, height, width = shape
    try:
        with quietly():
            pixels = decode(path, (channels, height, width))
    except DataError:
        raise
    except Exception as error:  # Pillow's parsers raise anything
        raise DataError(f"{source}: {why(error)}") from error
    return Images(torch.tensor(pixels, device="cpu")[None], name=source, files=(path.name,))


def named(data: str, shown: Images) -> list[str]:
    """What to call the images of some data, ``images(data, shape, split=...)``, so that ``image`` finds each again."""
    if shown.files is not None:
        return [(Path(data) / file).as_posix() for file in shown.files]
    before = len(images(data, shown.shape, split="train")) if shown.split == "test" else 0
    return [f"{data}:{before + place}" for place in range(len(shown))]


def same(one: str, other: str) -> bool:
    """Whether two names are those of one image."""
    if one == other:
        return True
    paths = _found(one), _found(other)
    return paths[0] is not None and paths[1] is not None and paths[0].resolve() == paths[1].resolve()


def _found(source: str) -> Path | None:
    """The file or folder of this name."""
    places = (files.expanded(source), data_root() / source)
    return next((place for place in places if source and files.exists(place)), None)


def _numbered(data: str, number: int, shape: Sequence[int]) -> Images:
    whole = images(data, shape, split="all")
    if number >= len(whole):
        raise DataError(f"{data}:{number}: {data} has images 0 to {len(whole) - 1}")
    one = whole.subset(torch.tensor([number], device="cpu"))
    name = f"{data}:{number}" if one.files is None else (Path(data) / one.files[0]).as_posix()
    return Images(one.pixels, labels=one.labels, classes=one.classes, name=name, files=one.files)
