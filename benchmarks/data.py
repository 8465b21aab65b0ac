"""From a folder of JPEGs to the batches of the first level, beside torchvision's ImageFolder and a DataLoader.

20,000 files in ten folders, read in turn folder by folder: ``zoo.data.images`` and every image once in batches, beside
``ImageFolder``, resized, cropped and turned to tensors by as many workers as there are cores. Both start with what the
system has in its cache, and with each folder anew: ours with the listing, the sha256 of each image and the array in
memory, the DataLoader with its workers. Ours decodes a JPEG at a half, a quarter or an eighth of its size where that
leaves twice what is asked for, and is faster by that too. The pictures are smooth noise, few of them different; the
rest are links to those.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from benchmarks import pairs
from benchmarks.machine import cores
from zoo.data import images

if TYPE_CHECKING:
    from benchmarks.rows import Row
    from zoo.data import Images

SHAPE = (3, 64, 64)
BATCH = 64
FOLDERS = 10
KINDS = {"256x256": ((256, 256), 2_000), "1024x768": ((1024, 768), 200)}
"""The width and height of the pictures, and how many there are in one folder."""
DIFFERENT = 40
EPOCHS = 3
"""Of those after the first, from what is held in memory."""


def run() -> list[Row]:
    """Images/s of the first epoch over each kind of folder, and of later ones."""
    with tempfile.TemporaryDirectory() as scratch, patch.dict(os.environ, ZOO_CACHE=f"{scratch}/cache"):
        rows = []
        for kind, (size, count) in KINDS.items():
            folders = _folders(Path(scratch) / kind, size, count)
            rows += _first(kind, folders, count)
        return [*rows, *_later(folders[0], count)]


def _first(kind: str, folders: list[Path], count: int) -> list[Row]:
    rows = []
    for workers, bar in ((cores(), "ratio >= 1.5"), (0, None)):
        taken = [(pairs.timed(partial(_read, folder)), pairs.timed(partial(_loaded, folder, workers)))
                 for folder in folders][1:]  # fmt: skip
        what = f"{count * FOLDERS:,} JPEGs of {kind} to batches of 64x64x3, images/s; ImageFolder, {workers} workers"
        of_wall, of_processor = pairs.rates(what, taken, count, bar)
        rows += [of_wall] if workers else [of_wall, of_processor]  # workers' time is not this process's
    return rows


def _later(folder: Path, count: int) -> list[Row]:
    """An epoch when the images are in memory already; a DataLoader decodes them each time."""
    held = images(folder, SHAPE, split="all")
    workers = cores()
    taken = pairs.in_turn(lambda: _batches(held), lambda: _loaded(folder, workers), turns=EPOCHS)
    return pairs.rates(f"a later epoch, images/s; ImageFolder, {workers} workers", taken, count)[:1]


def _read(folder: Path) -> None:
    _batches(images(folder, SHAPE, split="all"))


def _batches(held: Images) -> None:
    order = torch.randperm(len(held))
    for index in order.split(BATCH):
        held.batch(index)


def _loaded(folder: Path, workers: int) -> None:
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    made: Any = transforms  # whose classes say nothing of their types
    steps = made.Compose([made.Resize(SHAPE[1]), made.CenterCrop(SHAPE[1:]), made.ToTensor()])
    loader = DataLoader(ImageFolder(str(folder), steps), batch_size=BATCH, shuffle=True, num_workers=workers)
    for _ in loader:
        pass


def _folders(place: Path, size: tuple[int, int], count: int) -> list[Path]:
    """Folders of one class each, of so many pictures of this size."""
    seeds = place / "seeds"
    seeds.mkdir(parents=True)
    for number in range(DIFFERENT):
        _picture(number, size).save(seeds / f"{number}.jpg", quality=90)
    folders = [place / f"folder-{number}" for number in range(FOLDERS)]
    for folder in folders:
        (folder / "class").mkdir(parents=True)
        for file in range(count):
            os.link(seeds / f"{file % DIFFERENT}.jpg", folder / "class" / f"{file:05d}.jpg")
    return folders


def _picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """Noise at several scales, which takes about as many bytes as a photograph."""
    generator = np.random.default_rng(seed)
    whole = np.zeros((size[1], size[0], 3))
    for part in (4, 16, 64):
        small = Image.fromarray(generator.integers(0, 256, (part, part, 3), dtype=np.uint8))
        whole += np.asarray(small.resize(size, Image.Resampling.BICUBIC), dtype=np.float64)
    return Image.fromarray((whole / 3 + generator.normal(0, 3, whole.shape)).clip(0, 255).astype(np.uint8))
