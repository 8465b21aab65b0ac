"""What a frozen network says of images, kept for when they come again."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

MOST = 3 * 2**30
"""Bytes that are kept at the most: early layers of VGG16 for 14,000 images of 32x32 in half precision."""

functorch: Any = torch._C._functorch


class Memory:
    """What a network that does not learn said of the images of a training.

    An epoch shows the images of the one before it again. Where they turn out not to fit, as images that are never twice
    the same do not, all is let go, and nothing is kept again.

    Args:
        most: bytes that are kept at the most.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.rows: dict[bytes, list[Tensor]] = {}
        self.size = 0

    @torch.no_grad()
    def ask(self, network: Callable[[Tensor], list[Tensor]], images: Tensor) -> list[Tensor]:
        """What the network says of images (B, ...), each tensor (B, ...), without gradients.

        It is looked up while something learns from it on a CPU; accelerators compute it sooner than they are told it.
        """
        if not self._looks_up(images):
            return network(images)
        keys = _keys(images)
        if all(key in self.rows for key in keys):
            return [_stacked(rows) for rows in zip(*(self.rows[key] for key in keys), strict=True)]
        found = network(images)
        for key, *rows in zip(keys, *found, strict=True):
            if key not in self.rows:
                self.rows[key] = [row.clone() for row in rows]
                self.size += sum(row.nbytes for row in rows)
        if self.size > self.most:
            self.rows.clear()
        return found

    def forget(self) -> None:
        """Let go of everything, to begin anew."""
        self.rows.clear()
        self.size = 0

    def _looks_up(self, images: Tensor) -> bool:
        plain = images.device.type == "cpu" and not functorch.is_functorch_wrapped_tensor(images)
        return plain and self.size <= self.most and not torch.compiler.is_compiling()


def _stacked(rows: Sequence[Tensor]) -> Tensor:
    """Rows as one tensor that lies in memory as the one that they were rows of: sums round by the order they go in."""
    if rows[0].ndim == 3 and not rows[0].is_contiguous():  # channels last
        return torch.stack([row.permute(1, 2, 0) for row in rows]).permute(0, 3, 1, 2)
    return torch.stack(list(rows))


def _keys(images: Tensor) -> list[bytes]:
    """A hash of each image and of the precision in which it is looked at."""
    precision = str(torch.is_autocast_enabled("cpu")).encode()
    flat = images.contiguous().flatten(1).numpy()
    return [blake2b(image.data, digest_size=16, key=precision).digest() for image in flat]
