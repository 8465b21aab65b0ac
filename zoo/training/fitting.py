"""Fitting a stack: its levels in turn, each upper one on the cached codes of the frozen ones below."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate.accelerator import Accelerator

from zoo import codes, files
from zoo.cache.folder import held_if_free
from zoo.data import images
from zoo.data.augmentation import Augmented
from zoo.errors import DataError, SpecError, TrainingError
from zoo.training import precision, randomness, records
from zoo.training.checkpoints import Checkpoint, Shelf
from zoo.training.courses import Course
from zoo.training.interrupts import InterruptedTrainingError, listening
from zoo.training.loop import Loop
from zoo.training.material import Material
from zoo.training.objectives import HeadLearner, LevelInCodes, LevelInPixels, WholeStack
from zoo.training.options import DEFAULT_EPOCHS, Options
from zoo.training.progress import Reporter, trackers
from zoo.training.schedules import Spent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike

    from zoo.data import Images
    from zoo.interfaces import Head, Term
    from zoo.phases import Phase
    from zoo.stack import Stack
    from zoo.training.courses import Source
    from zoo.training.objectives import Learner

REFINE_RATE = 0.1
FINISHED_ELEMENTS = 2**24
"""Numbers of codes that a finished level's scale is measured on, at most: 4,096 codes of 8x8x64."""


def fit(
    stack: Stack,
    data: Any,
    *,
    out: str | PathLike[str] | None = None,
    val: Any = None,
    resume: bool | str = False,
    progress: bool = True,
    strict: bool = False,
    **options: Any,
) -> Stack:
    """Train a stack level by level, in place, and return it.

    Args:
        stack: fresh from ``zoo.build``, or trained before: then it trains on.
        data: what ``zoo.data.images`` takes: a name, a folder, a file, an array, tensors or a Dataset.
        out: a folder for the run: checkpoints, history and, at the end, the stack itself. Without it nothing is kept.
        val: images to choose the best weights by; a seeded 5 % of the training images where None.
        resume: go on with the run in ``out``: True or ``"last"`` from where it stopped, ``"best"`` from its best point.
        progress: show bars.
        strict: refuse data with unreadable files instead of passing over them.
        **options: see ``zoo.training.Options``.

    Raises:
        TrainingError: the loss is not finite or exploded, the user asked to stop, or the run to resume is another.
        DataError: the images cannot be read, or have no labels and the head learns by class.

    >>> import torch, zoo
    >>> stack = zoo.build("8x8x1/conv2x2x4(width=4)")
    >>> stack = zoo.fit(stack, torch.rand(64, 1, 8, 8), steps=2, progress=False)
    """
    chosen = _options(options)
    _check_terms(stack, chosen)
    train = images(data, stack.input_shape, split="train", strict=strict)
    held = None if val is None else images(val, stack.input_shape, split="val", strict=strict)
    _check_labels(stack, chosen, [train, *([] if held is None else [held])])
    material = Material.of(train, held, seed=chosen.seed)
    with ExitStack() as closing:
        where = Path(closing.enter_context(tempfile.TemporaryDirectory())) if out is None else Path(out)
        run = _Fit(stack, chosen, where, material, lasting=out is not None, visible=progress)
        if run.lasting and run.accelerator.is_main_process:
            closing.enter_context(_alone_in(where))
        closing.enter_context(randomness.apart(run.accelerator.device, chosen.seed % 2**32))
        run.interrupt = closing.enter_context(listening())
        run.go(resume)
    return stack


