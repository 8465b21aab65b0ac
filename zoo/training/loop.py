"""The loop: one course, from its first step to its last."""

from __future__ import annotations

import zlib
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from math import ceil
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from zoo.layout import channels_last, laid
from zoo.phases import Moment
from zoo.training import precision, randomness, schedules, stillness
from zoo.training.averaging import Average
from zoo.training.checkpoints import Checkpoint
from zoo.training.interrupts import InterruptedTrainingError
from zoo.training.looks import Looks
from zoo.training.order import Order
from zoo.training.players import players
from zoo.training.processes import LostProcessError, Processes
from zoo.training.soundness import Soundness
from zoo.training.validation import Validation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from accelerate.accelerator import Accelerator
    from torch import Tensor, nn

    from zoo.stack import Stack
    from zoo.training.checkpoints import Shelf
    from zoo.training.courses import Course
    from zoo.training.interrupts import Interrupt
    from zoo.training.members import Stacks
    from zoo.training.objectives import Learner, Losses
    from zoo.training.options import Options
    from zoo.training.progress import Reporter

SAVE_EVERY = 60.0
"""Seconds between checkpoints, at most."""
PREPARED_ELEMENTS = 2**26
"""Numbers that a data-dependent start looks at, at most: 5,461 images of 64x64x3."""


class Loop:
    """The one loop: every course of every stack runs through ``run``.

    Args:
        stack: what the courses' learners are parts of: saved whole in every checkpoint.
        options: how to train.
        accelerator: device and processes.
        reporter: progress and history.
        shelf: checkpoints; None keeps none.
        interrupt: whether the user asked to stop.
        gains: bf16 is faster on this machine.
    """

    def __init__(
        self,
        stack: Stack | Stacks,
        options: Options,
        *,
        accelerator: Accelerator,
        reporter: Reporter,
        shelf: Shelf | None,
        interrupt: Interrupt,
        gains: bool,
    ) -> None:
        self.stack, self.options, self.accelerator = stack, options, accelerator
        self.reporter, self.shelf, self.interrupt, self.gains = reporter, shelf, interrupt, gains
        self.processes = Processes.of(accelerator)
        self.spent = schedules.Spent()
        """What the courses of the level that is trained have taken so far; a run that is resumed sets it."""

    def run(self, course: Course, resumed: Checkpoint | None = None) -> int:
        """Train one course; afterwards the learner holds the best averaged weights, in eval mode.

        Returns:
            The steps it took.

        Raises:
            TrainingError: the loss is not finite or has exploded; the user asked to stop.
        """
        with _alone(self.stack, [parameter for parameter, _ in course.rates().values()]):
            run = _Run(self, course, resumed)
            run.go()
        self.spent = schedules.Spent() if course.closes else run.taken()
        return run.step


