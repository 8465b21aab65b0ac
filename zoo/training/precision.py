"""Which precision a course computes in: bf16 autocast where this machine gains by it and the loss stays the same.

Whether bf16 gains is asked of the machine, once a run, on one fixed convolution, rather than of every learner: a busy
machine would answer differently from time to time, and the same seed must give the same numbers. Whether the loss stays
the same is asked of every learner.
"""

from __future__ import annotations

from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.training.objectives import Learner

TRIES = 7
WORTH = 0.8
"""bf16 gains when the fixed convolution takes at most this part of fp32's time (0.65 on a CPU with AVX512-bf16)."""
EQUAL = 0.01
"""Losses this close, in nats per element, count as equal: a hundredth of a nat is 1 % of a standard deviation. A loss
beyond 1, as the error of activations that nobody calibrates, may differ by a hundredth of itself."""


@cache
def gains(device: torch.device) -> bool:
    """Whether a convolution forward and backward is clearly faster under bf16 autocast, best of several in turn."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), torch.inference_mode(mode=False):
        layer = nn.Conv2d(64, 64, 3, padding=1).to(device).to(memory_format=torch.channels_last)
        x = torch.rand(16, 64, 32, 32).to(device, memory_format=torch.channels_last)
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(TRIES):
            for bf16, taken in seconds.items():
                start = perf_counter()
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    y = layer(x)
                y.float().sum().backward()
                layer.weight.sum().item()  # waits for the device
                taken.append(perf_counter() - start)
    return bool(min(seconds[True]) <= WORTH * min(seconds[False]))


def equal(learner: Learner, batch: Tensor, labels: Tensor | None) -> bool:
    """Whether the learner's loss on a batch is the same in both precisions."""
    kept = {name: tensor.detach().clone() for name, tensor in learner.state_dict().items()}
    losses: list[float] = []
    with torch.random.fork_rng(devices=[] if batch.device.type == "cpu" else None), torch.no_grad():
        for enabled in (False, True):
            torch.manual_seed(0)
            with torch.autocast(batch.device.type, torch.bfloat16, enabled=enabled):
                losses.append(learner(batch, labels).total.item())
    learner.load_state_dict(kept)  # batch norms have seen the batch twice
    return abs(losses[0] - losses[1]) <= EQUAL * max(1.0, abs(losses[0]))
