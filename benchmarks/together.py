"""What training several small levels at once is worth: ``zoo.fit_together`` beside ``zoo.fit`` one after the other.

The levels stand on cached codes (of 7x7x10, as those of ``latent-sweep`` do), have one shape, and a seed and a weight
each. Both ways take as many steps in turns within one process; the first turn is not timed. The ratio is of the images
that all of them learn from in a second. On a GPU it should be at least 3; on a CPU, where one small level already keeps
the cores busy, it is only told.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import torch

import zoo
from benchmarks.rows import Row
from zoo.data import images

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.data import Images
    from zoo.stack import Stack

STAGE = "conv7x7x10.fashion_mnist"
CASES = (
    ("fc8+kl({})", 128, 8),
    ("fc8+wae_mmd({})", 128, 8),
    ("fc8(hidden=[64])+kl({})", 32, 8),
    ("fc8+kl({})", 32, 24),
)
"""A level, the size of a batch, and how many learn at once."""
TURNS, STEPS = 3, 150


def run() -> list[Row]:
    """A row for every case."""
    torch.manual_seed(0)
    data = images(torch.rand(4000, 1, 28, 28), (1, 28, 28))
    held = images(torch.rand(100, 1, 28, 28), (1, 28, 28))
    return [_row(level, batch_size, count, data, held) for level, batch_size, count in CASES]


def _row(level: str, batch_size: int, count: int, data: Images, held: Images) -> Row:
    def apart(stacks: list[Stack]) -> None:
        for seed, stack in enumerate(stacks):
            zoo.fit(stack, data, val=held, level=2, seed=seed, batch_size=batch_size, steps=STEPS, progress=False)

    def together(stacks: list[Stack]) -> None:
        zoo.fit_together(stacks, data, val=held, batch_size=batch_size, steps=STEPS, progress=False)

    seconds: dict[Callable[[list[Stack]], None], list[float]] = {apart: [], together: []}
    for _ in range(TURNS + 1):
        for way, taken in seconds.items():
            stacks = [zoo.build(f"{STAGE}/{level.format(1 + place)}") for place in range(count)]
            start = perf_counter()
            way(stacks)
            taken.append(perf_counter() - start)
    rate = {way: count * STEPS * batch_size / median(taken[1:]) for way, taken in seconds.items()}
    bar = "ratio >= 3" if torch.cuda.is_available() else None
    return Row(
        f"{count} x {level.format('')}, {batch_size} a step, images/s; beside one after the other",
        rate[together],
        rate[apart],
        bar,
    )
