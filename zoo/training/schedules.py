"""How long a course runs, and its learning rate on the way."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.training.options import Options, ScheduleName

WARM_UP_STEPS = 100
WARM_UP_PART = 0.05
"""A linear warm-up takes so many steps, but no more than this part of a short course."""
LOWEST = 0.01
"""Where cosine ends, as a fraction of the highest rate: a budget in minutes may end a little early or late."""
FLAT = 0.01
"""Of what a phase has gained: who gains less stands still."""


@dataclass(frozen=True)
class Spent:
    """What the courses of a level that are over have taken of its budget."""

    steps: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Budget:
    """How long a level or a course runs: a number of steps, or of seconds, or either, whichever is over first."""

    steps: int | None
    seconds: float | None

    def warm(self, step: int, progress: float) -> float:
        """The factor of the warm-up on the learning rate, at most 1.

        >>> [Budget(400, None).warm(step, step / 400) for step in (0, 9, 20)]
        [0.047619047619047616, 0.47619047619047616, 1.0]
        """
        steps = WARM_UP_STEPS if self.steps is None else min(WARM_UP_STEPS, round(WARM_UP_PART * self.steps))
        risen = (step + 1) / (steps + 1)
        if self.seconds is not None:  # how many steps there will be is not known
            risen = max(risen, progress / WARM_UP_PART)
        return min(1.0, risen)

    def progress(self, step: int, elapsed: float) -> float:
        """The part that is done after ``step`` steps and ``elapsed`` seconds, 0 to 1 (and over)."""
        of_steps = 0.0 if self.steps is None else step / self.steps
        return of_steps if self.seconds is None else max(of_steps, elapsed / (self.seconds or 1.0))

    def part(self, share: float, *, spent: Spent, most: int | None = None) -> Budget:
        """A share of what is left of it, and ``most`` steps."""
        if self.seconds is not None:
            return Budget(most, max(1e-3, (self.seconds - spent.seconds) * share))
        steps = max(1, round(((self.steps or 1) - spent.steps) * share))
        return Budget(steps if most is None else min(steps, most), None)


def budget(options: Options, count: int) -> Budget:
    """The budget of a level that learns from ``count`` items."""
    if options.minutes is not None:
        return Budget(None, options.minutes * 60)
    return Budget(options.steps or (options.epochs or 1) * steps_per_epoch(count, options.batch_size), None)


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches in ``count`` items; a smaller set than a batch makes one."""
    return max(1, count // batch_size)


def is_flat(losses: Sequence[float], patience: int) -> bool:
    """Whether the last ``patience`` losses brought less than a hundredth of what those before them had.

    >>> is_flat([9.0, 4.0, 2.0, 1.0], 1), is_flat([9.0, 1.0, 0.99, 0.98], 2), is_flat([9.0], 1)
    (False, True, False)
    """
    if len(losses) <= patience:
        return False
    before = min(losses[:-patience])
    return before - min(losses) <= FLAT * (losses[0] - before)


def rate(schedule: ScheduleName, progress: float, warm: float, milestones: tuple[float, ...] = (0.5, 0.75)) -> float:
    """The factor on the highest learning rate, ``warm`` being that of the warm-up.

    ``multistep`` divides it by ten at each of the milestones, which are parts of the course.

    ``onecycle`` brings its own warm-up, over the first 30 % (Smith and Topin 2018, arXiv:1708.07120).
    """
    progress = min(max(progress, 0.0), 1.0)
    if schedule == "onecycle":
        return _cosine(1 / 25, 1.0, progress / 0.3) if progress < 0.3 else _cosine(1.0, 1e-4, (progress - 0.3) / 0.7)
    if schedule == "multistep":
        return float(warm * 0.1 ** sum(progress >= milestone for milestone in milestones))
    return warm * (_cosine(1.0, LOWEST, progress) if schedule == "cosine" else 1.0)


def rising(progress: float, lowest: float) -> float:
    """The factor of a sweep over rates, from ``lowest`` to 1 by equal ratios."""
    return float(lowest ** (1 - progress))


def momentum(progress: float) -> float:
    """One-cycle's momentum, which falls from 0.95 to 0.85 while the rate rises and returns while it falls."""
    progress = min(max(progress, 0.0), 1.0)
    return _cosine(0.95, 0.85, progress / 0.3) if progress < 0.3 else _cosine(0.85, 0.95, (progress - 0.3) / 0.7)


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + cos(pi * progress)) / 2
