"""A trainer watched from outside: when each optimiser of this process took a step, whoever's it is."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks.pairs import Taken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@contextmanager
def stepping() -> Iterator[list[Taken]]:
    """The moments at which a step was over, as long as this lasts."""
    moments: list[Taken] = []

    def note(*_: Any) -> None:
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        moments.append(Taken.now())

    handle = register_optimizer_step_post_hook(note)
    try:
        yield moments
    finally:
        handle.remove()


def step_of(moments: Sequence[Taken]) -> Taken:
    """What a step took: the median, the first left out."""
    steps = [later - earlier for earlier, later in pairwise(moments)]
    return Taken(median(step.wall for step in steps), median(step.processor for step in steps))
