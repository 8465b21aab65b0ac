"""Images per second, there and back."""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from zoo.stack import Stack

TIMED, ENOUGH = 7, 3.0  # batches, and the seconds after which three of them do


def speed(stack: Stack, x: Tensor) -> dict[str, Any]:
    """Images per second of the whole stack: the median of several batches, after one to warm up.

    Args:
        stack: in eval mode.
        x: one batch of images, (B, C, H, W).
    """
    x = x.to(stack.device)
    z = stack.encode(x)
    encode, decode = _rate(stack.encode, x), _rate(stack.decode, z)
    return {"encode": encode, "decode": decode, "batch_size": len(x), "threads": torch.get_num_threads()}


def _rate(run: Callable[[Tensor], Tensor], batch: Tensor) -> float:
    """Inputs per second."""
    _seconds(run, batch)
    taken: list[float] = []
    while len(taken) < TIMED and not (len(taken) >= 3 and sum(taken) > ENOUGH):
        taken.append(_seconds(run, batch))
    return len(batch) / median(taken)


def _seconds(run: Callable[[Tensor], Tensor], batch: Tensor) -> float:
    """How long one batch takes, until its last value is here: a GPU answers before it is done."""
    start = perf_counter()
    run(batch).flatten()[-1].item()
    return max(perf_counter() - start, 1e-9)
