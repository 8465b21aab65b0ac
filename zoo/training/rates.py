"""A sweep over learning rates: what a course's loss does while the rate rises, and which rate that suggests.

Smith (2017), Cyclical learning rates for training neural networks, arXiv:1506.01186; the suggestions are fastai's.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from statistics import stdev
from typing import TYPE_CHECKING, Any

from zoo.errors import TrainingError
from zoo.phases import END
from zoo.training import randomness, schedules
from zoo.training.interrupts import InterruptedTrainingError
from zoo.training.loop import Loop
from zoo.training.progress import Reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from torch import nn

    from zoo.training.courses import Course
    from zoo.training.objectives import Learner

STEPS = 100
SPAN = (1e-6, 1.0)
"""Between these the rate rises: sixteen steps to a decade."""
SMOOTH = 0.9
"""How much of the curve so far is in each of its points."""
DIVERGED = 2.0
"""A sweep ends when the loss has risen by this many times what it had fallen by, or half of what batches differ by."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep came to.

    Args:
        level: that was swept.
        rates: of the steps, rising.
        losses: of the same steps, less those of the same batches at a rate of 0: what learning changed.
        spread: the standard deviation of the losses at a rate of 0, over batches.
    """

    level: int
    rates: Sequence[float]
    losses: Sequence[float]
    spread: float

    @cached_property
    def smoothed(self) -> list[float]:
        """The losses, each averaged with those before it."""
        return smooth(self.losses)

    @property
    def minimum(self) -> float:
        """A tenth of the rate at which the loss is least."""
        return self.rates[self._least] / 10

    @property
    def steep(self) -> float:
        """Where the loss falls fastest."""
        falls = [after - before for before, after in pairwise(self.smoothed[: self._least + 1])]
        return self.rates[falls.index(min(falls))] if falls else self.rates[self._least]

    @property
    def valley(self) -> float:
        """Half way down the longest part of the curve that goes down."""
        down = falling(self.smoothed[: self._least + 1])
        return self.rates[down[len(down) // 2]]

    @property
    def edge(self) -> float:
        """A fifth of the highest rate up to which the loss is less than its spread above its least."""
        limit = min(self.smoothed) + self.spread
        beyond = (place for place, value in enumerate(self.smoothed) if place > self._least and value > limit)
        return self.rates[next(beyond, len(self.rates)) - 1] / 5

    @property
    def suggestions(self) -> dict[str, float]:
        """All of them by name."""
        return {"valley": self.valley, "steep": self.steep, "minimum": self.minimum, "edge": self.edge}

    @property
    def suggested(self) -> float:
        """The one that ``lr="auto"`` takes."""
        return self.edge

    @property
    def _least(self) -> int:
        return self.smoothed.index(min(self.smoothed))


def sweep(loop: Loop, course: Course, *, steps: int = STEPS, span: tuple[float, float] = SPAN) -> Sweep:
    """Train a course while its rate rises, and put everything back: weights, modes and random states.

    The same batches are gone through twice, first at a rate of 0: what is left of a loss without its own batch's part
    is what learning has changed, which in so few steps is far less than batches differ by.

    Args:
        loop: of the run that the course belongs to; it is left as it is.
        course: its learner is prepared and trained as always, but for the rate.
        steps: of each pass.
        span: the lowest and the highest rate.

    Raises:
        TrainingError: the loss is not finite at a rate of 0.
        InterruptedTrainingError: the user asked to stop.
    """
    if steps < 2 or not 0 < span[0] < span[1]:
        raise TrainingError(f"steps={steps}, span={span}: a sweep wants 2 steps at least, and a rate that rises")
    still, moved = _Recorder(loop), _Recorder(loop)
    with _put_back(loop.stack, course.learner, loop.accelerator.device):
        _train(loop, course, still, steps, span[1], lambda _: 0.0)
    moved.still = still.losses
    with _put_back(loop.stack, course.learner, loop.accelerator.device), suppress(_Diverged):
        _train(loop, course, moved, steps, span[1], lambda progress: schedules.rising(progress, span[0] / span[1]))
    rates = [span[1] * schedules.rising(step / steps, span[0] / span[1]) for step in range(len(moved.losses))]
    return Sweep(course.level, rates, moved.changes, stdev(still.losses))


def can_be_swept(course: Course) -> bool:
    """Whether a course has something to learn, and a loss that says how well it learns: an adversary's does not."""
    return bool(course.rates()) and course.phase.code_loss is None and not course.learner.critics()


