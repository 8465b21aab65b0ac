"""What the trainer adds to a step: ``zoo.fit`` beside the shortest loop by hand that does the same work.

The loop by hand (``by_hand``) has the level's own stage and terms, fused AdamW, the cosine schedule with its warm-up,
clipping, the running average and a look at the loss now and then; no progress, validation, history or checkpoint. It
takes as many steps into its average as the trainer does, every fourth once the run is not young, and like the trainer
it goes through the gradients a second time, to clip them, only where they are too long (on a CPU).

Both run in one process, in turn: an optimiser hook stops ``zoo.fit`` after every block of a few steps, and the loop by
hand takes as many. The ratio is the median over the blocks of the two neighbours' ratio, and a row beside it gives its
quartiles: other programs on the machine slow both sides alike. The first step of a block is not timed on either side,
as memory is then still the other's.

**Steps alone** have the bar. Validations, which the loop by hand does not have, fall in first steps and so are not
timed; batch, checks, schedule, progress are; the median passes over lines of the history, which few blocks hold.
**The whole fit** stands beside without a bar: with its start, validations, checkpoints and history. It sees as many
held-out images for each that it learns from as the default of 20 epochs and 5 % held out, but starting a fit and
writing its twenty best checkpoints weigh more here than in a longer one.
"""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import contextmanager, redirect_stderr
from copy import deepcopy
from dataclasses import dataclass, field
from math import cos, isfinite, pi
from statistics import median, quantiles
from time import perf_counter
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import zoo
from benchmarks.rows import Row
from zoo.data import images
from zoo.training.averaging import EVERY, YOUNG
from zoo.training.looks import VALIDATIONS
from zoo.training.players import ADAMW_BETAS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from zoo.data import Images
    from zoo.level import Level

LR, DECAY, CLIP, EMA, WARM_UP = 1e-3, 0.01, 1.0, 0.998, 100
"""As in ``zoo.training.Options``."""
LOOK_EVERY = 50
"""Steps between two looks of the loop by hand at its loss."""
POOL = {28: 4000, 64: 1000}
"""Images to learn from and to hold out, by their side."""
HELD_OUT = 0.05
BAR, BOUND = "ratio <= 1.03", 64
"""For every batch of so many items or more."""


@dataclass(frozen=True)
class Case:
    """A level to train.

    Args:
        spec: its last level is the one that is trained.
        batch_size: items a step.
        blocks: how many blocks of steps, of each side.
        block: steps of one, at least 2. ``blocks * block`` is a multiple of ``VALIDATIONS * block``.
    """

    spec: str
    batch_size: int
    blocks: int
    block: int

    @property
    def steps(self) -> int:
        """Of the fit, and of the loop by hand."""
        return self.blocks * self.block

    def __str__(self) -> str:
        return f"{self.spec}, {self.batch_size} a step"


CASES = (
    Case("28x28x1/conv7x7x10", 64, blocks=20, block=4),
    Case("28x28x1/conv7x7x10", 256, blocks=20, block=2),
    Case("64x64x3/conv8x8x64", 64, blocks=20, block=2),
    Case("28x28x1/conv7x7x10/fc8+kl", 16, blocks=100, block=12),
    Case("28x28x1/conv7x7x10/fc8+kl", 64, blocks=100, block=8),
    Case("28x28x1/conv7x7x10/fc8+kl", 256, blocks=60, block=5),
    Case("28x28x1/conv7x7x10/fc8+kl", 1024, blocks=20, block=4),
    Case("64x64x3/conv8x8x64/conv4x4x32", 64, blocks=100, block=5),
)


def run() -> list[Row]:
    """Milliseconds of a step in images and in codes, and seconds of whole fits."""
    with tempfile.TemporaryDirectory() as cache, patch.dict(os.environ, ZOO_CACHE=cache):
        return [row for case in CASES for row in _rows(case)]


