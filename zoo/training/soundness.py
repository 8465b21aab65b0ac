"""Whether the losses of a course are those of a training that can go on."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from zoo.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.training.checkpoints import Shelf
    from zoo.training.objectives import Losses

EXPLODED = 100.0
"""A loss this many times the first one's size (and at least this many nats per element) above it has exploded."""


class ExplodedTrainingError(TrainingError):
    """A loss that is not finite, or has grown out of all proportion: the rate or a term was too much."""


class Soundness:
    """Compares every loss of a course with its first one.

    Args:
        level: the level's number, for people.
        rates: the learning rate of each member of the learner, for people.
        shelf: where the last good checkpoint is, if there are any.
    """

    def __init__(self, level: int, rates: Sequence[float], shelf: Shelf | None) -> None:
        self.level, self.rates, self.shelf = level, rates, shelf
        self.first: list[float] = []
        """By member of the learner."""

    def check(self, found: Sequence[float], losses: Losses, step: int) -> None:
        """Look at the losses of a step, one of each member; ``losses`` says what they consist of.

        Raises:
            ExplodedTrainingError: one is not finite or has exploded.
        """
        self.first = self.first or [*found]
        for place, (loss, first) in enumerate(zip(found, self.first, strict=True)):
            if not isfinite(loss) or loss >= first + EXPLODED * max(1.0, abs(first)):
                raise self._exploded(loss, losses, place, step)

    def _exploded(self, loss: float, losses: Losses, place: int, step: int) -> ExplodedTrainingError:
        many = losses.each is not None
        terms = {name: (value[place] if many else value).item() for name, value in losses.terms.items()}
        worst = next(
            (name for name, value in terms.items() if not isfinite(value)),
            max(terms, key=lambda name: abs(terms[name])),
        )
        which = f", stack {place + 1} of {len(self.first)}" if many else ""
        return ExplodedTrainingError(
            f"level {self.level}{which}: the loss {'exploded' if isfinite(loss) else 'is not finite'} "
            f"at step {step} (term {worst}: {terms[worst]:.4g}; learning rate {self.rates[place]:g}). "
            f"{self._last_good()} Try a third of the learning rate, or a smaller weight for that term."
        )

    def _last_good(self) -> str:
        if self.shelf is None or self.shelf.load("last") is None:
            return "No checkpoint was written before it."
        return f"The last checkpoint before it is in {self.shelf.folder}."
