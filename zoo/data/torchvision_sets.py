"""Data sets as torchvision lays them out below a folder. None of them is downloaded, none is read from a pickle."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zoo.data.arrays import read_array
from zoo.data.items import read_items
from zoo.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from zoo.data.framing import Shape
    from zoo.data.pixels import Images


@dataclass(frozen=True)
class IdxSet:
    """A set of four files in MNIST's format below ``FOLDER/raw``.

    They are read here rather than by torchvision, which would rather open a ``training.pt`` that lies beside them.
    """

    torchvision: str
    classes: tuple[str, ...]
    arguments: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"train": {"train": True}, "test": {"train": False}}
    )

    def read(self, root: Path, shape: Shape, *, name: str, split: str, strict: bool) -> Images:
        """The images of one split. A damaged file is an error, ``strict`` or not."""
        folder, prefix = root / self.torchvision / "raw", {"train": "train", "test": "t10k"}[split]
        paths = [folder / f"{prefix}-images-idx3-ubyte", folder / f"{prefix}-labels-idx1-ubyte"]
        for path in paths:
            if not path.is_file():
                raise _missing(self, root, name, split, f"there is no {path}")
        pixels, labels = (read_idx(path) for path in paths)
        if pixels.ndim != 3 or labels.shape != pixels.shape[:1] or labels.max(initial=0) >= len(self.classes):
            raise DataError(f"{paths[0]} and {paths[1].name} do not belong together: {pixels.shape}, {labels.shape}")
        read = read_array(pixels[:, None], shape, name=name)
        return replace(read, labels=torch.from_numpy(labels.astype(np.int64)), classes=self.classes, split=split)


@dataclass(frozen=True)
class ClassSet:
    """A set that torchvision's own class of this name reads, from images or plain arrays."""

    torchvision: str
    arguments: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"train": {"split": "train"}, "test": {"split": "test"}}
    )

    def read(self, root: Path, shape: Shape, *, name: str, split: str, strict: bool) -> Images:
        """The images of one split."""
        from torchvision import datasets

        try:
            dataset = getattr(datasets, self.torchvision)(root, **self.arguments[split])
        except Exception as error:  # each class has its own ways of missing a file
            raise _missing(self, root, name, split, str(error)) from error
        return replace(read_items(dataset, shape, name=name, strict=strict, threads=None), split=split)


DIGITS = tuple("0123456789")
FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

SETS: dict[str, IdxSet | ClassSet] = {
    "mnist": IdxSet("MNIST", DIGITS),
    "fashion_mnist": IdxSet("FashionMNIST", FASHION),
    "kmnist": IdxSet("KMNIST", ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")),
    "celeba": ClassSet("CelebA", {part: {"split": part, "target_type": []} for part in ("train", "test")}),
    "flowers102": ClassSet("Flowers102"),
    "food101": ClassSet("Food101"),
    "imagenette": ClassSet("Imagenette", {"train": {"split": "train"}, "test": {"split": "val"}}),
    "oxford_pets": ClassSet("OxfordIIITPet", {"train": {"split": "trainval"}, "test": {"split": "test"}}),
    "stl10": ClassSet("STL10"),
    "svhn": ClassSet("SVHN"),
}
"""Those of torchvision's sets that hold no pickle and have a training and a test part."""


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The bytes in a file of MNIST's format: two zeros, type 8, the number of axes, their sizes big-endian, the data.

    Raises:
        DataError: the file is something else, or is cut short.
    """
    data = path.read_bytes()
    axes = data[3] if data[:3] == b"\0\0\x08" and len(data) > 3 else 0
    sizes = np.frombuffer(data[4 : 4 + 4 * axes], dtype=">u4").tolist() if len(data) >= 4 + 4 * axes else []
    start = 4 + 4 * axes
    if not sizes or len(data) - start != np.prod(sizes, dtype=object):
        raise DataError(f"{path}: damaged, or not in MNIST's format: {len(data)} bytes for the sizes {sizes}")
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(sizes)


def _missing(wanted: IdxSet | ClassSet, root: Path, name: str, split: str, reason: str) -> DataError:
    arguments = "".join(f", {key}={value!r}" for key, value in wanted.arguments[split].items())
    code = f"from torchvision.datasets import {wanted.torchvision} as S; S({str(root)!r}{arguments}, download=True)"
    reason = reason.split(" You can use download=True")[0].rstrip(".")
    return DataError(
        f"{name}: {reason}. Looked for it as torchvision lays it out below ZOO_DATA, which is {root}. "
        f'Nothing is downloaded unasked; to do so: python -c "{code}"'
    )