class _Run:
    """The state of one course while it runs."""

    def __init__(self, loop: Loop, course: Course, resumed: Checkpoint | None) -> None:
        self.loop, self.course, self.options, self.processes = loop, course, loop.options, loop.processes
        self.device = loop.accelerator.device
        self.whole, self.spent = schedules.budget(self.options, len(course.source)), loop.spent
        self.budget = self.whole.part(course.share, spent=loop.spent, most=self._most())
        self.batch_size = course.phase.batch_size or self.options.batch_size
        self.step, self.elapsed, self.enough = 0, 0.0, False
        # a level's looks are spread over its phases, but for one that ends by what they find
        spread = self.whole if course.phase.patience is None else self.budget
        self.looks = Looks(spread, self.processes, ceil(len(course.held) / self.batch_size))
        self.losses: list[float] = []
        self.soundness = Soundness(course.level, [loop.options.rate * own for own in course.factors], loop.shelf)
        seeds = course.seeds or (self.options.seed,)
        self.seeds = [zlib.crc32(f"{seed}/{course.number}".encode()) for seed in seeds]
        self.order = Order(len(course.source), self.batch_size, self.seeds, self.processes)
        for place, (member, seed) in enumerate(zip(course.learner.members, self.seeds, strict=True)):
            randomness.reseed(seed, self.device)
            if resumed is None and course.opens:
                self._prepare(member)
            if not self.processes.first:
                randomness.reseed(self._seed_apart(seed), self.device)
            course.learner.begin(place, self.device)
        channels_last(course.learner, self.device)
        self.processes.same(course.learner)
        self.stage, self.critics = players(course, self.options, self.processes)
        self.average = Average(course.learner, self.options.ema)
        self.validation = Validation(course, self.average, self.device, against_critics=bool(self.critics))
        if resumed is None:
            self.bf16 = self._choose_precision()
        else:
            self._restore(resumed)
        self.forward = torch.compile(course.learner) if self.options.compile else course.learner

    def _seed_apart(self, seed: int) -> int:
        """A seed for what this process draws from here on: others draw other noise."""
        return zlib.crc32(f"{seed}/{self.step}/{self.processes.rank}".encode())

    def _most(self) -> int | None:
        """The steps that the phase takes at the most."""
        phase, batch_size = self.course.phase, self.course.phase.batch_size or self.options.batch_size
        passes = phase.epochs and phase.epochs * schedules.steps_per_epoch(len(self.course.source), batch_size)
        return min((most for most in (phase.steps, passes) if most is not None), default=None)

    def go(self) -> None:
        """All steps, with validations and checkpoints on the way."""
        course, reporter = self.course, self.loop.reporter
        if self.stage is None and not self.critics:
            course.learner.eval()  # nothing to learn: a fixed transform, or a head fitted in closed form
            return
        title, per_step = f"level {course.level} ({course.title})", self.batch_size
        total = None if self.budget.steps is None else self.budget.steps * per_step
        reporter.start(title, total, done=self.step * per_step)
        try:
            self._steps(per_step)
        except LostProcessError:
            self._save(alone=True)
            raise
        finally:
            reporter.stop()
            for critic in self.critics:  # which a loss that ends the run finds switched off
                _learning(critic.parameters, on=True)
        if self.looks.last < self.step or not self.validation.best:
            self._validate()
        if self.validation.in_vain:
            reporter.warn(
                f"{title}: nothing was better on held-out images than what it began with (a loss of "
                f"{self.validation.first[0]:.4g}), which is kept. A lower rate (--lr, lr=) or more steps may help"
            )
        self.average.put(self.validation.weights())
        course.learner.zero_grad(set_to_none=True)
        course.learner.eval()

    def _steps(self, per_step: int) -> None:
        if self.step == 0:
            with self.looks.timed(self.step, self.elapsed):
                self.validation.start()
            self.loop.reporter.forget()
        stillness.train(self.course.learner)
        since_line, saved = perf_counter(), self.elapsed
        start, images = perf_counter() - self.elapsed, 0
        while not self.enough and (progress := self.budget.progress(self.step, self.elapsed)) < 1:
            losses, norm = self._step(progress)
            self.step += 1
            images += per_step
            self.elapsed, asked = self.processes.mean((perf_counter() - start, float(self.loop.interrupt.asked)))
            self.loop.reporter.advance(per_step, total=self._expected(per_step))
            over = self.enough or self.budget.progress(self.step, self.elapsed) >= 1
            if self.step % self.options.log_every == 0 or self.step == 1 or over:
                self._log(losses, norm, images / (perf_counter() - since_line))
                since_line, images = perf_counter(), 0
            if self.looks.is_due(self.step, self.elapsed):
                self._validate()
                since_line, images = perf_counter(), 0
            if asked:
                self._stop()
            if self.elapsed - saved > SAVE_EVERY:
                self._save()
                saved = self.elapsed
        self.course.learner.advance(self._moment(1.0))

    def taken(self) -> schedules.Spent:
        """What the level has taken of its budget by now."""
        return schedules.Spent(self.spent.steps + self.step, self.spent.seconds + self.elapsed)

    def _moment(self, within: float) -> Moment:
        taken = self.taken()
        progress = min(1.0, self.whole.progress(taken.steps, taken.seconds))
        return Moment(progress, taken.steps, self.course.phase.name, within)

    def _expected(self, per_step: int) -> int | None:
        """How many images a budget of seconds will see, as far as can be told now."""
        if self.budget.steps is not None:
            return None
        return round(self.step * per_step / min(max(self.budget.progress(self.step, self.elapsed), 1e-6), 1.0))

    def _step(self, progress: float) -> tuple[Losses, Tensor]:
        """The stage's turn, then each critic's."""
        batch, labels = self._batch()
        learner, moment = self.course.learner, self._moment(progress)
        learner.advance(moment)
        pace = (self.options.schedule, progress, self.budget.warm(self.step, progress), self.options.milestones)
        own = self.course.pace
        factor = (schedules.rate(*pace) if own is None else own(progress)) * self.course.scale
        momentum = schedules.momentum(progress) if self.options.schedule == "onecycle" else learner.momentum
        for critic in self.critics:
            _learning(critic.parameters, on=False)
        with self._precision():
            losses: Losses = self.forward(batch, labels)
        self._check(losses)
        norm = torch.zeros(()) if self.stage is None else self.stage.step(losses.total, factor, momentum)
        for critic in self.critics:
            _learning(critic.parameters, on=True)
            with self._precision():
                loss = learner.critic_loss(critic.name, losses)
            critic.step(loss, factor, momentum)
        learner.adapt(losses, moment.step + 1)
        self.processes.same_buffers(learner)
        self.average.update(self.step)
        return losses, norm

    def _batch(self) -> tuple[Tensor, Tensor | None]:
        """The items of a step, and their labels where they are asked for."""
        index = self.order.of(self.step)
        return laid(self.course.source.batch(index), self.device), self._labels(index)

    def _labels(self, index: Tensor) -> Tensor | None:
        labels = self.course.source.labels if self.course.learner.labelled else None
        return None if labels is None else labels[index].to(self.device)

    def _prepare(self, learner: Learner) -> None:
        """Show a learner a seeded sample of its source, for a start that knows the data.

        In random order, as sets of images often lie class by class: whoever takes the first of them has some of all.
        """
        source = self.course.source
        one = source.batch(torch.zeros(1, dtype=torch.long, device="cpu")).numel()
        count = max(1, min(len(source), PREPARED_ELEMENTS // one))
        index = torch.randperm(len(source), device="cpu")[:count]
        learner.prepare(source.batch(index).to(self.loop.stack.device), self._labels(index))

    def _choose_precision(self) -> bool:
        if self.options.precision != "auto" or self.stage is None:
            return self.options.precision == "bf16"
        if not self.loop.gains:
            return False
        learner = self.course.learner
        stillness.train(learner)
        batch, labels = self._batch()
        parts = zip(learner.members, batch.chunk(len(learner.members)), strict=True)
        equal = all(precision.equal(member, part, labels) for member, part in parts)
        return self.processes.mean([float(equal)]) == [1.0]

    def _precision(self) -> AbstractContextManager[None]:
        """Autocast for bf16; for fp32 nothing: entering one shows in a small step."""
        return precision.cast(self.device, bf16=True) if self.bf16 else nullcontext()

    def _check(self, losses: Losses) -> None:
        found = self.processes.mean([losses.total.item()] if losses.each is None else losses.each.tolist())
        self.losses = found
        until = self.course.phase.until
        self.enough = until is not None and max(found) < until
        self.soundness.check(found, losses, self.step)

    def _log(self, losses: Losses, norm: Tensor, images_per_second: float) -> None:
        terms = {name: value.mean().item() for name, value in losses.terms.items()}
        self.loop.reporter.show(terms)
        lr = self.stage.optimizer.param_groups[0]["lr"] if self.stage is not None else 0.0
        weights = self.course.learner.weights_now()
        measures = {name: value.item() for name, value in self.course.learner.measures().items()}
        self.loop.reporter.record(
            {**self._where(), "images_per_second": round(images_per_second, 1), "lr": lr,
             "grad_norm": norm.item(), "loss": sum(self.losses) / len(self.losses), "terms": terms}
            | ({} if losses.each is None else {"losses": self.losses})
            | ({"weights": weights} if weights else {})
            | ({"measures": measures} if measures else {})
        )  # fmt: skip

    def _where(self) -> dict[str, Any]:
        return {
            "level": self.course.level,
            "phase": self.course.title,
            "step": self.step,
            "seconds": round(self.elapsed, 3),
        }

    def _validate(self) -> None:
        """Measure the averaged weights on held-out raw images, and remember them when they are the best so far."""
        with self.looks.timed(self.step, self.elapsed):
            found, better = self.validation.look()
        self.loop.reporter.record({**self._where(), "val": found})
        self.enough = self.enough or self.validation.still
        if better:
            self._save(best=True)

    def _save(self, *, best: bool = False, alone: bool = False) -> None:
        """Leave a checkpoint; all processes come here together, unless one is alone because another is gone."""
        if self.loop.shelf is None:
            return
        own = randomness.state(self.device) | self.course.learner.random()
        states = [own] if alone else self.processes.gathered(own)
        if not self.processes.first:
            return
        facts = {
            "elapsed": self.elapsed, "bf16": self.bf16, "first_losses": self.soundness.first, "enough": self.enough,
            "looked": self.looks.last, "due": self.looks.due, "spent": asdict(self.spent),
            "history": self.loop.reporter.length(), **self.validation.facts(),
        }  # fmt: skip
        checkpoint = Checkpoint(self.course.number, self.step, facts=facts)
        checkpoint.put("stack", dict(self.loop.stack.state_dict()))
        checkpoint.put("average", self.average.state())
        checkpoint.put("best", self.validation.weights())
        for rank, state in enumerate(states):
            checkpoint.put(_random(rank), state)
        for player in self._players():
            checkpoint.put(f"optimizer/{player.name}", player.state())
        self.loop.shelf.save(checkpoint, best=best)

    def _restore(self, saved: Checkpoint) -> None:
        self.step, self.elapsed = saved.step, saved.facts["elapsed"]
        self.bf16, self.enough = saved.facts["bf16"], saved.facts["enough"]
        self.looks.last, self.looks.due = saved.facts.get("looked", self.step), saved.facts.get("due", self.elapsed)
        self.soundness.first = saved.facts["first_losses"]
        self.average.load(saved.section("average"))
        self.validation.load(saved.facts, saved.section("best"))
        for player in self._players():
            player.load(saved.section(f"optimizer/{player.name}"))
        if states := saved.section(_random(self.processes.rank)):
            randomness.restore(states, self.device)
            self.course.learner.put_random(states)
        else:  # of a run with fewer processes, or one that was left alone
            randomness.reseed(self._seed_apart(self.seeds[0]), self.device)
        saved.let_go()

    def _players(self) -> list[Any]:
        return [player for player in (self.stage, *self.critics) if player is not None]

    def _stop(self) -> None:
        self._save()
        shelf = self.loop.shelf
        how = "Nothing was saved: give out= to be able to go on." if shelf is None else (
            f"Everything is saved in {shelf.folder.parent}: the same command with --resume (resume=True) goes on."
        )  # fmt: skip
        raise InterruptedTrainingError(f"stopped in level {self.course.level} after {self.step} steps. {how}")


def _random(rank: int) -> str:
    """The section of a checkpoint with the random states of one process."""
    return f"random/{rank}"


@contextmanager
def _alone(stack: nn.Module, learning: list[nn.Parameter]) -> Iterator[None]:
    """Only these parameters take gradients while this lasts; everything else of the stack stays as it is."""
    learns = {id(parameter) for parameter in learning}
    others = [parameter for parameter in stack.parameters() if id(parameter) not in learns and parameter.requires_grad]
    _learning(others, on=False)
    try:
        yield
    finally:
        _learning(others, on=True)


def _learning(parameters: list[nn.Parameter], *, on: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(on)
