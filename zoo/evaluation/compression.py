"""Codes as bytes, and the JPEG files of the same size."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from zoo.errors import EvaluationError
from zoo.evaluation.protocol import stream
from zoo.evaluation.reconstruction import score
from zoo.posterior import places

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data import Images

JPEG_IMAGES = 2000  # that the quality is searched and measured on, at most
LARGEST_HALF = 65504.0


def as_float16(z: Tensor) -> Tensor:
    """Codes as float16 keeps them."""
    return z.clamp(-LARGEST_HALF, LARGEST_HALF).half().float()


def as_uint8(z: Tensor) -> Tensor:
    """Codes (N, C, ...) as 256 even steps between every feature's least and largest value keep them.

    No number moves by more than half a step, (max - min) / 510. The two values of a feature, for all codes together,
    are not counted as bytes.
    """
    over = places(z)
    low, high = z.amin(over, keepdim=True), z.amax(over, keepdim=True)
    step = torch.where(high > low, (high - low) / 255, 1.0)
    levels = ((z - low) / step).round().to(torch.uint8)
    return levels.float() * step + low


def jpeg_below(images: Images, size: int, *, batch_size: int, seed: int) -> dict[str, Any]:
    """The best JPEG whose files are, on average, no larger than ``size`` bytes: its quality, bytes and errors.

    Baseline JPEG as Pillow writes it, with optimised Huffman tables, headers counted. Where even the lowest quality is
    larger, that one is measured and ``fits`` is False. Of more than 2,000 images that many are drawn, by ``seed``.
    """
    if len(images) > JPEG_IMAGES:
        order = torch.randperm(len(images), generator=stream(seed, "images for JPEG"))
        images = images.subset(order[:JPEG_IMAGES])
    if images.shape[0] not in (1, 3):
        raise EvaluationError(f"JPEG takes 1 or 3 channels, the images have {images.shape[0]}")
    quality = _highest_quality(images, size)
    files = _encode(images, quality)
    mean_size = _mean_size(files)

    def decode(part: slice) -> Tensor:
        return torch.stack([_decode(file) for file in files[part]])

    errors = score(images, decode, batch_size=batch_size)
    return {"quality": quality, "bytes": mean_size, "fits": mean_size <= size, "count": len(images), **errors}


def _highest_quality(images: Images, size: int) -> int:
    """By bisection: files grow with quality. 1 where none fits."""
    low, high = 1, 100
    while low < high:
        middle = (low + high + 1) // 2
        if _mean_size(_encode(images, middle)) <= size:
            low = middle
        else:
            high = middle - 1
    return low


def _encode(images: Images, quality: int) -> list[bytes]:
    return [_file(pixels, quality) for pixels in images.pixels.permute(0, 2, 3, 1).cpu().numpy()]


def _file(pixels: np.ndarray[Any, Any], quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(
        buffer, "JPEG", quality=quality, optimize=True
    )
    return buffer.getvalue()


def _decode(file: bytes) -> Tensor:
    with Image.open(io.BytesIO(file)) as image:
        pixels = torch.from_numpy(np.array(image))
    return (pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)) / 255


def _mean_size(files: list[bytes]) -> float:
    return sum(map(len, files)) / len(files)
