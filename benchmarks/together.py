"""What training several small levels at once is worth: ``zoo.fit_together`` beside ``zoo.fit`` one after the other.

The levels stand on cached codes (of 7x7x10, as those of ``latent-sweep`` do) and have one shape. Steps alone are timed,
in turns within one process: one of all members together, and as many times as there are members one of a single level.
The ratio is of the images that are learned from in a second. On a GPU it should be at least 3; on a CPU, where one
small level already keeps the cores busy, it is only told.
"""

from __future__ import annotations

import os
import tempfile
from copy import deepcopy
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

import zoo
from benchmarks.pairs import Taken, rates
from benchmarks.stepping import step_of, stepping
from zoo.data import images
from zoo.training import looks

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.rows import Row
    from zoo.data import Images

STAGE = "conv7x7x10.fashion_mnist"
CASES = (("fc8+kl", 128, 4), ("fc8+wae_mmd", 128, 4), ("fc8+kl", 32, 8), ("fc8(hidden=[64])+kl", 32, 8))
"""A level, the size of a batch, and how many learn at once."""
TURNS, STEPS = 3, 8


def run() -> list[Row]:
    """Two rows for every case: by the wall's clock, and by the processor's."""
    with tempfile.TemporaryDirectory() as cache, patch.dict(os.environ, ZOO_CACHE=cache):
        return _measured()


def _measured() -> list[Row]:
    torch.manual_seed(0)
    data = images(torch.rand(512, 1, 28, 28), (1, 28, 28))
    held = images(torch.rand(16, 1, 28, 28), (1, 28, 28))
    with patch.object(looks, "VALIDATIONS", 1):
        return [row for level, batch_size, count in CASES for row in _rows(level, batch_size, count, data, held)]


def _rows(level: str, batch_size: int, count: int, data: Images, held: Images) -> list[Row]:
    options: dict[str, Any] = {"val": held, "batch_size": batch_size, "progress": False}
    one = zoo.build(f"{STAGE}/{level}")
    zoo.fit(one, data, steps=1, **options)  # the codes, and a level that has seen them
    many = [deepcopy(one) for _ in range(count)]
    pairs = [
        (
            _step(lambda: zoo.fit_together(many, data, steps=STEPS, **options)),
            _step(lambda: zoo.fit(one, data, level=2, steps=STEPS, **options)) / (1 / count),
        )
        for _ in range(TURNS)
    ]
    bar = "ratio >= 3" if torch.cuda.is_available() else None
    name = f"{count} x {level}, {batch_size} a step, images/s; beside one after the other"
    return rates(name, pairs, count * batch_size, bar)


def _step(fit: Callable[[], object]) -> Taken:
    """What one step of a fit takes, the median."""
    with stepping() as moments:
        fit()
    return step_of(moments)