class _Diverged(Exception):  # noqa: N818 - it is what is waited for
    """The loss has become far larger than it was."""


class _Recorder(Reporter):
    """Collects the losses of a pass, and ends it when they have gone too far.

    Args:
        loop: whose reporter says whether anything is shown.
    """

    def __init__(self, loop: Loop) -> None:
        super().__init__(None, loop.accelerator, visible=loop.reporter.visible)
        self.processes = loop.processes
        self.losses: list[float] = []
        self.still: list[float] = []

    @property
    def changes(self) -> list[float]:
        """The losses less those at a rate of 0."""
        return [loss - own for loss, own in zip(self.losses, self.still, strict=False)]

    def warn(self, text: str) -> None:
        """Nothing: a pass is no training, whose weights anybody keeps."""

    def record(self, line: dict[str, Any]) -> None:
        """Take in the loss of a step; raise ``_Diverged`` when it has risen as far as it ever fell, and further."""
        if "loss" not in line:
            return
        self.losses += self.processes.mean([line["loss"]])
        if self.still:
            curve = smooth(self.changes)
            if curve[-1] > DIVERGED * max(-min(curve), (max(self.still) - min(self.still)) / 2):
                raise _Diverged


class _Nothing:
    """Held-out images that there are none of."""

    def __len__(self) -> int:
        return 0

    def __call__(self, learner: Learner) -> dict[str, float]:
        """A loss of nothing."""
        return {"loss": 0.0}


def _train(
    loop: Loop, course: Course, recorder: _Recorder, steps: int, highest: float, pace: Callable[[float], float]
) -> None:
    """A pass over the first batches of a course, under another rate, which nothing is validated or kept of."""
    own = schedules.budget(loop.options, len(course.source)).steps
    options = replace(
        loop.options, lr=highest, schedule="constant", steps=max(steps, own or steps), epochs=None, minutes=None,
        ema=0.0, compile=False, log_every=1,
    )  # fmt: skip
    phase = replace(course.phase, steps=steps, epochs=None, until=None, patience=None)
    passed = replace(course, title="learning rate", phase=phase, share=1.0, scale=1.0, pace=pace, held=_Nothing())
    quiet = Loop(
        loop.stack, options, accelerator=loop.accelerator, reporter=recorder, shelf=None, interrupt=loop.interrupt,
        gains=loop.gains,
    )  # fmt: skip
    try:
        quiet.run(passed)
    except InterruptedTrainingError:
        raise
    except TrainingError:  # it exploded
        if not recorder.still:
            raise


@contextmanager
def _put_back(stack: nn.Module, learner: Learner, device: torch.device) -> Iterator[None]:
    """Afterwards everything is what it was before, bit by bit."""
    weights = {name: tensor.detach().clone() for name, tensor in stack.state_dict().items()}
    training = {module: module.training for module in [*stack.modules(), *learner.modules()]}
    states = randomness.state(device)
    try:
        yield
    finally:
        stack.load_state_dict(weights)
        for module, mode in training.items():
            module.training = mode
        learner.zero_grad(set_to_none=True)
        learner.weigh(END)  # as in a new one
        randomness.restore(states, device)


def smooth(values: Sequence[float], keep: float = SMOOTH) -> list[float]:
    """Each value averaged with those before it, which count less the longer ago they are.

    >>> smooth([2.0, 2.0, 2.0])
    [2.0, 2.0, 2.0]
    """
    smoothed, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        smoothed.append(total / weight)
    return smoothed


def falling(values: Sequence[float]) -> list[int]:
    """Where the longest of the sequences lies that fall from value to value, leaving out others in between.

    >>> falling([5.0, 3.0, 4.0, 2.0, 9.0, 1.0])
    [0, 1, 3, 5]
    """
    chains: list[list[int]] = []
    for place, value in enumerate(values):
        before = [chain for chain in chains if values[chain[-1]] > value]
        chains.append([*max(before, key=len, default=[]), place])
    return max(chains, key=len)
