"""The pieces of a convolutional trunk: residual blocks, and steps down by a whole factor per axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar

import torch
from torch import nn

from zoo.errors import SpecError

if TYPE_CHECKING:
    from torch import Tensor

Norm = Literal["none", "group", "batch"]
Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)
Factor = tuple[int, int]
"""How much smaller a map becomes, or larger, (vertically, horizontally)."""


class Residual(nn.Module):
    """Two 3x3 convolutions added to their input; the second starts at zero, so a deep trunk starts as the identity.

    He et al. (2016), Identity mappings in deep residual networks, arXiv:1603.05027.
    """

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.block = nn.Sequential(
            normalisation(norm, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            normalisation(norm, channels),
            nn.SiLU(),
            zeroed(nn.Conv2d(channels, channels, 3, padding=1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        y: Tensor = self.block(x)
        return x + y


def normalisation(norm: Norm, channels: int) -> nn.Module:
    """The layer called ``norm``: nothing, groups of 8 channels or more, or the batch."""
    if norm == "group":
        groups = max(divisor for divisor in range(1, max(1, channels // 8) + 1) if channels % divisor == 0)
        return nn.GroupNorm(groups, channels)
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()


def step_down(inputs: int, outputs: int, factor: Factor) -> nn.Module:
    """A strided convolution whose kernel overlaps its neighbours': 4x4 at stride 2."""
    kernel, padding = overlapping(factor)
    return nn.Conv2d(inputs, outputs, kernel, factor, padding)


@torch.no_grad()
def zeroed(layer: Layer) -> Layer:
    """The layer, starting at zero."""
    layer.weight.zero_()
    if layer.bias is not None:
        layer.bias.zero_()
    return layer


def factors(large: int, small: int) -> list[int]:
    """The prime factors of large / small, descending, so that the cheap step at high resolution is the big one.

    >>> factors(28, 7), factors(64, 8), factors(12, 2), factors(8, 8)
    ([2, 2], [2, 2, 2], [3, 2], [])
    """
    if small < 1 or large % small:
        raise SpecError(f"a side of {large} does not divide into {small}: choose one of its divisors")
    quotient, primes, prime = large // small, [], 2
    while prime * prime <= quotient:
        while quotient % prime == 0:
            primes.append(prime)
            quotient //= prime
        prime += 1
    return (primes + [quotient] * (quotient > 1))[::-1]


def overlapping(factor: Factor) -> tuple[Factor, Factor]:
    """Kernel and padding for which a stride of ``factor`` divides, and multiplies, a side exactly."""
    padding = (factor[0] // 2, factor[1] // 2)
    return (factor[0] + 2 * padding[0], factor[1] + 2 * padding[1]), padding
