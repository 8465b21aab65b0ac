"""A stage that grows with its images: the sizes, and the phases at each of them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.errors import TrainingError
from zoo.phases import Phase
from zoo.training.checks import check_rates

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zoo.growth import Size
    from zoo.interfaces import Shape, Stage
    from zoo.stack import Stack

SMALLER = 1 / 8
"""Of the level's budget, for all smaller images together. A third, as in common use, saves more time and costs a tenth
of the quality: docs/findings.md."""
ALONE = 0.1
"""Of a size's part, for its new layers alone, while they are faded in."""


class Growing:
    """Level 1 of a stack, while it grows.

    Args:
        stack: whose first level is to be trained.
        heights: of smaller images, rising.

    Raises:
        TrainingError: there is nothing to grow, or it cannot be; it says why.
    """

    def __init__(self, stack: Stack, heights: Sequence[int]) -> None:
        self.stage = _stage(stack)
        self.sizes = _sizes(stack.input_shape, heights)
        self.new = self.stage.start_growing(self.sizes)
        if not any(self.new) and stack.level(1).regularizers:
            self.stage.stop_growing()
            raise TrainingError(
                f"{stack.spec.levels[0]} would have smaller codes for smaller images, which regularizers are not made "
                "for: train it without progressive, or take a stage that grows by its layers, as conv"
            )

    def phases(self, first: Sequence[Phase], own: Sequence[Phase]) -> list[Phase]:
        """All phases: those that come first, at the smallest size, then size by size up to the stage's own.

        Smaller images are learned from as the stage's own first phase says.

        Raises:
            TrainingError: what the stage says is new at a size is none of its parameters.
        """
        *smaller, full = self.sizes
        whole = sum(phase.share for phase in own)
        found = [replace(phase, size=self.sizes[0]) for phase in first]
        for place, size in enumerate(smaller):
            share = whole * SMALLER / len(smaller)
            alone = self._alone(place, share)
            found += alone
            some = share * (1 - ALONE * len(alone))
            found.append(replace(own[0], name=_written(size), share=some, patience=None, size=size))
        alone = self._alone(len(smaller), whole * (1 - SMALLER))
        rest = (1 - SMALLER) * (1 - ALONE * len(alone))
        return [*found, *alone, *(replace(phase, share=phase.share * rest, size=full) for phase in own)]

    def _alone(self, place: int, share: float) -> list[Phase]:
        """The phase of what is new at a size, if anything is."""
        if not self.new[place]:
            return []
        size = self.sizes[place]
        rates, before = dict.fromkeys(self.new[place], 1.0), self.sizes[place - 1]
        phase = Phase(f"{_written(size)}, new layers", ALONE * share, rates=rates, size=size, before=before)
        check_rates(self.stage, phase)
        return [phase]


@contextmanager
def growing(stack: Stack, heights: Sequence[int]) -> Iterator[Growing | None]:
    """While this lasts, level 1 can grow; afterwards it is what its spec says. None where there are no heights."""
    if not heights:
        yield None
        return
    found = Growing(stack, heights)
    try:
        yield found
    finally:
        found.stage.stop_growing()


def _stage(stack: Stack) -> Stage:
    if not len(stack.levels):
        raise TrainingError(f"{stack.spec} has no level that could grow")
    level = stack.level(1)
    if level.trained:
        raise TrainingError("level 1 is trained already, and a stage grows while it is trained first: no progressive")
    return level.stage


def _sizes(shape: Shape, heights: Sequence[int]) -> list[Size]:
    """Heights and widths, the stack's own the last."""
    _, height, width = shape
    smaller = [side for side in heights if side != height]
    if not smaller or smaller[-1] > height:
        raise TrainingError(f"progressive={tuple(heights)}: heights below the stack's own, {height}")
    for side in smaller:
        if side * width % height:
            raise TrainingError(f"progressive: images of {height}x{width} cannot be {side} high: name another height")
    return [*((side, side * width // height) for side in smaller), (height, width)]


def _written(size: Size) -> str:
    return "x".join(map(str, size))
