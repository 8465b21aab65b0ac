"""A run: one call of ``fit``, from its first course to the saved stack, with checkpoints and records on the way."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from accelerate.accelerator import Accelerator
from accelerate.utils.dataclasses import InitProcessGroupKwargs

from zoo import files
from zoo.codes import Codes
from zoo.errors import TrainingError
from zoo.layout import channels_last
from zoo.training import precision, records
from zoo.training.checkpoints import Checkpoint, Shelf
from zoo.training.growing import Growing, growing
from zoo.training.interrupts import InterruptedTrainingError
from zoo.training.loop import Loop
from zoo.training.members import Members, Stacks
from zoo.training.options import AUTO
from zoo.training.plan import Plan
from zoo.training.processes import PATIENCE, Processes, check_gpus, several_on_cpus
from zoo.training.progress import Reporter, trackers
from zoo.training.rates import Sweep, can_be_swept, sweep
from zoo.training.schedules import Spent
from zoo.training.together import Together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from zoo.data import Images
    from zoo.posterior import Posterior
    from zoo.stack import Stack
    from zoo.training.courses import Course
    from zoo.training.material import Material
    from zoo.training.options import Options

FINISHED_ELEMENTS = 2**24
"""Numbers of codes that a finished level's scale is measured on, at most: 4,096 codes of 8x8x64."""
FINISHED_AT_ONCE = 250


