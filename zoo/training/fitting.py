"""Fitting a stack: its levels in turn, each upper one on the cached codes of the frozen ones below."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate.accelerator import Accelerator

from zoo import builder, codes, files
from zoo.cache.folder import held_if_free
from zoo.data import images
from zoo.data.augmentation import Augmented
from zoo.errors import DataError, SpecError, TrainingError
from zoo.training import precision, randomness, records
from zoo.training.checkpoints import Checkpoint, Shelf
from zoo.training.courses import Course
from zoo.training.growing import Growing, growing
from zoo.training.interrupts import InterruptedTrainingError, listening
from zoo.training.loop import Loop
from zoo.training.material import Material
from zoo.training.members import Members, Stacks, check_together
from zoo.training.objectives import HeadLearner, LevelInCodes, LevelInPixels, WholeStack
from zoo.training.options import AUTO, DEFAULT_EPOCHS, Options
from zoo.training.processes import Processes, several_on_cpus
from zoo.training.progress import Reporter, trackers
from zoo.training.rates import SPAN, STEPS, Sweep, can_be_swept, sweep
from zoo.training.schedules import Spent
from zoo.training.together import Together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
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
    material = Material.of(train, held, seed=chosen.seed, fold=chosen.folds)
    _carry_out([stack], chosen, material, out=out, resume=resume, progress=progress)
    return stack


def fit_together(
    stacks: Sequence[Stack],
    data: Any,
    *,
    seeds: Sequence[int] | None = None,
    rates: Sequence[float] | None = None,
    out: str | PathLike[str] | None = None,
    val: Any = None,
    resume: bool | str = False,
    progress: bool = True,
    strict: bool = False,
    **options: Any,
) -> list[Stack]:
    """Train the top levels of several stacks at once, in place, and return the stacks.

    The levels have one shape and stand on the same trained levels, or on pixels. Only the weights of their terms may
    differ, and what is given here for each: a seed and a learning rate. Each comes to what ``fit`` with ``level=`` its
    number, its seed and its rate would have come to, as far as a batched product rounds like a single one; what it is
    worth on a machine, ``python -m benchmarks together`` tells.

    Args:
        stacks: fresh from ``zoo.build``, or trained before.
        data: what ``zoo.data.images`` takes.
        seeds: of each, for order and draws; those of ``options`` and the numbers after it unless given.
        rates: the highest learning rate of each; ``lr`` for all unless given.
        out: a folder for the run. The stacks are saved in ``1``, ``2`` and so on in it.
        val: images to choose the best weights by; a seeded 5 % of the training images, the same for all, where None.
        resume: go on with the run in ``out``.
        progress: show bars.
        strict: refuse data with unreadable files instead of passing over them.
        **options: see ``zoo.training.Options``, without ``level`` and ``compile``.

    Raises:
        TrainingError: the stacks cannot learn at once; or what ``fit`` says.
        DataError: the images cannot be read.

    >>> import torch, zoo
    >>> stacks = [zoo.build(f"8x8x1/fc2+kl({weight})") for weight in (0.5, 1, 2)]
    >>> stacks = zoo.fit_together(stacks, torch.rand(64, 1, 8, 8), steps=2, progress=False)
    """
    chosen = check_together(stacks, _options(options))
    train = images(data, stacks[0].input_shape, split="train", strict=strict)
    held = None if val is None else images(val, stacks[0].input_shape, split="val", strict=strict)
    material = Material.of(train, held, seed=chosen.seed, fold=chosen.folds)
    members = Members.of(len(stacks), chosen, seeds, rates)
    _carry_out(stacks, chosen, material, members=members, out=out, resume=resume, progress=progress)
    return [*stacks]


def find_lr(
    stack: Stack | str,
    data: Any,
    *,
    level: int | None = None,
    steps: int = STEPS,
    span: tuple[float, float] = SPAN,
    progress: bool = True,
    strict: bool = False,
    **options: Any,
) -> Sweep:
    """Look what one level's loss does while the learning rate rises, and suggest a rate; the stack stays as it is.

    Args:
        stack: or the sentence of one. Levels below the one that is swept have to be trained.
        data: what ``zoo.data.images`` takes.
        level: which one; the first that is not trained, else the top one, where None.
        steps: of the sweep, which passes twice over its batches.
        span: the lowest and the highest rate.
        progress: show bars.
        strict: refuse data with unreadable files instead of passing over them.
        **options: see ``zoo.training.Options``: the batch size, the optimiser and so on.

    Raises:
        TrainingError: a level below is not trained, or the level does not learn by a rate.
        DataError: the images cannot be read.

    >>> import torch, zoo
    >>> found = zoo.find_lr("8x8x1/fc4(hidden=[16])", torch.rand(640, 1, 8, 8), steps=20, progress=False)
    >>> sorted(found.suggestions), found.suggested == found.suggestions["edge"]
    (['edge', 'minimum', 'steep', 'valley'], True)
    """
    stack = builder.build(stack, seed=options.get("seed", 0)) if isinstance(stack, str) else stack
    chosen = replace(_options(options), level=_swept_level(stack, level))
    _check_terms(stack, chosen)
    train = images(data, stack.input_shape, split="train", strict=strict)
    _check_labels(stack, chosen, [train])
    material = Material.of(train, None, seed=chosen.seed)
    device, modes = stack.device, {module: module.training for module in stack.modules()}
    with ExitStack() as closing:
        where = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        run = _Fit([stack], None, chosen, where, material, lasting=False, visible=progress)
        closing.enter_context(randomness.apart(run.accelerator.device, chosen.seed % 2**32))
        run.interrupt = closing.enter_context(listening())
        found = run.look(steps=steps, span=span)
    stack.to(device)
    for module, training in modes.items():
        module.training = training
    return found


def _carry_out(
    stacks: Sequence[Stack],
    options: Options,
    material: Material,
    *,
    members: Members | None = None,
    out: str | PathLike[str] | None,
    resume: bool | str,
    progress: bool,
) -> None:
    with ExitStack() as closing:
        where = Path(closing.enter_context(tempfile.TemporaryDirectory())) if out is None else Path(out)
        run = _Fit(stacks, members, options, where, material, lasting=out is not None, visible=progress)
        if run.lasting and run.accelerator.is_main_process:
            closing.enter_context(_alone_in(where))
        closing.enter_context(randomness.apart(run.accelerator.device, options.seed % 2**32))
        run.interrupt = closing.enter_context(listening())
        run.go(resume)


class _Fit:
    """One call of ``fit``, or of ``fit_together``.

    Args:
        stacks: what is trained. What is below their top levels is the same in all of them.
        members: what differs, where there are several.
        options: how to train.
        where: the run's folder.
        material: the images.
        lasting: keep what is in the folder.
        visible: show bars.
    """

    def __init__(
        self,
        stacks: Sequence[Stack],
        members: Members | None,
        options: Options,
        where: Path,
        material: Material,
        *,
        lasting: bool,
        visible: bool,
    ) -> None:
        self.stacks, self.members, self.stack = stacks, members, stacks[0]
        self.whole = self.stack if members is None else Stacks(stacks)
        self.options, self.where, self.material = options, where, material
        self.lasting = lasting
        self.accelerator = Accelerator(
            cpu=several_on_cpus(), log_with=[*trackers(lasting=lasting)] or None, project_dir=where / "logs"
        )
        self.reporter = Reporter(where if lasting else None, self.accelerator, visible=visible)
        self.shelf = Shelf(where / "checkpoints") if lasting else None
        self.processes = Processes.of(self.accelerator)
        if options.batch_size % self.processes.count:
            raise TrainingError(
                f"a batch of {options.batch_size} cannot be shared out among {self.processes.count} processes: "
                "take a batch size that they divide"
            )
        self.interrupt: Any = None
        self.gains: bool | None = None
        self.growing: Growing | None = None
        self.found: dict[str, dict[str, float]] = {}
        """The learning rates that were found, by level: the one that is taken, and what else was suggested."""

    def go(self, resume: bool | str) -> None:
        """Every course of the plan, from the first that is not finished."""
        if self.processes.first:
            self.where.mkdir(parents=True, exist_ok=True)
            files.sweep(self.where)
        with growing(self.stack, self.options.progressive) as self.growing:
            self.processes.same(self.whole)
            self._learn(self._resumed(resume))
        self.whole.to("cpu").eval()
        if self.lasting:
            for tracker in self.accelerator.trackers:  # not end_training, after which no other stack could be trained
                tracker.finish()
            for stack, folder in zip(self.stacks, self._folders() if self.processes.first else [], strict=False):
                self.reporter.say(f"saving the stack in {folder}")
                stack.save(folder)

    def _learn(self, saved: Checkpoint | None) -> None:
        """The courses, from where a checkpoint stands."""
        if self.lasting:
            self.accelerator.init_trackers("tensorboard")
        # From the start, and not level by level as they are trained: a level that was trained by a process before this
        # one has to lie in memory as it did there, or its convolutions round otherwise.
        self.whole.to(self.accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        loop = self._loop()
        if saved is not None:
            loop.spent = Spent(**saved.facts["spent"])
        for number, prepare in enumerate(self._plan()):
            if saved is not None and (number, not saved.finished) < (saved.course, True):
                continue
            course = prepare(number)
            if course is not None:
                loop.options = replace(self.options, lr=self._rate(loop, course))
                steps = loop.run(course, saved if saved is not None and saved.course == number else None)
                if isinstance(course.learner, Together):
                    course.learner.release()
                self._finish(course, steps, loop.spent)

    def _rate(self, loop: Loop, course: Course) -> float:
        """The highest rate of a course: that of the run, or its level's own, found before its first course with terms.

        What was found is written down, so that a run which is resumed takes the same.
        """
        level = str(course.level)
        if self.options.lr != AUTO or (level not in self.found and not can_be_swept(course)):
            return self.options.rate
        if level not in self.found:
            found = self._swept(loop, course)
            self.found[level] = {AUTO: found.suggested, **found.suggestions}
            self.reporter.say(f"level {level}: a learning rate of {found.suggested:.2g}, as a sweep suggests")
            if self.lasting and self.accelerator.is_main_process:
                run = {**records.read(self.where), records.RATES: self.found}
                files.write_json(self.where / records.RUN, run)
        return self.found[level][AUTO]

    def _swept(self, loop: Loop, course: Course, **how: Any) -> Sweep:
        try:
            return sweep(loop, course, **how)
        except InterruptedTrainingError as stopped:
            kept = " The same command with --resume (resume=True) goes on." * self.lasting
            raise InterruptedTrainingError(
                f"stopped while looking for the learning rate of level {course.level}.{kept}"
            ) from stopped

    def look(self, **how: Any) -> Sweep:
        """Sweep the first course of the plan that can be."""
        self.whole.to(self.accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        loop = self._loop()
        for number, prepare in enumerate(self._plan()):
            course = prepare(number)
            if course is not None and can_be_swept(course):
                return self._swept(loop, course, **how)
        raise TrainingError(
            f"level {self.options.level} of {self.stack.spec} has nothing that learns by a rate, or learns against "
            "an adversary, whose loss says nothing about how well it learns"
        )

    def _loop(self) -> Loop:
        return Loop(
            self.whole, self.options, accelerator=self.accelerator, reporter=self.reporter,
            shelf=self.shelf, interrupt=self.interrupt, gains=self._gains(),
        )  # fmt: skip

    def _folders(self) -> list[Path]:
        if self.members is None:
            return [self.where]
        return [self.where / str(number) for number in range(1, len(self.stacks) + 1)]

    def _plan(self) -> Iterator[Callable[[int], Course | None]]:
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
        kind = LevelInPixels if in_pixels else LevelInCodes
        learners = [kind(stack, level, phase) for stack in self.stacks]
        for learner in learners:
            learner.corruption = self.options.corruption if level == 1 or in_pixels else None
        source = self._images() if level == 1 or in_pixels else self._codes(level - 1)
        title = phase.name or ("pixels" if level == 1 or in_pixels else "codes")
        if self.members is None:
            return Course(number, level, title, learners[0], source, self._validate, phase, **turn)
        turn |= {"seeds": self.members.seeds, "factors": self.members.factors}
        return Course(number, level, title, Together(learners), source, self._validate, phase, **turn)

    def _head(self, number: int) -> Course:
        levels = len(self.stack.levels)
        loss_in = cast("Head", self.stack.head).loss_in or self.options.loss_in
        source = self._images() if loss_in == "pixels" or not levels else self._codes(levels)
        learner = HeadLearner(self.stack, loss_in)
        return Course(number, levels + 1, loss_in, learner, source, self._validate, closes=False)

    def _refinement(self, number: int) -> Course:
        """Everything end to end. Nothing is prepared again, and only the top level's scale is measured anew."""
        learner = WholeStack(self.stack)
        learner.corruption = self.options.corruption
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
            found = codes.encode(
                self.stack, train, levels=levels, coding=coding, tick=tick, say=self.reporter.say, among=self.processes
            )
        finally:
            self.reporter.stop()
        return found if self.material.places is None else found.subset(self.material.places)

    def _validate(self, learner: Learner) -> dict[str, float]:
        """The learner's loss on held-out raw images, and the squared error of what comes back of them."""
        loss = error = 0.0
        pixels: float | None = None
        size = max(2, min(250, self.options.batch_size * 4))
        every = self.material.held.labels if learner.labelled else None
        count = len(self.material.held)
        for start in range(self.processes.rank * size, count, size * self.processes.count):
            x = self.material.held.batch(slice(start, start + size)).to(self.accelerator.device)
            labels = None if every is None else every[start : start + size].to(x.device)
            loss += learner(learner.from_images(x), labels).total.item() * len(x)
            x_hat = learner.reconstruct(x)
            if x_hat is not None:
                if start == 0:
                    self.reporter.keep(x, x_hat)
                error += (x_hat - x).square().mean().item() * len(x)
                pixels = error
        loss, error, some = self.processes.total([loss, error, float(pixels is not None)])
        return {"loss": loss / count} | ({"mse": error / count} if some else {})

    @torch.inference_mode()
    def _finish(self, course: Course, steps: int, spent: Spent) -> None:
        """Bring a finished level's codes to unit scale, and record that the course is over."""
        if course.closes:
            for place, stack in enumerate(self.stacks):
                self._scale(stack, course.level, self.options.seed if course.seeds is None else course.seeds[place])
            self.processes.same(self.whole)
        if self.shelf is not None and self.accelerator.is_main_process:
            facts = {"history": self.reporter.length(), "spent": asdict(spent)}
            done = Checkpoint(course.number, steps, finished=True, facts=facts)
            done.put("stack", dict(self.whole.state_dict()))
            self.shelf.save(done)

    def _scale(self, stack: Stack, number: int, seed: int) -> None:
        """Bring a finished level's codes to unit scale."""
        level, kept = stack.level(number), self.material.kept
        size = torch.Size(level.code_shape).numel()
        order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(seed))
        few = kept.subset(order[: max(2, min(len(kept), FINISHED_ELEMENTS // size))])
        batches = (few.batch(slice(start, start + 250)) for start in range(0, len(few), 250))
        level.finish(stack.posterior(x.to(stack.device), number) for x in batches)

    def _resumed(self, resume: bool | str) -> Checkpoint | None:
        """The checkpoint to go on from, put into the stack; None where there is none yet."""
        now = records.describe(self.stacks, self.options, self.material, self.members)
        if not resume:
            if self.shelf is not None and self.shelf.load("last") is not None:
                raise TrainingError(f"{self.where} holds a run already: resume it (--resume), or choose another folder")
            gains = self._gains()
            self.processes.wait()  # until everybody has looked
            if self.processes.first:
                if self.shelf is not None:
                    self.shelf.forget_after(None)
                files.write_json(self.where / records.RUN, {**now, "gains": gains})
                self.reporter.cut(0)
            return None
        then = records.read(self.where)
        self.gains, self.found = then.get("gains"), then.get(records.RATES, {})
        saved = (
            None if self.shelf is None else self.shelf.load("best" if resume == "best" else "last", self.reporter.warn)
        )
        if saved is None and resume == "best":
            raise TrainingError(f"{self.where} has no best checkpoint yet: resume from the last (--resume alone)")
        records.compare(then, now, self.where, begun=saved is not None, warn=self.reporter.warn)
        if saved is not None:
            try:
                self.whole.load_state_dict(saved.section("stack"))
            except RuntimeError as error:
                raise TrainingError(
                    f"the checkpoint in {self.where} does not fit this stack; it may be of another version of the zoo "
                    f"or of a plugin. Start in another folder. ({error})"
                ) from error
        self.processes.wait()  # until everybody has read
        if self.processes.first:
            if self.shelf is not None:
                self.shelf.forget_after(saved)
            self.reporter.cut(0 if saved is None else saved.facts["history"])  # what the run will write again
        return saved

    def _gains(self) -> bool:
        """Whether bf16 gains, asked once a run: a busy machine may answer differently when the run is resumed."""
        if self.gains is None:
            gains = self.options.precision == "auto" and precision.gains(self.accelerator.device)
            self.gains = self.processes.mean([float(gains)]) == [1.0]  # all of them, or none
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


def _swept_level(stack: Stack, level: int | None) -> int:
    """The level that is swept: the one that is named, else the first that is not trained, else the top one."""
    trained = [bool(part.trained) for part in stack.lower()]
    top = len(trained) + (stack.head is not None)
    level = level or (trained.index(False) + 1 if False in trained else top)
    if not all(trained[: level - 1]):
        raise TrainingError(
            f"level {level} learns from the codes of those below, and level {trained.index(False) + 1} is not trained: "
            "train it first, or leave out level"
        )
    return level


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
    if options.progressive and options.level not in (None, 1):
        raise TrainingError(f"progressive: only level 1 learns from images that grow, not level {options.level}")
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
