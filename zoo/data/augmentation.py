"""Augmented views of images: mirrored, shifted by a few pixels, and turned by a few degrees."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import affine_grid, grid_sample

from zoo.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data.pixels import Images

SHIFT = 4  # pixels, where a shift is asked for without a number
ROTATE = 15  # degrees, likewise
HALF_TURN = 180


@dataclass(frozen=True)
class Augmentation:
    """How the views of an image differ from it.

    Args:
        flip: mirror left and right, every other time.
        shift: move by up to so many pixels each way; the border is reflected.
        rotate: turn by up to so many degrees either way, about the middle, bilinear; what comes in is black.

    >>> Augmentation.parse("flip+shift2")
    Augmentation(flip=True, shift=2, rotate=0)
    """

    flip: bool = False
    shift: int = 0
    rotate: int = 0

    def __str__(self) -> str:
        words = (("flip", self.flip), (f"shift{self.shift}", self.shift), (f"rotate{self.rotate}", self.rotate))
        return "+".join(word for word, wanted in words if wanted)

    @classmethod
    def parse(cls, text: str) -> Augmentation:
        """``"flip"``, ``"shift2"`` (4 pixels without a number), ``"rotate30"`` (15 degrees), or some joined by ``+``.

        Raises:
            DataError: it is something else, as ``"shift0"`` or a word said twice.
        """
        found: dict[str, int] = {}
        for word in map(str.strip, text.split("+")):
            match = re.fullmatch(r"(flip)|(shift|rotate)([1-9][0-9]{,3})?", word)
            name = match and (match[1] or match[2])
            if match is None or name is None or name in found:
                raise DataError(
                    f"augment={text!r}: there are flip, shiftN and rotateN, joined by +, as in 'flip+shift2'"
                )
            found[name] = int(match[3] or {"flip": 1, "shift": SHIFT, "rotate": ROTATE}[name])
        if found.get("rotate", 0) > HALF_TURN:
            raise DataError(f"augment={text!r}: {HALF_TURN} degrees either way are every angle there is")
        return cls(bool(found.get("flip")), found.get("shift", 0), found.get("rotate", 0))

    def decide(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """What happens to so many images: int64 (count, 3), mirrored or not, pixels down and pixels to the right.

        Where they are turned as well there is a fourth number, of degrees.
        """
        mirrored = torch.randint(0, 1 + self.flip, (count, 1), generator=generator, device="cpu")
        moved = torch.randint(-self.shift, self.shift + 1, (count, 2), generator=generator, device="cpu")
        if not self.rotate:  # then nothing is drawn for it, and views are what they were before it was there
            return torch.cat([mirrored, moved], 1)
        turned = torch.randint(-self.rotate, self.rotate + 1, (count, 1), generator=generator, device="cpu")
        return torch.cat([mirrored, moved, turned], 1)

    def apply(self, x: Tensor, decisions: Tensor) -> Tensor:
        """The views (B, C, H, W) of images that these decisions make, (B, 3), or (B, 4) with degrees."""
        height, width = x.shape[-2:]
        mirrored, down, right, *turned = decisions.unbind(1)
        rows = _reflected(torch.arange(height, device="cpu") - down[:, None], height)
        columns = _reflected(torch.arange(width, device="cpu") - right[:, None], width)
        columns = torch.where(mirrored.bool()[:, None], width - 1 - columns, columns)
        image = torch.arange(len(x), device="cpu")[:, None, None, None]
        channel = torch.arange(x.shape[1], device="cpu")[:, None, None]
        views = x[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
        return _turned(views, turned[0]) if turned else views


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


def _turned(x: Tensor, degrees: Tensor) -> Tensor:
    """Images (B, C, H, W), each turned to the left by its own degrees, (B,)."""
    (height, width), angle = x.shape[-2:], degrees.to(x.dtype).deg2rad()
    cos, sin, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # In coordinates from -1 to 1 along each side, so that what is not square is turned and not sheared.
    rows = [torch.stack([cos, -sin * height / width, none], 1), torch.stack([sin * width / height, cos, none], 1)]
    grid = affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _reflected(place: Tensor, size: int) -> Tensor:
    """Places beyond the border, brought back as in a mirror that stands on the outermost pixel."""
    period = max(1, 2 * (size - 1))
    place = place.remainder(period)
    return torch.where(place >= size, period - place, place)
