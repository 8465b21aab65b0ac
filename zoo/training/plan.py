"""The plan of a run: its courses in order, each with what it learns from and how it is validated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from zoo import codes
from zoo.data.augmentation import Augmented
from zoo.training.checks import learns
from zoo.training.courses import Course
from zoo.training.heads import HeadLearner
from zoo.training.held_out import HeldOut
from zoo.training.interrupts import InterruptedTrainingError
from zoo.training.objectives import LevelInCodes, LevelInPixels, WholeStack
from zoo.training.together import Together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from zoo.interfaces import Head, Term
    from zoo.phases import Phase
    from zoo.stack import Stack
    from zoo.training.courses import Source
    from zoo.training.growing import Growing
    from zoo.training.interrupts import Interrupt
    from zoo.training.material import Material
    from zoo.training.members import Members
    from zoo.training.options import Options
    from zoo.training.processes import Processes
    from zoo.training.progress import Reporter

REFINE_RATE = 0.1


@dataclass(frozen=True)
class Plan:
    """What is trained in which order.

    Args:
        stacks: what is trained. What is below their top levels is the same in all of them.
        members: what differs, where there are several.
        options: how to train.
        material: the images.
        growing: the smaller images that level 1 begins with, where it does.
        processes: that share out encoding and validation.
        reporter: told how far the encoding is.
        interrupt: whether the user asked to stop.
        lasting: what is encoded can be gone on with.
    """

    stacks: Sequence[Stack]
    members: Members | None
    options: Options
    material: Material
    growing: Growing | None
    processes: Processes
    reporter: Reporter
    interrupt: Interrupt | None
    lasting: bool

    @property
    def stack(self) -> Stack:
        """The one, or the first."""
        return self.stacks[0]

    def __iter__(self) -> Iterator[Callable[[int], Course | None]]:
        """The courses in order, each made when its turn comes: its codes need the levels below.

        They are the same when a run is resumed, so those that a level which trains on has no need of are None instead.
        """
        stack, levels = self.stack, range(1, len(self.stack.levels) + 1)
        for level in filter(self._learns, levels):
            first = [phase for term in stack.level(level).terms.values() for phase in cast("Term", term).phases()]
            own = stack.level(level).stage.phases()
            phases = [*first, *own] if self.growing is None or level > 1 else self.growing.phases(first, own)
            for place, phase in enumerate(phases):
                share = phase.share / sum(other.share for other in phases[place:])
                opens, closes = place == 0, place == len(phases) - 1
                turn = partial(self._level, level=level, phase=phase, first=place < len(first))
                yield partial(turn, share=share, opens=opens, closes=closes)
        if self.options.refine:
            yield self._refinement
        if stack.head is not None and self._learns(len(levels) + 1):
            yield self._head  # last: it learns the codes that are there to stay

    def _learns(self, level: int) -> bool:
        return learns(self.stack, self.options, level)

    def _level(self, number: int, *, level: int, phase: Phase, first: bool, **turn: Any) -> Course | None:
        if first and self.stack.level(level).trained:
            return None
        in_pixels = level > 1 and (phase.loss_in or self.options.loss_in) == "pixels"
        kind = LevelInPixels if in_pixels else LevelInCodes
        learners = [kind(stack, level, phase) for stack in self.stacks]
        from_images = level == 1 or in_pixels
        corruption = self.options.corruption if from_images else None
        for learner in learners:
            learner.corruption = corruption
        source = self._images() if from_images else self._codes(level - 1)
        title = phase.name or ("pixels" if from_images else "codes")
        own = self.stack.level(level)
        # With a loss in pixels the sample is one of images, and far fewer of them than of codes fit into it.
        best = not own.trained and corruption is None and not in_pixels
        turn["settled"] = own.stage.settled if best else {}
        if self.members is None:
            return Course(number, level, title, learners[0], source, self._held_out(), phase, **turn)
        turn |= {"seeds": self.members.seeds, "factors": self.members.factors}
        return Course(number, level, title, Together(learners), source, self._held_out(), phase, **turn)

    def _head(self, number: int) -> Course:
        levels = len(self.stack.levels)
        loss_in = cast("Head", self.stack.head).loss_in or self.options.loss_in
        source = self._images() if loss_in == "pixels" or not levels else self._codes(levels)
        learner = HeadLearner(self.stack, loss_in)
        return Course(number, levels + 1, loss_in, learner, source, self._held_out(), closes=False)

    def _refinement(self, number: int) -> Course:
        """Everything end to end. Nothing is prepared again, and only the top level's scale is measured anew."""
        learner = WholeStack(self.stack)
        learner.corruption = self.options.corruption
        return Course(
            number, learner.number, "refine", learner, self._images(), self._held_out(), scale=REFINE_RATE, opens=False
        )

    def _images(self) -> Source:
        """The training images, or fresh views of them."""
        augmentation = self.options.augmentation
        return self.material.kept if augmentation is None else Augmented(self.material.kept, augmentation)

    def _codes(self, levels: int) -> Source:
        """The training images through the first levels, from the cache that all runs share.

        Images that are held out are encoded as well, so that runs which hold out others, or none, find the same codes.
        """
        coding, train = self.options.coding, self.material.train

        def tick(count: int) -> None:
            if count and self.reporter.bar is None:
                self.reporter.start(f"encoding through level {levels}", coding.passes * len(train))
            self.reporter.advance(count)
            if self.interrupt is not None and self.interrupt.asked:
                kept = " What is encoded is kept: the same command with --resume (resume=True) goes on." * self.lasting
                raise InterruptedTrainingError(f"stopped while encoding through level {levels}.{kept}")

        try:
            found = codes.encode(
                self.stack, train, levels=levels, coding=coding, tick=tick, say=self.reporter.say, among=self.processes
            )
        finally:
            self.reporter.stop()
        return found if self.material.places is None else found.subset(self.material.places)

    def _held_out(self) -> HeldOut:
        """What a course is validated by."""
        return HeldOut(self.material.held, self.options.batch_size, self.processes, self.reporter)
