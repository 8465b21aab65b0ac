"""Augmented views of images: mirrored, and shifted by a few pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from zoo.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data.pixels import Images

SHIFT = 4  # pixels, where a shift is asked for without a number


@dataclass(frozen=True)
class Augmentation:
    """How the views of an image differ from it.

    Args:
        flip: mirror left and right, every other time.
        shift: move by up to so many pixels each way; the border is reflected.

    >>> Augmentation.parse("flip+shift2")
    Augmentation(flip=True, shift=2)
    """

    flip: bool = False
    shift: int = 0

    def __str__(self) -> str:
        return "+".join(["flip"] * self.flip + [f"shift{self.shift}"] * bool(self.shift))

    @classmethod
    def parse(cls, text: str) -> Augmentation:
        """``"flip"``, ``"shift"`` (by up to 4 pixels), ``"shift2"``, or one of each joined by ``+``.

        Raises:
            DataError: it is something else, as ``"shift0"`` or a word said twice.
        """
        flip, shift = False, 0
        for word in map(str.strip, text.split("+")):
            match = re.fullmatch(r"shift([1-9][0-9]{,3})?", word)
            if (match is None and word != "flip") or (shift if match else flip):
                raise DataError(f"augment={text!r}: there are flip, shift and shiftN, joined by +, as in 'flip+shift2'")
            flip, shift = flip or match is None, int(match[1] or SHIFT) if match else shift
        return cls(flip, shift)

    def decide(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """What happens to so many images: int64 (count, 3), mirrored or not, pixels down and pixels to the right."""
        mirrored = torch.randint(0, 1 + self.flip, (count, 1), generator=generator)
        moved = torch.randint(-self.shift, self.shift + 1, (count, 2), generator=generator)
        return torch.cat([mirrored, moved], 1)

    def apply(self, x: Tensor, decisions: Tensor) -> Tensor:
        """The views (B, C, H, W) of images that these decisions make, (B, 3)."""
        height, width = x.shape[-2:]
        mirrored, down, right = decisions.unbind(1)
        rows = _reflected(torch.arange(height) - down[:, None], height)
        columns = _reflected(torch.arange(width) - right[:, None], width)
        columns = torch.where(mirrored.bool()[:, None], width - 1 - columns, columns)
        image = torch.arange(len(x))[:, None, None, None]
        channel = torch.arange(x.shape[1])[:, None, None]
        return x[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


@dataclass(frozen=True)
class Augmented:
    """Images of which every batch is a fresh view, drawn from torch's global random state."""

    images: Images
    augmentation: Augmentation

    @property
    def labels(self) -> Tensor | None:
        """(N,) class indices, where there are any."""
        return self.images.labels

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor) -> Tensor:
        """A view of each of the images at these places, float32 (B, C, H, W) in [0, 1]."""
        return self.augmentation.apply(self.images.batch(index), self.augmentation.decide(len(index)))


def _reflected(place: Tensor, size: int) -> Tensor:
    """Places beyond the border, brought back as in a mirror that stands on the outermost pixel."""
    period = max(1, 2 * (size - 1))
    place = place.remainder(period)
    return torch.where(place >= size, period - place, place)
