"""How images are shown to a stage that grows: smaller at first, and blurred while new layers fade in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import interpolate

if TYPE_CHECKING:
    from torch import Tensor

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class View:
    """How images are shown: at which size, and with how much of the detail that a smaller size has not.

    Args:
        size: of the images.
        before: a smaller size, which the stage comes from; None where nothing is faded in.
        share: of what is new since then, a scalar from 0 to 1 that is changed in place.

    Source: Karras et al. (2018), Progressive Growing of GANs, arXiv:1710.10196, figure 2.
    """

    size: Size
    before: Size | None = None
    share: Tensor = field(default_factory=lambda: torch.ones((), device="cpu"), compare=False)

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) of full size as they are shown: what is encoded, and what should come back."""
        x = shrink(images, self.size)
        return x if self.before is None else self.fade(enlarge(shrink(x, self.before), self.size), x)

    def fade(self, old: Tensor, new: Tensor) -> Tensor:
        """So much of what is new as the share says, the rest of what was there before."""
        return old + self.share * (new - old)


def shrink(x: Tensor, size: Size) -> Tensor:
    """(B, C, H, W) to (B, C, *size): every pixel the mean of those that it stands for."""
    return x if x.shape[-2:] == size else interpolate(x, size, mode="area")


def enlarge(x: Tensor, size: Size) -> Tensor:
    """(B, C, H, W) to (B, C, *size): the nearest pixel."""
    return x if x.shape[-2:] == size else interpolate(x, size, mode="nearest")
