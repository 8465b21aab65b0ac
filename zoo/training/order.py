"""Which items each step takes: that follows from the seed, the course and the epoch alone."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import torch

from zoo.training import schedules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from zoo.training.processes import Processes


class Order:
    """The items of a source in a new random order in every epoch.

    Args:
        count: how many items there are.
        batch_size: how many a step takes, of all processes together.
        seeds: of the orders, one for each member that learns at once.
        processes: that share the items of a step.
    """

    def __init__(self, count: int, batch_size: int, seeds: Sequence[int], processes: Processes) -> None:
        self.count, self.seeds, self.processes = count, seeds, processes
        size = min(batch_size, count)
        self.size = size - size % processes.count
        self.per_epoch = schedules.steps_per_epoch(count, self.size)
        self.epoch: tuple[int, Tensor] | None = None

    def of(self, step: int) -> Tensor:
        """The places of this process's items of a step: those of the first member, then those of the second."""
        epoch, place = divmod(step, self.per_epoch)
        if self.epoch is None or self.epoch[0] != epoch:
            self.epoch = (epoch, torch.stack([shuffled(self.count, f"{seed}/{epoch}") for seed in self.seeds]))
        return self.processes.share(self.epoch[1][:, place * self.size : (place + 1) * self.size]).flatten()


def shuffled(count: int, seed: str) -> Tensor:
    """The numbers below ``count`` in the order that follows from a text."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(zlib.crc32(seed.encode())), device="cpu")
