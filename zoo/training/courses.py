"""What a run is made of: courses, each one phase of one level."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from zoo.phases import Phase, factor_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from zoo.training.objectives import Learner


class Source(Protocol):
    """What a course learns from: images, or codes."""

    @property
    def labels(self) -> Tensor | None:
        """(N,) class indices, where there are any."""
        ...

    def __len__(self) -> int: ...

    def batch(self, index: Tensor) -> Tensor:
        """The items at these places."""
        ...


class Held(Protocol):
    """What a course is validated on: images that are held out."""

    def __len__(self) -> int: ...

    def __call__(self, learner: Learner) -> dict[str, float]:
        """The learner's ``loss`` on them, and ``mse`` where images come back."""
        ...


@dataclass
class Course:
    """One phase of one level: who learns, from what, for how long.

    Args:
        number: its place in the run's plan.
        level: the level it trains, from 1; a head counts as one.
        title: what the phase is called: ``codes``, ``pixels``, ``refine`` or the stage's own name for it.
        learner: what learns, with its objective.
        source: what it learns from.
        held: what it is validated on.
        phase: who learns at which rate, in batches of which size.
        share: the part of what the level's courses before it have left of the budget.
        scale: on the learning rate.
        opens: the first course of its level: the learner is shown a sample of the source.
        closes: the last course of its level: the level's codes are then brought to unit scale.
        seeds: of the learner's members; None: the run's seed for the one there is.
        factors: of the members, on the learning rate.
        pace: the factor on the learning rate by the part of the course that is done; None: as the run's schedule says.
        settled: more factors on the learning rate, by beginnings of the names of the stage's parameters.
    """

    number: int
    level: int
    title: str
    learner: Learner
    source: Source
    held: Held
    phase: Phase = field(default_factory=Phase)
    share: float = 1.0
    scale: float = 1.0
    opens: bool = True
    closes: bool = True
    seeds: tuple[int, ...] | None = None
    factors: tuple[float, ...] = (1.0,)
    pace: Callable[[float], float] | None = None
    settled: Mapping[str, float] = field(default_factory=dict)

    def rates(self) -> dict[str, tuple[nn.Parameter, float]]:
        """What learns, by name, each with its factor on the learning rate; parameters that a stage froze do not."""
        return {
            f"{place}.{name}" if place else name: (parameter, factor)
            for place, member in enumerate(self.learner.members)
            for name, parameter in member.named_parameters()
            if parameter.requires_grad and (factor := self._factor(name) * self.factors[place]) > 0
        }

    def _factor(self, name: str) -> float:
        _, inside, within = name.partition("stage.")
        if not inside:
            return 1.0
        return self.phase.rate(within) * factor_of(within, self.settled, other=1.0)
