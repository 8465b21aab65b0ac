"""The shapes of a ladder's trunk: from the input down to one dense vector, step by step, shared out among the rungs.

A vector is a map of one pixel here, so there is one kind of shape, and one kind of step.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Map = tuple[int, int, int]
"""Channels, height, width."""
Pair = tuple[int, int]
"""One number vertically, one horizontally."""
Run = tuple["Step", ...]
"""The steps between one rung and the next."""

COARSE = 7
"""The paper's maps are halved until no side is longer than this, and then go through dense layers."""
FINE = 3
"""With many rungs they are halved until no side is longer than this, so that rungs have depths of their own."""
DOUBLINGS = 3
"""Channels double with every step, so often at most."""
SHORT = 6
"""The SELU network's stride is 2 on sides above this."""


@dataclass(frozen=True)
class Step:
    """One convolution down, whose transpose leads back to exactly the sides that it came from.

    Args:
        inputs, outputs: maps.
        kernel, stride, padding: of the convolution.
    """

    inputs: Map
    outputs: Map
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)

    @property
    def dense(self) -> bool:
        """Whether the kernel sees the whole map, which makes it a dense layer."""
        return self.outputs[1:] == (1, 1) and self.kernel == self.inputs[1:]

    @property
    def spare(self) -> Pair:
        """What the transposed convolution adds at the far edges: a row that the way down did not need."""
        vertical, horizontal = (
            large - ((small - 1) * stride - 2 * padding + kernel)
            for large, small, kernel, stride, padding in zip(
                self.inputs[1:], self.outputs[1:], self.kernel, self.stride, self.padding, strict=True
            )
        )
        return vertical, horizontal


def paper_steps(inputs: Map, rungs: int, width: int, hidden: int) -> list[Step]:
    """Strided convolutions of 4x4 that halve the map, then dense layers; one step for every rung at least.

    >>> [step.outputs for step in paper_steps((1, 28, 28), 4, 64, 1024)]
    [(64, 14, 14), (128, 7, 7), (256, 3, 3), (1024, 1, 1)]
    >>> [step.outputs for step in paper_steps((10, 1, 1), 2, 64, 256)]
    [(256, 1, 1), (256, 1, 1)]
    """
    steps: list[Step] = []
    below = inputs
    while max(below[1:]) > COARSE or (len(steps) < rungs - 1 and max(below[1:]) > FINE):
        limit = COARSE if max(below[1:]) > COARSE else FINE
        steps.append(_halving(below, _channels(width, steps), limit))
        below = steps[-1].outputs
    while len(steps) < rungs or below[1:] != (1, 1):
        steps.append(_whole(below, hidden))
        below = steps[-1].outputs
    return steps


def selu_steps(inputs: Map, rungs: int, width: int, hidden: int) -> list[Step]:
    """Convolutions without padding down to one pixel, and dense layers behind it where there are more rungs.

    >>> [(step.outputs, step.kernel[0], step.stride[0]) for step in selu_steps((1, 28, 28), 4, 16, 16)]
    [((16, 13, 13), 4, 2), ((32, 6, 6), 3, 2), ((64, 3, 3), 4, 1), ((128, 1, 1), 3, 1)]
    """
    steps: list[Step] = []
    below = inputs
    while len(steps) < rungs or below[1:] != (1, 1):
        if below[1:] == (1, 1):
            steps.append(_whole(below, max(hidden, below[0])))
        else:
            steps.append(_unpadded(below, _channels(width, steps)))
        below = steps[-1].outputs
    return steps


def shared_out(steps: Sequence[Step], rungs: int) -> list[Run]:
    """The steps in as many runs as there are rungs, as even as can be, the longer ones first, where maps are large.

    >>> steps = paper_steps((3, 64, 64), 3, 64, 1024)
    >>> [[step.outputs[1] for step in run] for run in shared_out(steps, 3)]
    [[32, 16], [8, 4], [1]]
    """
    each, longer = divmod(len(steps), rungs)
    ends = [each * place + min(place, longer) for place in range(rungs + 1)]
    return [tuple(steps[start:end]) for start, end in pairwise(ends)]


def _channels(width: int, before: Sequence[Step]) -> int:
    return int(width * 2 ** min(len(before), DOUBLINGS))


def _halving(below: Map, channels: int, limit: int) -> Step:
    """Half the sides that are longer than ``limit``; the others stay."""
    sides = below[1:]
    (down, across) = ((4, 2, 1) if side > limit else (3, 1, 1) if side > 1 else (1, 1, 0) for side in sides)
    kernel, stride, padding = zip(down, across, strict=True)
    height, width = (side // step for side, step in zip(sides, stride, strict=True))
    return Step(below, (channels, height, width), kernel, stride, padding)


def _unpadded(below: Map, channels: int) -> Step:
    """About half the sides, with kernels that fit without a rest; in steps of 1 where they are short."""
    kernel, stride, sides = zip(*map(_fitting, below[1:]), strict=True)
    return Step(below, (channels, *sides), kernel, stride)


def _fitting(side: int) -> tuple[int, int, int]:
    """Kernel, stride, and the side that is left."""
    if side <= SHORT:
        left = max(1, side // 2)
        return side - left + 1, 1, left
    kernel = 3 if side % 2 else 4
    return kernel, 2, (side - kernel) // 2 + 1


def _whole(below: Map, features: int) -> Step:
    return Step(below, (features, 1, 1), below[1:])