class _Fit:
    """One call of ``fit``."""

    def __init__(
        self, stack: Stack, options: Options, where: Path, material: Material, *, lasting: bool, visible: bool
    ) -> None:
        self.stack, self.options, self.where, self.material = stack, options, where, material
        self.lasting = lasting
        self.accelerator = Accelerator(log_with=[*trackers(lasting=lasting)] or None, project_dir=where / "logs")
        self.reporter = Reporter(where if lasting else None, self.accelerator, visible=visible)
        self.shelf = Shelf(where / "checkpoints") if lasting else None
        self.interrupt: Any = None
        self.gains: bool | None = None

    def go(self, resume: bool | str) -> None:
        """Every course of the plan, from the first that is not finished."""
        self.where.mkdir(parents=True, exist_ok=True)
        files.sweep(self.where)
        saved = self._resumed(resume)
        if self.lasting:
            self.accelerator.init_trackers("tensorboard")
        # From the start, and not level by level as they are trained: a level that was trained by a process before this
        # one has to lie in memory as it did there, or its convolutions round otherwise.
        self.stack.to(self.accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        loop = Loop(
            self.stack, self.options, accelerator=self.accelerator, reporter=self.reporter,
            shelf=self.shelf, interrupt=self.interrupt, gains=self._gains(),
        )  # fmt: skip
        if saved is not None:
            loop.spent = Spent(**saved.facts["spent"])
        for number, prepare in enumerate(self._plan()):
            if saved is not None and (number, not saved.finished) < (saved.course, True):
                continue
            course = prepare(number)
            if course is not None:
                steps = loop.run(course, saved if saved is not None and saved.course == number else None)
                self._finish(course, steps, loop.spent)
        self.stack.to("cpu").eval()
        if self.lasting:
            self.accelerator.end_training()  # type: ignore[no-untyped-call]
            self.reporter.say(f"saving the stack in {self.where}")
            self.stack.save(self.where)

    def _plan(self) -> Iterator[Callable[[int], Course | None]]:
        """The courses in order, each made when its turn comes: its codes need the levels below.

        They are the same when a run is resumed, so those that a level which trains on has no need of are None instead.
        """
        stack, levels = self.stack, range(1, len(self.stack.levels) + 1)
        for level in filter(self._learns, levels):
            first = [phase for term in stack.level(level).terms.values() for phase in cast("Term", term).phases()]
            phases = [*first, *stack.level(level).stage.phases()]
            for place, phase in enumerate(phases):
                share = phase.share / sum(other.share for other in phases[place:])
                opens, closes = place == 0, place == len(phases) - 1
                turn = partial(self._level, level=level, phase=phase, first=place < len(first))
                yield partial(turn, share=share, opens=opens, closes=closes)
        if self.options.refine and self.options.level is None:
            yield self._refinement
        if stack.head is not None and self._learns(len(levels) + 1):
            yield self._head  # last: it learns the codes that are there to stay

    def _learns(self, level: int) -> bool:
        """Whether it is this level's turn: the one that was asked for, else all but those that came finished."""
        return level == self.options.level if self.options.level else level > _finished(self.stack)

    def _level(self, number: int, *, level: int, phase: Phase, first: bool, **turn: Any) -> Course | None:
        if first and self.stack.level(level).trained:
            return None
        in_pixels = level > 1 and (phase.loss_in or self.options.loss_in) == "pixels"
        learner = (LevelInPixels if in_pixels else LevelInCodes)(self.stack, level, phase)
        source = self._images() if level == 1 or in_pixels else self._codes(level - 1)
        title = phase.name or ("pixels" if level == 1 or in_pixels else "codes")
        return Course(number, level, title, learner, source, self._validate, phase, **turn)

    def _head(self, number: int) -> Course:
        levels = len(self.stack.levels)
        loss_in = cast("Head", self.stack.head).loss_in or self.options.loss_in
        source = self._images() if loss_in == "pixels" or not levels else self._codes(levels)
        learner = HeadLearner(self.stack, loss_in)
        return Course(number, levels + 1, loss_in, learner, source, self._validate, closes=False)

    def _refinement(self, number: int) -> Course:
        """Everything end to end. Nothing is prepared again, and only the top level's scale is measured anew."""
        learner = WholeStack(self.stack)
        return Course(
            number, learner.number, "refine", learner, self._images(), self._validate, scale=REFINE_RATE, opens=False
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
            found = codes.encode(self.stack, train, levels=levels, coding=coding, tick=tick, say=self.reporter.say)
        finally:
            self.reporter.stop()
        return found if self.material.places is None else found.subset(self.material.places)

    def _validate(self, learner: Learner) -> dict[str, float]:
        """The learner's loss on held-out raw images, and the squared error of what comes back of them."""
        loss = error = 0.0
        pixels: float | None = None
        size = max(2, min(250, self.options.batch_size * 4))
        every = self.material.held.labels if learner.labelled else None
        for start in range(0, len(self.material.held), size):
            x = self.material.held.batch(slice(start, start + size)).to(self.accelerator.device)
            labels = None if every is None else every[start : start + size].to(x.device)
            loss += learner(learner.from_images(x), labels).total.item() * len(x)
            x_hat = learner.reconstruct(x)
            if x_hat is not None:
                error += (x_hat - x).square().mean().item() * len(x)
                pixels = error
        count = len(self.material.held)
        return {"loss": loss / count} | ({} if pixels is None else {"mse": pixels / count})

    @torch.inference_mode()
    def _finish(self, course: Course, steps: int, spent: Spent) -> None:
        """Bring a finished level's codes to unit scale, and record that the course is over."""
        if course.closes:
            level, kept = self.stack.level(course.level), self.material.kept
            size = torch.Size(level.code_shape).numel()
            order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(self.options.seed))
            few = kept.subset(order[: max(2, min(len(kept), FINISHED_ELEMENTS // size))])
            batches = (few.batch(slice(start, start + 250)) for start in range(0, len(few), 250))
            level.finish(self.stack.posterior(x.to(self.stack.device), course.level) for x in batches)
        if self.shelf is not None and self.accelerator.is_main_process:
            facts = {"history": self.reporter.length(), "spent": asdict(spent)}
            done = Checkpoint(course.number, steps, finished=True, facts=facts)
            done.put("stack", dict(self.stack.state_dict()))
            self.shelf.save(done)

    def _resumed(self, resume: bool | str) -> Checkpoint | None:
        """The checkpoint to go on from, put into the stack; None where there is none yet."""
        now = records.describe(self.stack, self.options, self.material)
        if not resume:
            if self.shelf is not None and self.shelf.load("last") is not None:
                raise TrainingError(f"{self.where} holds a run already: resume it (--resume), or choose another folder")
            if self.shelf is not None:
                self.shelf.forget_after(None)
            files.write_json(self.where / records.RUN, {**now, "gains": self._gains()})
            self.reporter.cut(0)
            return None
        then = records.read(self.where)
        self.gains = then.get("gains")
        saved = (
            None if self.shelf is None else self.shelf.load("best" if resume == "best" else "last", self.reporter.warn)
        )
        if saved is None and resume == "best":
            raise TrainingError(f"{self.where} has no best checkpoint yet: resume from the last (--resume alone)")
        records.compare(then, now, self.where, begun=saved is not None, warn=self.reporter.warn)
        if saved is not None:
            try:
                self.stack.load_state_dict(saved.section("stack"))
            except RuntimeError as error:
                raise TrainingError(
                    f"the checkpoint in {self.where} does not fit this stack; it may be of another version of the zoo "
                    f"or of a plugin. Start in another folder. ({error})"
                ) from error
        if self.shelf is not None:
            self.shelf.forget_after(saved)
        self.reporter.cut(0 if saved is None else saved.facts["history"])  # what the run will write again
        return saved

    def _gains(self) -> bool:
        """Whether bf16 gains, asked once a run: a busy machine may answer differently when the run is resumed."""
        if self.gains is None:
            self.gains = self.options.precision == "auto" and precision.gains(self.accelerator.device)
        return self.gains


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let no other process train in this folder while this one does."""
    with held_if_free(f"run-{sha256(str(folder.resolve()).encode()).hexdigest()[:24]}") as free:
        if not free:
            raise TrainingError(f"another process is training in {folder}: wait until it is done, or choose another")
        yield


def _options(options: dict[str, Any]) -> Options:
    known = Options.__dataclass_fields__
    for name in options:
        if name not in known:
            raise TrainingError(f"fit has no option {name!r}; there are: {', '.join(known)}")
    if all(options.get(name) is None for name in ("epochs", "steps", "minutes")):
        options = {**options, "epochs": DEFAULT_EPOCHS}
    return Options(**options)


def _finished(stack: Stack) -> int:
    """How many levels were brought by the sentence, trained already."""
    return 0 if stack.brought is None else stack.brought.levels


def _check_labels(stack: Stack, options: Options, shown: list[Images]) -> None:
    """Say now, not when the levels below are trained, that a head learns by class and there are no classes."""
    if stack.head is None or not stack.head.labelled or options.level not in (None, len(stack.levels) + 1):
        return
    for unlabelled in (part.name for part in shown if part.labels is None):
        raise DataError(
            f"{stack.spec.levels[-1]} learns by class, and {unlabelled} has no labels: take data that has, as images "
            "with a folder for each class, or leave out classes=true"
        )


def _check_terms(stack: Stack, options: Options) -> None:
    parts = len(stack.levels) + (stack.head is not None)
    if options.level is not None and not 1 <= options.level <= parts:
        raise TrainingError(f"level {options.level}: {stack.spec} has levels 1 to {parts}")
    if options.level is None and not options.refine and _finished(stack) == parts:
        raise TrainingError(
            f"every level of {stack.spec} came trained, so nothing is left to train: put a level on top, or name one "
            "to train on (--level 1, level=1)"
        )
    upper = stack.head is not None
    for number, level in reversed([*enumerate(stack.lower(), 1)]):
        if upper and options.codes == "moments" and level.stage.place.posterior == "point":
            raise SpecError(
                f"level {number}, {stack.spec.levels[number - 1]}, has one code for each image and no posterior to "
                "draw from: leave the levels above on its means, or give it a regularizer with a posterior, as in '+kl'"
            )
        upper = True
        for name, term in level.terms.items():
            on_codes = number > 1 and options.loss_in == "codes"
            if on_codes and getattr(term, "needs_pixels", False):
                raise SpecError(f"{name} on level {number} reads pixels: add --loss-in pixels (loss_in='pixels')")
