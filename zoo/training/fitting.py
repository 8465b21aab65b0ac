"""What people call: fitting a stack, several at once, and looking for a learning rate."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from zoo import builder, files
from zoo.arithmetic import repeatable
from zoo.cache.folder import held_if_free, is_read_only
from zoo.data import images
from zoo.errors import FileError, TrainingError
from zoo.stack import Stack
from zoo.training import precision, randomness
from zoo.training.checks import check_below, check_labels, check_levels, chosen, swept_level
from zoo.training.interrupts import listening
from zoo.training.material import Material
from zoo.training.members import Members, check_together
from zoo.training.rates import SPAN, STEPS, Sweep
from zoo.training.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from os import PathLike

    from zoo.training.options import Options


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
    if not isinstance(stack, Stack):
        raise TrainingError(f"fit takes a stack, of zoo.build(spec) or zoo.load(folder), not a {type(stack).__name__}")
    asked = chosen(options)
    check_levels(stack, asked)
    if asked.level is not None and not resume:  # of a run that is resumed, the levels below lie in its checkpoint
        check_below(stack, asked.level)
    train = images(data, stack.input_shape, split="train", strict=strict)
    held = None if val is None else images(val, stack.input_shape, split="val", strict=strict)
    check_labels(stack, asked, [train, *([] if held is None else [held])])
    material = Material.of(train, held, seed=asked.seed, fold=asked.folds)
    _carry_out([stack], asked, material, out=out, resume=resume, progress=progress)
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
    number, its seed, its rate and the same ``val`` would have come to, as far as a batched product rounds like a
    single one, and but for draws before a batch is there (``augment``, ``views``, ``codes="moments"``), which all
    share; what it is worth on a machine, ``python -m benchmarks together`` tells.

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
    asked = check_together(stacks, chosen(options))
    for stack in stacks:
        check_levels(stack, asked)
    train = images(data, stacks[0].input_shape, split="train", strict=strict)
    held = None if val is None else images(val, stacks[0].input_shape, split="val", strict=strict)
    material = Material.of(train, held, seed=asked.seed, fold=asked.folds)
    members = Members.of(len(stacks), asked, seeds, rates)
    _carry_out(stacks, asked, material, members=members, out=out, resume=resume, progress=progress)
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
        stack: or the spec of one. Levels below the one that is swept have to be trained.
        data: what ``zoo.data.images`` takes.
        level: which one; the first that is not trained, else the top one, where None.
        steps: of the sweep, which passes twice over its batches.
        span: the lowest and the highest rate.
        progress: show bars.
        strict: refuse data with unreadable files instead of passing over them.
        **options: see ``zoo.training.Options``: the batch size, the optimiser and so on.

    Raises:
        TrainingError: a level below is not trained, the level does not learn by a rate, or ``refine`` is given.
        DataError: the images cannot be read.

    >>> import torch, zoo
    >>> found = zoo.find_lr("8x8x1/fc4(hidden=[16])", torch.rand(640, 1, 8, 8), steps=20, progress=False)
    >>> sorted(found.suggestions), found.suggested == found.suggestions["edge"]
    (['edge', 'minimum', 'steep', 'valley'], True)
    """
    stack = builder.build(stack, seed=options.get("seed", 0)) if isinstance(stack, str) else stack
    asked = replace(chosen(options), level=swept_level(stack, level))
    if asked.refine:
        raise TrainingError("refine trains all levels at once, and a sweep is of one: leave out refine")
    check_levels(stack, asked)
    train = images(data, stack.input_shape, split="train", strict=strict)
    check_labels(stack, asked, [train])
    material = Material.of(train, None, seed=asked.seed)
    device, modes = stack.device, {module: module.training for module in stack.modules()}
    try:
        with ExitStack() as closing:
            where = Path(closing.enter_context(tempfile.TemporaryDirectory()))
            run = Run([stack], None, asked, where, material, lasting=False, visible=progress)
            closing.enter_context(randomness.apart(run.accelerator.device, asked.seed % 2**32))
            closing.enter_context(repeatable())
            closing.enter_context(precision.cast(run.accelerator.device, bf16=False))
            run.interrupt = closing.enter_context(listening())
            return run.look(steps=steps, span=span)
    finally:
        stack.to(device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        for module, training in modes.items():
            module.training = training


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
        where = Path(closing.enter_context(tempfile.TemporaryDirectory())) if out is None else files.expanded(out)
        run = Run(stacks, members, options, where, material, lasting=out is not None, visible=progress)
        if run.lasting and run.accelerator.is_main_process:
            closing.enter_context(_alone_in(where))
        closing.enter_context(randomness.apart(run.accelerator.device, options.seed % 2**32))
        closing.enter_context(repeatable())
        closing.enter_context(precision.cast(run.accelerator.device, bf16=False))  # whatever the caller has
        run.interrupt = closing.enter_context(listening())
        run.go(resume)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let no other process train in this folder while this one does."""
    with ExitStack() as closing:
        try:
            free = closing.enter_context(held_if_free(f"run-{sha256(str(folder.resolve()).encode()).hexdigest()[:24]}"))
        except FileError as error:
            if not is_read_only(error):
                raise
            free = True  # locks are in the cache, and this one is only for reading
        if not free:
            raise TrainingError(f"another process is training in {folder}: wait until it is done, or choose another")
        yield
