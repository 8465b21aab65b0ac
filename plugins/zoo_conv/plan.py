"""What the networks of ``conv`` are built by: where they stand, and how they were asked to be."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from zoo_conv.blocks import factors

if TYPE_CHECKING:
    from zoo.interfaces import Place, Shape
    from zoo.posterior import Noise
    from zoo_conv.blocks import Factor, Norm
    from zoo_conv.upsampling import Up

DENSE_BELOW = 7
"""A trunk that ends in a dense bottleneck is halved until no side is longer than this."""


@dataclass(frozen=True)
class Plan:
    """The place, the code, and the options, all settled.

    A network without one of these options never sees it: see ``zoo_conv.networks``.
    """

    place: Place
    code: Shape
    noise: Noise
    up: Up
    width: int = 32
    blocks: int = 1
    norm: Norm = "none"
    hidden: int = 0
    linear: bool = False

    @property
    def shape(self) -> Shape:
        """Of the input."""
        return self.place.input_shape

    @property
    def gaussian(self) -> bool:
        """The encoder gives log variances too."""
        return self.place.posterior == "gaussian"

    @property
    def steps(self) -> list[Factor]:
        """Factors of the steps down, from the input's resolution to the code's or to where a dense layer is small."""
        if len(self.code) == 3:
            down, across = factors(self.shape[1], self.code[1]), factors(self.shape[2], self.code[2])
            return list(zip_longest(down, across, fillvalue=1))
        steps, sides = [], list(self.shape[1:])
        while max(sides) > DENSE_BELOW:
            factor = [
                next((prime for prime in (2, 3, 5, 7) if side % prime == 0), 1) if side > DENSE_BELOW else 1
                for side in sides
            ]
            if factor == [1, 1]:
                break
            steps.append((factor[0], factor[1]))
            sides = [side // step for side, step in zip(sides, factor, strict=True)]
        return steps

    @property
    def widths(self) -> list[int]:
        """Channels after every step: they double, to eight times the first at most."""
        return [self.width * 2 ** min(depth, 3) for depth in range(len(self.steps))] or [self.width]

    @property
    def factor(self) -> Factor:
        """All steps together."""
        down = across = 1
        for step in self.steps:
            down, across = down * step[0], across * step[1]
        return down, across

    @property
    def small(self) -> Shape:
        """The map at the bottom of the trunk."""
        return self.widths[-1], self.shape[1] // self.factor[0], self.shape[2] // self.factor[1]

    @property
    def stairs(self) -> list[tuple[Factor, int, int]]:
        """Factor, channels above and channels below of every step; one of factor 1 where the map keeps its size."""
        return list(zip(self.steps or [(1, 1)], [self.shape[0], *self.widths[:-1]], self.widths, strict=True))
