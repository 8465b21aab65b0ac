"""How well a course does: its averaged weights on held-out raw images, and the best of them so far."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any

import torch

from zoo.phases import END
from zoo.training import randomness, schedules, stillness

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.training.averaging import Average
    from zoo.training.courses import Course
    from zoo.training.objectives import Learner


class Validation:
    """Looks at a course's learner now and then, and keeps the best of its averaged weights.

    Every term has its whole weight when it is looked at, whatever it has in training: a loss under a warm-up is least
    when it begins. Of losses under other weights, which an adaptive one makes, or against a critic, which has learned
    on the way, none is better, so the last counts. Elsewhere what the course starts from is the first to be beaten: a
    level that starts as principal components may be as good as it gets.

    Args:
        course: whose learner it is.
        average: of the learner's weights.
        device: where it computes.
        against_critics: whether critics learn against it.
    """

    def __init__(self, course: Course, average: Average, device: torch.device, *, against_critics: bool) -> None:
        self.course, self.average, self.device, self.against_critics = course, average, device, against_critics
        self.curve: list[float] = []
        self.yardstick: dict[str, float] = {}
        self.best: list[tuple[float, dict[str, Tensor]]] = []
        """By member of the learner, which is one of its own as a rule: the least loss, and the weights that had it."""
        self.first: list[float] = []
        """By member: the loss that the course starts from."""

    def start(self) -> None:
        """Remember what the course starts from. It is no part of the curve, which shows what is gained by learning."""
        if not self.against_critics:
            self.look()
            self.curve, self.first = [], [loss for loss, _ in self.best]

    @property
    def in_vain(self) -> bool:
        """Whether no member has come to anything better than its start."""
        return bool(self.first) and self.first == [loss for loss, _ in self.best]

    def look(self) -> tuple[dict[str, Any], bool]:
        """Measure, and remember the weights of every member that is the best it was so far.

        Returns:
            What was measured, of several members the means and each one's loss; and whether any was the best so far.
        """
        learner = self.course.learner.eval()
        yardstick = learner.weigh(END)
        with self.average.in_place():
            found = [self._measured(member) for member in learner.members]
        stillness.train(learner)
        alike = yardstick == self.yardstick and not self.against_critics
        self.yardstick = yardstick
        self.curve = [*(self.curve if alike else []), sum(own["loss"] for own in found) / len(found)]
        better = [
            not self.best or not alike or _less(own["loss"], self.best[place][0]) for place, own in enumerate(found)
        ]
        self.best = [
            (own["loss"], _cloned(self.average.state(member))) if good else self.best[place]
            for place, (member, own, good) in enumerate(zip(learner.members, found, better, strict=True))
        ]
        return _together(found), any(better)

    @property
    def still(self) -> bool:
        """Whether the loss has not fallen for as long as the phase waits."""
        patience = self.course.phase.patience
        return patience is not None and schedules.is_flat(self.curve, patience)

    def weights(self) -> dict[str, Tensor]:
        """The best weights of all members, by their names in the learner."""
        return {name: value for _, state in self.best for name, value in state.items()}

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps beside ``weights``, JSON-ready."""
        return {"best_losses": [loss for loss, _ in self.best], "yardstick": self.yardstick, "curve": self.curve,
                "first": self.first}  # fmt: skip

    def load(self, facts: dict[str, Any], weights: dict[str, Tensor]) -> None:
        """Continue from saved ``facts`` and ``weights``."""
        self.yardstick, self.curve, self.first = facts["yardstick"], facts["curve"], facts.get("first", [])
        self.best = [
            (loss, _cloned({name: weights[name] for name in self.average.state(member)}))
            for member, loss in zip(self.course.learner.members, facts["best_losses"], strict=False)
        ]

    def _measured(self, member: Learner) -> dict[str, float]:
        with randomness.apart(self.device, seed=0), torch.inference_mode():
            return self.course.held(member)


def _less(loss: float, best: float) -> bool:
    return loss < best or isnan(best)


def _cloned(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}


def _together(found: list[dict[str, float]]) -> dict[str, Any]:
    """What was measured, of several members the means, and each one's loss."""
    if len(found) == 1:
        return dict(found[0])
    means = {name: sum(own[name] for own in found) / len(found) for name in found[0]}
    return {**means, "losses": [own["loss"] for own in found]}