class Run:
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
            cpu=several_on_cpus(),
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
            log_with=[*trackers(lasting=lasting)] or None,
            project_dir=where / "logs",
        )
        check_gpus(self.accelerator.device)
        self.reporter = Reporter(where if lasting else None, self.accelerator, visible=visible)
        self.shelf = Shelf(where / "checkpoints") if lasting else None
        self.processes = Processes.of(self.accelerator)
        if options.batch_size % self.processes.count:
            raise TrainingError(
                f"a batch of {options.batch_size} cannot be shared out among {self.processes.count} processes: "
                "take a batch size that they divide"
            )
        if len(material.kept) < self.processes.count:
            raise TrainingError(
                f"{len(material.kept)} images cannot be shared out among {self.processes.count} processes: start fewer"
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
        try:
            with growing(self.stack, self.options.progressive) as self.growing:
                self._place()
                self.processes.same(self.whole)
                self._learn(self._resumed(resume))
        finally:
            # As a stack that is loaded lies: what was trained then computes bit for bit what is loaded of it later.
            self.whole.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
        if self.lasting:
            for tracker in self.accelerator.trackers:  # not end_training, after which no other stack could be trained
                tracker.finish()
            for stack, folder in zip(self.stacks, self._folders() if self.processes.first else [], strict=False):
                self.reporter.say(f"saving the stack in {folder}")
                stack.save(folder)
        self.processes.wait()  # what comes next may load it, in all of them

    def _place(self) -> None:
        """Put all of it where it is trained, in the order of memory that it has there; what learns goes to train mode.

        Before anything else: nothing that lies on a CPU can be sent between GPUs. And not level by level as they are
        trained: a level that was trained by a process before this one has to lie in memory as it did there, or its
        convolutions round otherwise.
        """
        channels_last(self.whole.eval(), self.accelerator.device)

    def _learn(self, saved: Checkpoint | None) -> None:
        """The courses, from where a checkpoint stands."""
        for stack in self.stacks:
            stack.report = None  # it tells of the weights that came in
        if self.lasting:
            self.accelerator.init_trackers("tensorboard")
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
                files.write_json(self.where / files.RUN, run)
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
        """Sweep the first course of the plan that can be, on a level prepared for it.

        Courses before it, phases of losses on codes alone, are passed over.
        """
        with growing(self.stack, self.options.progressive) as self.growing:
            self._place()
            loop = self._loop()
            for number, prepare in enumerate(self._plan()):
                course = prepare(number)
                if course is not None and can_be_swept(course):
                    return self._swept(loop, replace(course, opens=True), **how)
        raise TrainingError(
            f"level {self.options.level} of {self.stack.spec} has nothing that learns by a rate, or learns against "
            "an adversary, whose loss says nothing about how well it learns"
        )

    def _loop(self) -> Loop:
        return Loop(
            self.whole, self.options, accelerator=self.accelerator, reporter=self.reporter,
            shelf=self.shelf, interrupt=self.interrupt, gains=self._gains(),
        )  # fmt: skip

    def _plan(self) -> Plan:
        return Plan(
            self.stacks, self.members, self.options, self.material, self.growing, self.processes, self.reporter,
            self.interrupt, self.lasting,
        )  # fmt: skip

    def _folders(self) -> list[Path]:
        if self.members is None:
            return [self.where]
        return [self.where / str(number) for number in range(1, len(self.stacks) + 1)]

    @torch.inference_mode()
    def _finish(self, course: Course, steps: int, spent: Spent) -> None:
        """Bring a finished level's codes to unit scale, and record that the course is over."""
        if course.closes:
            for place, stack in enumerate(self.stacks):
                self._scale(stack, course, self.options.seed if course.seeds is None else course.seeds[place])
            self.processes.same(self.whole)
        if self.shelf is not None and self.accelerator.is_main_process:
            facts = {"history": self.reporter.length(), "spent": asdict(spent)}
            done = Checkpoint(course.number, steps, finished=True, facts=facts)
            done.put("stack", dict(self.whole.state_dict()))
            self.shelf.save(done)

    def _scale(self, stack: Stack, course: Course, seed: int) -> None:
        """Bring a finished level's codes to unit scale: of the cached codes that it learned from, or of the images."""
        level = stack.level(course.level)
        seen: Images | Codes = self.material.kept
        encode: Callable[[Tensor], Posterior] = partial(stack.posterior, levels=course.level)
        if isinstance(course.source, Codes) and self.options.coding.plain:
            seen, encode = course.source, level.encode
        size = torch.Size(level.code_shape).numel()
        order = torch.randperm(len(seen), generator=torch.Generator().manual_seed(seed), device="cpu")
        rows = order[: max(2, min(len(seen), FINISHED_ELEMENTS // size))]
        level.finish(encode(seen.batch(part).to(stack.device)) for part in rows.split(FINISHED_AT_ONCE))

    def _resumed(self, resume: bool | str) -> Checkpoint | None:
        """The checkpoint to go on from, put into the stack; None where there is none yet."""
        device = self.accelerator.device
        now = records.describe(self.stacks, self.options, self.material, self.members, device=device)
        if not resume:
            if self.shelf is not None and self.shelf.begun:
                raise TrainingError(f"{self.where} holds a run already: resume it (--resume), or choose another folder")
            for folder in self._folders() if self.lasting else []:
                files.check_room(folder)  # now, and not when all is learned
            gains = self._gains()
            self.processes.wait()  # until everybody has looked
            if self.processes.first:
                if self.shelf is not None:
                    self.shelf.forget_after(None)
                files.write_json(self.where / files.RUN, {**now, "gains": gains})
                self.reporter.cut(0)
            return None
        then = records.read(self.where)
        self.gains, self.found = then.get("gains"), then.get(records.RATES, {})
        saved = self._saved(resume)
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
        if saved is not None and saved.finished:
            saved.let_go()  # of a course under way the loop still wants more
        return saved

    def _saved(self, resume: bool | str) -> Checkpoint | None:
        """The best checkpoint where that is asked for, or where a run was killed before there was another."""
        if self.shelf is None:
            return None
        if resume != "best":
            return self.shelf.load("last", self.reporter.warn) or self.shelf.load("best")
        best = self.shelf.load("best")
        if best is not None and best.course < self.shelf.course:
            self.reporter.warn(
                f"the best checkpoint of {self.where} is of a course before the one under way, which begins again"
            )
        return best

    def _gains(self) -> bool:
        """Whether bf16 gains, asked once a run: a busy machine may answer differently when the run is resumed."""
        if self.gains is None:
            gains = self.options.precision == "auto" and precision.gains(self.accelerator.device)
            self.gains = self.processes.mean([float(gains)]) == [1.0]  # all of them, or none
        return self.gains
