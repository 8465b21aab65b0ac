"""The two networks that everything is made of: a few numbers to a code, and a code to a few numbers.

The generator is a decoder, the discriminator an encoder and a decoder. On maps they are 3x3 convolutions with ELU, two
at every resolution (Berthelot et al. 2017, section 3.5), each two added to their input; on all else they are dense.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.interfaces import Place, Shape

LONGEST = 4
"""Maps are halved for as long as a side is even and longer than this: 64 to 4 as in the paper, 28 to 7."""


class Residual(nn.Module):
    """Two 3x3 convolutions added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ELU(), nn.Conv2d(width, width, 3, padding=1), nn.ELU(inplace=True), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same."""
        y: Tensor = self.block(x)
        return x + y


class ChannelsLast(nn.Module):
    """Maps laid out as convolutions are fastest, and so that they round alike however their weights lie in memory."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return x.contiguous(memory_format=torch.channels_last)


class Affine(nn.Module):
    """``scale * x + shift``: images in [0, 1] to networks about 0, and back."""

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        return self.scale * x + self.shift


def decoder(numbers: int, place: Place, width: int, blocks: int) -> nn.Sequential:
    """(B, numbers) to (B, *place.input_shape)."""
    shape = place.input_shape
    if len(shape) == 3:
        layers = _rise(numbers, shape, width, blocks)
    else:
        layers = _dense(numbers, prod(shape), width, blocks) + ([nn.Unflatten(1, shape)] if len(shape) > 1 else [])
    return nn.Sequential(*layers, *([Affine(0.5, 0.5)] if place.pixels else []))


def encoder(place: Place, numbers: int, width: int, blocks: int) -> nn.Sequential:
    """(B, *place.input_shape) to (B, numbers)."""
    shape = place.input_shape
    if len(shape) == 3:
        layers = _fall(shape, numbers, width, blocks)
    else:
        layers = ([nn.Flatten()] if len(shape) > 1 else []) + _dense(prod(shape), numbers, width, blocks)
    return nn.Sequential(*([Affine(2.0, -1.0)] if place.pixels else []), *layers)


def _rise(numbers: int, shape: Shape, width: int, blocks: int) -> list[nn.Module]:
    sides = _sides(shape)
    bottom = (width, *sides[-1])
    layers: list[nn.Module] = [nn.Linear(numbers, prod(bottom)), nn.Unflatten(1, bottom), ChannelsLast()]
    for place in reversed(range(len(sides))):
        layers += [Residual(width) for _ in range(blocks)]
        if place:
            layers.append(nn.Upsample(sides[place - 1]))
    return [*layers, nn.ELU(inplace=True), nn.Conv2d(width, shape[0], 3, padding=1)]


def _fall(shape: Shape, numbers: int, width: int, blocks: int) -> list[nn.Module]:
    sides = _sides(shape)
    layers: list[nn.Module] = [ChannelsLast(), nn.Conv2d(shape[0], width, 3, padding=1)]
    for place, (height, across) in enumerate(sides):
        if place:
            stride = (sides[place - 1][0] // height, sides[place - 1][1] // across)
            layers += [nn.ELU(inplace=True), nn.Conv2d(width, width, 3, stride, padding=1)]
        layers += [Residual(width) for _ in range(blocks)]
    return [*layers, nn.ELU(inplace=True), nn.Flatten(), nn.Linear(width * prod(sides[-1]), numbers)]


def _dense(inputs: int, outputs: int, width: int, blocks: int) -> list[nn.Module]:
    """As many hidden layers as there would be convolutions at one resolution."""
    layers: list[nn.Module] = []
    for _ in range(2 * blocks):
        layers += [nn.Linear(inputs, width), nn.ELU(inplace=True)]
        inputs = width
    return [*layers, nn.Linear(inputs, outputs)]


def _sides(shape: Shape) -> list[tuple[int, int]]:
    """Height and width of a map at every resolution, from its own down.

    >>> _sides((3, 64, 64))
    [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4)]
    >>> _sides((10, 7, 12))
    [(7, 12), (7, 6), (7, 3)]
    """
    sides = [(shape[1], shape[2])]
    while (smaller := (_halved(sides[-1][0]), _halved(sides[-1][1]))) != sides[-1]:
        sides.append(smaller)
    return sides


def _halved(side: int) -> int:
    return side // 2 if side % 2 == 0 and side > LONGEST else side
