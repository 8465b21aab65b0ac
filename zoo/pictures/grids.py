"""Images in rows and columns, every pixel a square of whole pixels, words beside and above them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from PIL import Image

from zoo.errors import EvaluationError
from zoo.files import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    Pixels = np.ndarray[Any, np.dtype[np.uint8]]

TILE = 56  # pixels that small images are enlarged to, about
PAGE = 1120  # pixels of images side by side, about
GAP = 2
DPI = 100  # what figures are drawn at: one unit of figimage is then one pixel
LINE = 16  # pixels of one line of words
LARGE, SMALL = 10, 8  # points


def grid(images: Tensor, path: str | Path, columns: int | None = None) -> Path:
    """Write images (N, C, H, W) in [0, 1] as one PNG, row by row, enlarged by a whole factor where they are small.

    Of two channels the first is shown, of more than three the first three.

    Raises:
        EvaluationError: there are no images.
    """
    path = Path(path)
    columns = columns or min(fitting(images), max(1, round(len(images) ** 0.5)))
    with replacing(path) as temporary:
        Image.fromarray(tiles(images, columns)).save(temporary, "PNG", optimize=True)
    return path


def labelled(
    rows: Sequence[Tensor], path: str | Path, *, title: str, beside: Sequence[str] = (), above: Sequence[str] = ()
) -> Path:
    """Write rows of images, each (columns, C, H, W) in [0, 1], with words beside every row and above every column.

    Args:
        rows: top to bottom, equally long.
        path: the PNG.
        title: above everything.
        beside: a text for every row, of as many lines as there is room for.
        above: a text for every column, short.
    """
    path = Path(path)
    left = 10 + max((_width(line, SMALL) + 8 for text in beside for line in text.splitlines()), default=0)
    top = 2 * LINE + (LINE if above else 0)
    pictures = [tiles(row, len(row)) for row in rows]
    height, width = pictures[0].shape[0] + GAP, pictures[0].shape[1]
    size = (max(left + width, 10 + _width(title, LARGE)) + 10, top + height * len(rows) + 10)
    figure = Figure(figsize=(size[0] / DPI, size[1] / DPI), dpi=DPI, facecolor="white")
    figure.text(10 / size[0], 1 - 4 / size[1], title, va="top", **_words(LARGE))
    for place, picture in enumerate(pictures):
        bottom = size[1] - top - height * (place + 1)
        figure.figimage(picture, left, bottom, vmin=0, vmax=255)
        if beside:
            middle = (bottom + height / 2) / size[1]
            figure.text((left - 8) / size[0], middle, beside[place], va="center", ha="right", **_words(SMALL))
    step = width / max(len(above), 1)
    for place, text in enumerate(above):
        across = (left + step * (place + 0.5)) / size[0]
        figure.text(across, 1 - (top - 3) / size[1], text, va="bottom", ha="center", **_words(SMALL))
    return save(figure, path)


def captioned(
    layers: Sequence[Tensor], captions: Sequence[str], path: str | Path, *, title: str, columns: int | None = None
) -> Path:
    """Write images with a short text under each.

    Args:
        layers: images (N, C, H, W) in [0, 1], each layer under the one before: images and what came back of them, say.
        captions: N, of one line.
        path: the PNG.
        title: above everything.
        columns: images side by side; as many as fit on a page unless given.
    """
    columns = min(len(captions), columns or fitting(layers[0]))
    blocks = [slice(start, start + columns) for start in range(0, len(captions), columns)]
    pictures = [[tiles(layer[block], columns) for layer in layers] for block in blocks]
    tall, width = pictures[0][0].shape[:2]
    height = len(layers) * (tall + GAP) + LINE + 4
    size = (max(10 + width, 10 + _width(title, LARGE)) + 10, 2 * LINE + height * len(blocks) + 6)
    figure = Figure(figsize=(size[0] / DPI, size[1] / DPI), dpi=DPI, facecolor="white")
    figure.text(10 / size[0], 1 - 4 / size[1], title, va="top", **_words(LARGE))
    step = (width + GAP) / columns
    for number, (block, stacked) in enumerate(zip(blocks, pictures, strict=True)):
        top = size[1] - 2 * LINE - height * number
        for place, picture in enumerate(stacked, 1):
            figure.figimage(picture, 10, top - place * (tall + GAP), vmin=0, vmax=255)
        for place, text in enumerate(captions[block]):
            across = (10 + step * (place + 0.5) - GAP / 2) / size[0]
            down = (top - len(layers) * (tall + GAP) - 2) / size[1]
            figure.text(across, down, text, va="top", ha="center", **_words(SMALL))
    return save(figure, Path(path))


def tiles(images: Tensor, columns: int) -> Pixels:
    """Images (N, C, H, W) in [0, 1] side by side on white: (height, width, 3) uint8."""
    if images.ndim != 4 or not len(images):
        raise EvaluationError(f"a picture shows images (N, C, H, W), not {tuple(images.shape)}")
    shown = images[:, :3] if images.shape[1] >= 3 else images[:, :1]
    colours = (shown.detach().float().cpu().clamp(0, 1) * 255).round().byte().expand(-1, 3, -1, -1)
    factor = enlargement(images)
    pixels = colours.permute(0, 2, 3, 1).numpy().repeat(factor, axis=1).repeat(factor, axis=2)
    count, height, width, _ = pixels.shape
    rows = -(-count // columns)
    page = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for place, tile in enumerate(pixels):
        top, left = place // columns * (height + GAP), place % columns * (width + GAP)
        page[top : top + height, left : left + width] = tile
    return page


def enlargement(images: Tensor) -> int:
    """The whole factor that brings small images near ``TILE`` pixels."""
    return max(1, round(TILE / max(images.shape[-2:])))


def fitting(images: Tensor, most: int = 16) -> int:
    """How many of these images fit side by side on a page."""
    return max(1, min(most, PAGE // (images.shape[-1] * enlargement(images) + GAP)))


def _words(points: float) -> dict[str, Any]:
    """How words are set: in this size, a dollar being a dollar."""
    return {"fontsize": points, "parse_math": False}


def _width(line: str, points: float) -> int:
    """Pixels that a line of words takes."""
    renderer = cast("Any", RendererAgg)(1, 1, DPI)
    width: float
    width, _, _ = renderer.get_text_width_height_descent(line, FontProperties(size=points), ismath=False)
    return math.ceil(width)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, whole."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)
    return path
