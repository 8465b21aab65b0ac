"""When a course's weights are looked at on held-out images."""

from __future__ import annotations

from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.training.processes import Processes
    from zoo.training.schedules import Budget

VALIDATIONS = 20
"""Looks at the most, spread evenly; fewer where more images would be looked at than learned from."""
BETWEEN = 9
"""A course that is given seconds trains for as many times as long as its last look took before the next."""


class Looks:
    """When the next look is due, and whether the last one still holds.

    Args:
        budget: that they are spread over.
        processes: which all look at once.
        batches: that the held-out images would make.
    """

    def __init__(self, budget: Budget, processes: Processes, batches: int) -> None:
        self.budget, self.processes = budget, processes
        self.every = max(1, (budget.steps or 1) // VALIDATIONS, batches)
        """Steps from one look to the next, where the budget is one of steps."""
        self.last = 0
        """The step of the last look."""
        self.due = 0.0
        """The second of the next one, where the budget is one of seconds."""

    def is_due(self, step: int, elapsed: float) -> bool:
        """Whether it is time, ``elapsed`` seconds into the course."""
        if self.budget.seconds is None:
            return step % self.every == 0
        return elapsed >= self.due

    @contextmanager
    def timed(self, step: int, elapsed: float) -> Iterator[None]:
        """One look; where seconds count, how long it takes says when the next one is due."""
        start = perf_counter()
        yield
        self.last = step
        if self.budget.seconds is not None:
            took = self.processes.mean([perf_counter() - start])[0]
            self.due = elapsed + took + max(self.budget.seconds / VALIDATIONS, BETWEEN * took)
