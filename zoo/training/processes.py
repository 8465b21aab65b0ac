"""The processes that train one stack together: what they share out, and what they agree on."""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch import distributed

from zoo.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from accelerate.accelerator import Accelerator
    from torch import Tensor, nn

PATIENCE = timedelta(days=7)
"""How long one process waits for another, which may itself wait for a run beside it that encodes the same images. That
one is gone is told by its connections, which end with it, or by the launcher; time tells nothing."""


class LostProcessError(TrainingError):
    """Another process of the run is gone, so this one cannot go on."""


class Processes:
    """The processes of a run, as one of them sees them; it is alone as a rule, and then nothing here does anything.

    All of them hold the same weights. Every step's items are shared out, gradients are averaged, and what decides about
    the run, as whether a loss exploded or somebody pressed Ctrl-C, is averaged too, so that all decide alike.

    Args:
        rank: of this process, from 0. Number 0 writes; the others only compute.
        count: how many there are.
        device: where tensors are that travel.
    """

    def __init__(self, rank: int = 0, count: int = 1, device: torch.device | None = None) -> None:
        self.rank, self.count = rank, count
        self.device = device or torch.device("cpu")

    @classmethod
    def of(cls, accelerator: Accelerator) -> Processes:
        """Those that ``accelerate launch`` or ``torchrun`` started."""
        return cls(accelerator.process_index, accelerator.num_processes, accelerator.device)

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, items: Tensor) -> Tensor:
        """The part of a step's items that falls to this process, (M, B) to (M, B / count)."""
        return items if self.count == 1 else items[:, self.rank :: self.count]

    def mean(self, values: Sequence[float]) -> list[float]:
        """The means over all processes."""
        if self.count == 1:
            return [*values]
        return [value / self.count for value in self._summed(values)]

    def total(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes."""
        return [*values] if self.count == 1 else self._summed(values)

    def _summed(self, values: Sequence[float]) -> list[float]:
        found = torch.tensor(values, dtype=torch.float64, device=self.device)
        with _in_touch():
            distributed.all_reduce(found)
            return found.tolist()  # where an accelerator is waited for, and a lost process is found out

    def average(self, tensors: Iterable[Tensor | None]) -> None:
        """Put the mean over all processes in place of each tensor; all have the same ones, in one order."""
        if self.count == 1:
            return
        with torch.no_grad():
            for group in _by_type(tensor for tensor in tensors if tensor is not None):
                flat = torch.cat([tensor.flatten() for tensor in group])
                with _in_touch():
                    distributed.all_reduce(flat)
                _unpack(flat.div_(self.count), group)

    def same(self, module: nn.Module) -> None:
        """Put the first process's parameters and buffers in place of everybody's."""
        if self.count > 1:
            self._sent([*module.parameters(), *module.buffers()])

    def same_buffers(self, module: nn.Module) -> None:
        """Put the first process's buffers in place of all: statistics of a batch, and what follows from losses."""
        if self.count > 1:
            self._sent([buffer for buffer in module.buffers() if buffer.is_floating_point()])

    @torch.no_grad()
    def _sent(self, tensors: list[Tensor]) -> None:
        for group in _by_type(tensors):
            flat = torch.cat([tensor.flatten() for tensor in group])
            with _in_touch():
                distributed.broadcast(flat, 0)
            _unpack(flat, group)

    def gathered(self, tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """Everybody's tensors, by process; they have the same names, shapes and types everywhere."""
        if self.count == 1:
            return [tensors]
        found: list[dict[str, Tensor]] = [{} for _ in range(self.count)]
        for name, tensor in tensors.items():
            own = tensor.to(self.device).contiguous()
            parts = [torch.empty_like(own) for _ in range(self.count)]
            with _in_touch():
                distributed.all_gather(parts, own)
            for place, part in enumerate(parts):
                found[place][name] = part.cpu()
        return found

    def wait(self) -> None:
        """Go on when everybody has come this far."""
        if self.count > 1:
            with _in_touch():
                distributed.barrier()


def several_on_cpus() -> bool:
    """Whether ``torchrun`` started several processes on a machine without a GPU: accelerate wants to be told."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available()


def check_gpus(device: torch.device) -> None:
    """Refuse more processes on a machine than it has GPUs: two that share one cannot exchange anything.

    Args:
        device: of this process.

    Raises:
        TrainingError: there are more.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if processes > gpus > 0:
        raise TrainingError(
            f"{processes} processes on a machine with {gpus} {'GPU' if gpus == 1 else 'GPUs'}, and each takes one of "
            f"its own: start {gpus} at most (--nproc_per_node), or hide the GPUs (CUDA_VISIBLE_DEVICES=) and all train "
            "on the CPU"
        )


@contextmanager
def _in_touch() -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError):  # a RuntimeError too, and this process's own
        raise
    except RuntimeError as error:  # what torch.distributed raises when the other end of a connection is gone
        cause = str(error).strip().partition("\n")[0]
        raise LostProcessError(
            "another process of this run has ended, which is why this one ends: look at what that one said. "
            f"What was saved can be resumed (--resume), with as many processes or another number ({cause})"
        ) from error


def _by_type(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    groups: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    return [*groups.values()]


def _unpack(flat: Tensor, tensors: list[Tensor]) -> None:
    parts = flat.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))