def by_hand(level: Level, items: Tensor, *, batch_size: int, steps: int) -> Iterator[None]:
    """Train a level on images (uint8) or codes (float32), (N, *input), for so many steps; every ``next`` is one."""
    device = level.shift.device
    parameters: list[Tensor] = list(level.parameters())
    weights, vectors = ([p for p in parameters if (p.ndim > 1) is wide] for wide in (True, False))
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0}]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=ADAMW_BETAS, fused=True)
    averages = [parameter.detach().clone() for parameter in parameters]
    terms = list(level.terms.values())
    per_epoch = len(items) // batch_size
    warm_up = min(WARM_UP, round(0.05 * steps))
    for step in range(steps):
        place = step % per_epoch * batch_size
        if place == 0:
            order = torch.randperm(len(items))
        x = items[order[place : place + batch_size]].to(device, non_blocking=True)
        if x.dtype == torch.uint8:
            x = x.float().div_(255)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        trip = level.round_trip(x)
        loss = sum(term.weight * term(trip) for term in terms) / x[0].numel()
        if step % LOOK_EVERY == 0 and not isfinite(loss.item()):
            raise ArithmeticError(f"the loss is {loss.item()} at step {step}")
        rate = LR * min(1.0, (step + 1) / (warm_up + 1)) * (0.01 + 0.99 * (1 + cos(pi * step / steps)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if norm.device.type != "cpu" or norm > CLIP:
            torch.nn.utils.clip_grads_with_norm_(parameters, CLIP, norm)
        optimizer.step()
        every = 1 if step < YOUNG else EVERY
        if step % every == 0:
            with torch.no_grad():
                torch._foreach_lerp_(averages, parameters, 1 - min(EMA, (1 + step) / (10 + step)) ** every)
        yield


@dataclass
class Turns:
    """Times the steps of ``zoo.fit`` from outside, and has the loop by hand take its turn after each block.

    Args:
        block: steps of a block.
        theirs: the loop by hand.

    ``pairs`` are the seconds of a step of ours and of theirs, block by block; ``away`` is how long theirs took in all.
    """

    block: int
    theirs: Iterator[None]
    taken: int = 0
    start: float = 0.0
    away: float = 0.0
    busy: bool = False
    pairs: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self, *_: Any) -> None:
        """The hook: an optimiser has just taken a step."""
        if self.busy:  # it was that of the loop by hand
            return
        self.taken += 1
        if self.taken % self.block == 0:
            ours = _now() - self.start
            self.busy = True
            self._hand_over(ours)
            self.busy = False
        if self.taken % self.block == 1:
            self.start = _now()

    def _hand_over(self, ours: float) -> None:
        begin = perf_counter()
        next(self.theirs)
        start = _now()
        for _ in range(self.block - 1):
            next(self.theirs)
        self.pairs.append((ours / (self.block - 1), (_now() - start) / (self.block - 1)))
        self.away += perf_counter() - begin

    @contextmanager
    def taken_in_turn(self) -> Iterator[None]:
        """Watch every optimiser of this process while this lasts."""
        handle = register_optimizer_step_post_hook(self)
        try:
            yield
        finally:
            handle.remove()


def _rows(case: Case) -> list[Row]:
    stack = zoo.build(case.spec)
    kept, held = _images(stack.input_shape, max(2, round(HELD_OUT * case.steps * case.batch_size / VALIDATIONS)))
    number = len(stack.levels)
    options: dict[str, Any] = {"val": held, "batch_size": case.batch_size, "precision": "fp32"}
    with redirect_stderr(io.StringIO()), tempfile.TemporaryDirectory() as out:  # progress as lines, out of the way
        zoo.fit(stack, kept, steps=1, **options)  # the levels below, their codes, and a start that has seen the data
        level = deepcopy(stack.level(number)).train()
        level.to(_device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
        items = kept.pixels if number == 1 else _codes(stack, kept, number - 1)
        turns = Turns(case.block, by_hand(level, items, batch_size=case.batch_size, steps=case.steps))
        begin = perf_counter()
        with turns.taken_in_turn():
            zoo.fit(stack, kept, out=out, level=number, steps=case.steps, **options)
        whole = perf_counter() - begin - turns.away
    step = median(theirs for _, theirs in turns.pairs)
    low, middle, high = quantiles(ours / theirs for ours, theirs in turns.pairs)
    return [
        Row(f"{case}: a step, ms; by hand", 1e3 * step * middle, 1e3 * step, BAR if case.batch_size >= BOUND else None),
        Row(f"{case}: upper quartile of the blocks' ratios; lower", high, low),
        Row(f"{case}: the whole fit of {case.steps} steps, s; by hand", whole, step * case.steps),
    ]


def _images(shape: tuple[int, ...], held: int) -> tuple[Images, Images]:
    """The bundled images in this shape: to learn from, and so many to validate on."""
    sample = images("sample", (1, 28, 28)).subset(slice(0, POOL[shape[-1]]))
    return images(sample.pixels, shape).held_out(held, seed=0)


@torch.no_grad()
def _codes(stack: zoo.Stack, kept: Images, levels: int) -> Tensor:
    batches = (kept.batch(slice(start, start + 250)) for start in range(0, len(kept), 250))
    return torch.cat([stack.encode(x.to(stack.device), levels).cpu() for x in batches]).contiguous()


def _device() -> torch.device:
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def _now() -> float:
    """The time once the device has done what it was told."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return perf_counter()
