"""Images in: from names, folders, files, arrays and datasets to one tensor of bytes.

>>> from zoo.data import images
>>> images("sample", (1, 28, 28))
Images(sample, train: 9000 of 28x28x1, 10 classes)
"""

from __future__ import annotations

from zoo.data.named import NAMES, data_root
from zoo.data.pixels import Images
from zoo.data.single import image
from zoo.data.sources import images

__all__ = ["NAMES", "Images", "data_root", "image", "images"]
