"""What a step takes by level and mode, beside what it computes: a level on codes should be as cheap as its FLOPs say.

Level 1 learns from images; level 2 from the codes of level 1, which are cached, or in pixels, through the frozen level
1; in the end both learn at once. All modes take a few steps in turn within one process, at equal batch size, in the
precision that the trainer finds best. A ratio of step times stands beside that of floating-point operations, forwards
and backwards, as torch counts them: less than 0.8 of it means that what codes save in arithmetic is lost elsewhere.
Small batches lose it to the optimiser, whose work does not shrink with them.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

import torch
from torch.utils.flop_counter import FlopCounterMode

import zoo
from benchmarks.rows import Row
from benchmarks.stepping import step_of, stepping
from zoo.data import images
from zoo.training import looks
from zoo.training.objectives import LevelInCodes, LevelInPixels, WholeStack

if TYPE_CHECKING:
    from benchmarks.pairs import Taken
    from zoo.data import Images
    from zoo.stack import Stack
    from zoo.training.objectives import LevelLearner

CASES = (
    ("28x28x1/conv7x7x10/fc8+kl", 64),
    ("28x28x1/conv7x7x10/fc8+kl", 512),
    ("64x64x3/conv8x8x64/conv4x4x32", 64),
    ("64x64x3/conv8x8x64/conv4x4x32", 512),
)
"""A stack of two levels, and the size of a batch."""
TURNS, STEPS = 5, 12
POOL, HELD = 512, 16
LEVEL_1, CODES, PIXELS, WHOLE = MODES = ("level 1", "level 2 in codes", "level 2 in pixels", "both at once")
COMPARED = ((PIXELS, CODES), (LEVEL_1, CODES), (WHOLE, CODES), (WHOLE, PIXELS))
BAR = "ratio >= 0.8"


@dataclass(frozen=True)
class Case:
    """One stack, trained in every mode.

    Args:
        stack: of two levels.
        batch_size: of all modes.
        data: images to learn from.
        held: images to validate on, few.
    """

    stack: Stack
    batch_size: int
    data: Images
    held: Images

    def turn(self) -> dict[str, Taken]:
        """A step in every mode."""
        with stepping() as moments:
            self._fit(refine=True)
            self._fit(level=2, loss_in="pixels")
        parts = [moments[first : first + STEPS] for first in range(0, len(moments), STEPS)]
        return {mode: step_of(part) for mode, part in zip((LEVEL_1, CODES, WHOLE, PIXELS), parts, strict=True)}

    def _fit(self, **how: Any) -> None:
        zoo.fit(self.stack, self.data, val=self.held, steps=STEPS, batch_size=self.batch_size, progress=False,
                **how)  # fmt: skip

    def operations(self) -> dict[str, int]:
        """Of a step, in every mode."""
        x = self.data.batch(torch.arange(self.batch_size))
        with torch.no_grad():
            codes = self.stack.encode(x, 1)
        return {
            LEVEL_1: _counted(LevelInCodes(self.stack, 1), x),
            CODES: _counted(LevelInCodes(self.stack, 2), codes),
            PIXELS: _counted(LevelInPixels(self.stack, 2), x),
            WHOLE: _counted(WholeStack(self.stack), x),
        }


def run() -> list[Row]:
    """Milliseconds of a step beside its operations, and ratios of times beside those of operations."""
    at_the_end = patch.object(looks, "VALIDATIONS", 1)  # and not between steps
    with tempfile.TemporaryDirectory() as cache, patch.dict(os.environ, ZOO_CACHE=cache), at_the_end:
        return [row for spec, batch_size in CASES for row in _rows(spec, batch_size)]


def _rows(spec: str, batch_size: int) -> list[Row]:
    torch.manual_seed(0)
    stack = zoo.build(spec)
    data, held = (images(torch.rand(count, *stack.input_shape), stack.input_shape) for count in (POOL, HELD))
    case, what = Case(stack, batch_size, data, held), f"{spec}, {batch_size} a step"
    turns = [case.turn() for _ in range(TURNS + 1)][1:]
    operations = case.operations()
    rows = [
        Row(f"{what}: {mode}, ms; GFLOP", 1e3 * median(turn[mode].wall for turn in turns), operations[mode] / 1e9)
        for mode in MODES
    ]
    for slow, fast in COMPARED:
        counted = operations[slow] / operations[fast]
        wall, processor = (
            median(getattr(turn[slow], clock) / getattr(turn[fast], clock) for turn in turns)
            for clock in ("wall", "processor")
        )
        name = f"{what}: {slow} over {fast}, time"
        rows.append(Row(f"{name}; FLOP", wall, counted, BAR))
        rows.append(Row(f"{name} of processor; FLOP", processor, counted))
    return rows


def _counted(learner: LevelLearner, batch: torch.Tensor) -> int:
    """Operations of a step, with gradients for what learns alone."""
    stack = learner.stack[0].train()
    own = {id(parameter) for parameter in learner.parameters()}
    for parameter in stack.parameters():
        parameter.requires_grad_(id(parameter) in own)
    with FlopCounterMode(display=False) as counter:
        learner(batch).total.backward()
    for parameter in stack.parameters():
        parameter.requires_grad_(True)
    stack.eval().zero_grad()
    return cast("int", counter.get_total_flops())
