"""What a run is made of: courses, each one phase of one level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from zoo.training.objectives import Learner


class Source(Protocol):
    """What a course learns from: images, or codes."""

    labels: Tensor | None

    def __len__(self) -> int: ...

    def batch(self, index: Tensor) -> Tensor:
        """The items at these places."""
        ...


@dataclass
class Course:
    """One phase of one level: who learns, from what, for how long.

    Args:
        number: its place in the run's plan.
        level: the level it trains, from 1; a head counts as one.
        phase: ``codes``, ``pixels`` or ``refine``.
        learner: what learns, with its objective.
        source: what it learns from.
        validate: the loss and the pixels' squared error on held-out raw images.
        scale: on the learning rate.
    """

    number: int
    level: int
    phase: str
    learner: Learner
    source: Source
    validate: Callable[[Learner], dict[str, float]]
    scale: float = 1.0
