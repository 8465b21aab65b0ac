"""The data that comes with the zoo: ten thousand images of Fashion-MNIST (zoo/data/sample/README.md)."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from zoo.data.arrays import read_array

if TYPE_CHECKING:
    from zoo.data.framing import Shape
    from zoo.data.pixels import Images

SIDE = 28
"""Height and width of each image in pixels."""


def read_sample(shape: Shape, *, split: str) -> Images:
    """The 9,000 training images or the 1,000 test images, with their labels."""
    folder = files("zoo.data") / "sample"
    index = json.loads((folder / "index.json").read_text("utf-8"))
    with Image.open(io.BytesIO((folder / f"{split}.png").read_bytes()), formats=("PNG",)) as sheet:
        pixels = np.asarray(sheet)
    rows, columns = pixels.shape[0] // SIDE, pixels.shape[1] // SIDE
    tiles = pixels.reshape(rows, SIDE, columns, SIDE).swapaxes(1, 2).reshape(-1, SIDE, SIDE)
    labels = torch.tensor([int(digit) for digit in index[split]["labels"]], device="cpu")
    return replace(read_array(tiles, shape, name="sample"), labels=labels, classes=tuple(index["classes"]), split=split)
