"""Corrupted images, from which a stack learns to bring back the clean ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from zoo.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

NOISE, MASK = 0.3, 0.5  # where a word stands without a number


@dataclass(frozen=True)
class Corruption:
    """How an image is spoilt before it is encoded.

    Args:
        noise: the deviation of Gaussian noise that is added to every number; the result is kept within [0, 1].
        mask: the share of pixels, drawn one by one, that become black in all channels, after the noise.

    Source: Vincent et al. (2010), Stacked denoising autoencoders, JMLR 11.

    >>> Corruption.parse("noise=0.1+mask")
    Corruption(noise=0.1, mask=0.5)
    """

    noise: float = 0.0
    mask: float = 0.0

    def __str__(self) -> str:
        return "+".join(f"{word}={value:g}" for word, value in (("noise", self.noise), ("mask", self.mask)) if value)

    @classmethod
    def parse(cls, text: str) -> Corruption:
        """``"noise=0.3"``, ``"mask=0.5"``, or both joined by ``+``; these numbers may be left out.

        Raises:
            DataError: it is something else, a word is said twice, or a number is 0 or out of range.
        """
        found: dict[str, float] = {}
        for word in map(str.strip, text.split("+")):
            match = re.fullmatch(r"(noise|mask)(?:=([0-9]*\.?[0-9]+))?", word)
            if match is None or match[1] in found:
                raise DataError(f"corrupt={text!r}: there are noise=0.3 and mask=0.5, joined by +")
            found[match[1]] = float(match[2] or {"noise": NOISE, "mask": MASK}[match[1]])
        if not all(found.values()) or found.get("mask", 0.5) >= 1:
            raise DataError(f"corrupt={text!r}: a deviation above 0, and a share of the pixels above 0 and below 1")
        return cls(**found)

    def apply(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Spoil images (B, C, H, W) in [0, 1]; drawn from torch's global random state unless a generator is given."""
        if self.noise:
            drawn = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            x = (x + self.noise * drawn).clamp(0, 1)
        if self.mask:
            shape = (len(x), 1, *x.shape[2:])
            x = x * (torch.rand(shape, generator=generator, device=x.device) >= self.mask)
        return x
