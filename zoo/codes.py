"""Codes on disk: what a frozen level makes of a set of images is the data set of the next level."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from zoo import files
from zoo.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from zoo.data import Images
    from zoo.stack import Stack

INDEX = "index.json"
SHARD_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Codes:
    """The codes of a set of images, memory-mapped from shards of safetensors.

    Args:
        shards: float32 (n_i, *code), in the order of the images.
        labels: (N,) class indices, where the images have them.
    """

    shards: tuple[Tensor, ...]
    labels: Tensor | None

    def __len__(self) -> int:
        return sum(len(shard) for shard in self.shards)

    def batch(self, index: Tensor) -> Tensor:
        """The codes at these places, float32 (B, *code)."""
        if len(self.shards) == 1:
            return self.shards[0][index]
        size = len(self.shards[0])  # all but the last are of one size
        picked = torch.empty((len(index), *self.shards[0].shape[1:]))
        for number in torch.unique(index // size).tolist():
            here = index // size == number
            picked[here] = self.shards[number][index[here] - number * size]
        return picked


@torch.inference_mode()
def write(
    stack: Stack,
    images: Images,
    folder: Path,
    *,
    levels: int,
    batch_size: int = 256,
    tick: Callable[[int], None] = lambda _: None,
) -> Codes:
    """Encode images through the first ``levels`` levels into shards below ``folder``, and open them.

    Codes of the same weights and images that are already there are used as they are; anything else there is replaced.

    Args:
        stack: in eval mode.
        images: what to encode.
        folder: a folder of this function's own.
        levels: how many levels, from the pixels up.
        batch_size: images at a time.
        tick: called with the number of images just encoded.
    """
    key = _key(stack, images, levels)
    with_index = folder / INDEX
    if with_index.is_file() and files.read_json(with_index).get("key") == key:
        return read(folder, images.labels)
    shutil.rmtree(folder, ignore_errors=True)
    code = stack.level(levels).code_shape
    rows = max(batch_size, SHARD_BYTES // (4 * torch.Size(code).numel()) // batch_size * batch_size)
    shards: list[dict[str, Any]] = []
    for start in range(0, len(images), rows):
        stop = min(start + rows, len(images))
        shard = torch.empty((stop - start, *code))
        for first in range(start, stop, batch_size):
            last = min(first + batch_size, stop)
            x = images.batch(slice(first, last)).to(stack.device)
            shard[first - start : last - start] = stack.encode(x, levels).float().cpu()
            tick(last - first)
        name = f"codes-{len(shards):05d}.safetensors"
        files.write_tensors(folder / name, {"codes": shard})
        shards.append({"file": name, "count": stop - start, "bytes": (folder / name).stat().st_size})
    # Written last: a folder without its index is one that was never finished.
    files.write_json(with_index, {"key": key, "shards": shards})
    return read(folder, images.labels)


def read(folder: Path, labels: Tensor | None = None) -> Codes:
    """Open the codes that ``write`` wrote.

    Raises:
        FileError: a shard is missing or of another size than the index says.
    """
    shards = []
    for shard in files.read_json(folder / INDEX)["shards"]:
        path = folder / shard["file"]
        if not path.is_file() or path.stat().st_size != shard["bytes"]:
            raise FileError(f"{path} is missing or damaged: remove {folder} and run again, it is encoded anew")
        shards.append(files.read_tensors(path)[0]["codes"])
    return Codes(tuple(shards), labels)


def _key(stack: Stack, images: Images, levels: int) -> dict[str, Any]:
    """Everything the codes depend on."""
    weights = hashlib.sha256()
    for level in stack.lower(levels):
        for name, tensor in level.state_dict().items():
            weights.update(name.encode())
            weights.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return {
        "levels": [str(spec) for spec in stack.spec.levels[:levels]],
        "weights": weights.hexdigest(),
        "data": images.fingerprint,
        "count": len(images),
        "dtype": "float32",
        "mode": "mean",
    }
