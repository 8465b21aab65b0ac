"""A training run that is watched from within, and kills itself where it is told to; tests/kills.py plays with it."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from moments import Moments
from torch import nn

from zoo.builder import build
from zoo.cache import making
from zoo.interfaces import Regularizer
from zoo.stack import Stack
from zoo.training import fit, looks, precision
from zoo.training import loop as loops
from zoo.training import run as runs
from zoo.training.players import Player

if TYPE_CHECKING:
    from pathlib import Path

STEPS = 5
IMAGES = 600
SHARD_BYTES = 200 * 4 * 16  # three shards
SPEC = "8x8x1/conv2x2x4(width=4, blocks=0)/fc2(hidden=[4])+kl"


@dataclass(frozen=True)
class Recipe:
    """A run, small enough to be made a hundred times."""

    spec: str = SPEC
    options: dict[str, object] = field(default_factory=dict)
    critic: bool = False
    save_every: float = 0.0
    gains: tuple[bool, ...] = (False,)
    """What the machine says of bf16 in the first process, in the second ...; the last says it for all others."""
    forgetful: bool = False
    """A resumed run does not restore the random state: what it ends in has to be found different."""


class Judged(Regularizer):
    """A term with a critic, dropout and a buffer that grows."""

    def __init__(self, place):
        super().__init__(place, 1.0)
        self.critic = nn.Sequential(nn.Dropout(0.5), nn.Linear(place.code_shape[0], 1))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, trip):
        self.seen += self.training
        return -self.critic(trip.z).mean() / (1 + self.seen)

    def critic_loss(self, trip):
        return self.critic(trip.z).mean() - self.critic(torch.randn_like(trip.z)).mean()


class Watch(Moments):
    """Counts what a run does by kind, and kills the process at the n-th of a kind."""

    def __init__(self, folder, kill, shots=None):
        self.kill, self.counts = kill, Counter()
        super().__init__(folder, shots)

    def tick(self, kind):
        self.counts[kind] += 1
        if self.kill == (kind, self.counts[kind]):
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, number):
        self.tick("change")

    def patch(self):
        """Have the steps of optimisers and the batches that are encoded counted."""
        step, posterior = Player.step, Stack.posterior

        def stepped(player, *arguments):
            norm = step(player, *arguments)
            self.tick("step")
            return norm

        def encoded(stack, *arguments, **named):
            self.tick("encoding")
            return posterior(stack, *arguments, **named)

        Player.step, Stack.posterior = stepped, encoded


def images() -> torch.Tensor:
    """(600, 1, 8, 8): a bright square somewhere."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(IMAGES, 1, 8, 8)
    for image, (row, column) in zip(x, torch.randint(5, (IMAGES, 2), generator=generator).tolist(), strict=True):
        image[0, row : row + 3, column : column + 3] = 1
    return x


def train(recipe: Recipe, folder: Path, kill=None, *, process=0, resume=None, shots=None) -> None:
    """One process of a run, which goes on with what there is; in a child."""
    os.environ["ZOO_CACHE"] = str(folder / "cache")
    os.fsync = lambda handle: None  # the system outlives what a signal kills
    torch.manual_seed(os.getpid())  # nothing may depend on the state that a process starts in
    loops.SAVE_EVERY, looks.VALIDATIONS, making.SHARD_BYTES = recipe.save_every, 2, SHARD_BYTES
    runs.trackers = lambda **_: []  # TensorBoard writes when it likes
    precision.gains = lambda device: recipe.gains[min(process, len(recipe.gains) - 1)]
    watch = Watch(folder, kill, shots)
    watch.patch()
    resume = (folder / "run" / "run.json").is_file() if resume is None else resume
    if resume and recipe.forgetful:
        torch.set_rng_state = lambda state: None
    stack = build(recipe.spec)
    if recipe.critic:
        torch.manual_seed(0)
        level = stack.level(2)
        level.terms["judged_"] = Judged(level.stage.place)
    options = {"steps": STEPS, "batch_size": 16, "log_every": 2, **recipe.options}
    fit(stack, images(), out=folder / "run", resume=resume, **options)
    (folder / "counts.json").write_text(json.dumps({**watch.counts, "kinds": watch.kinds}))
