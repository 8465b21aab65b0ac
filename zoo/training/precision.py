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

from zoo.seeding import forked, seeded

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.training.objectives import Learner

TRIES = 7
IMAGES = 16
MOST_IMAGES = 2048
"""Of the fixed convolution on an accelerator, at most: they take about 3 GB."""
SECONDS = 0.01
"""What the fixed convolution takes at least on an accelerator, if so many images do: less is mostly launches, which
take as long in bf16."""
WORTH = 0.8
"""bf16 gains when the fixed convolution takes at most this part of fp32's time (0.65 on a CPU with AVX512-bf16)."""
EQUAL = 0.01
"""Losses this close, in nats per element, count as equal: a hundredth of a nat is 1 % of a standard deviation. A loss
beyond 1, as the error of activations that nobody calibrates, may differ by a hundredth of itself."""


@cache
def gains(device: torch.device) -> bool:
    """Whether a convolution forward and backward is clearly faster under bf16 autocast, best of several in turn."""
    with forked(), torch.enable_grad(), torch.inference_mode(mode=False):
        layer = nn.Conv2d(64, 64, 3, padding=1, device="cpu").to(device).to(memory_format=torch.channels_last)
        x = torch.rand(IMAGES, 64, 32, 32, device="cpu").to(device, memory_format=torch.channels_last)
        seconds: dict[bool, list[float]] = {False: [], True: []}
        if device.type != "cpu":
            x = _enough(layer, x)
            for bf16 in seconds:  # chooses algorithms, and is not counted
                _seconds(layer, x, bf16=bf16)
        for _ in range(TRIES):
            for bf16, taken in seconds.items():
                taken.append(_seconds(layer, x, bf16=bf16))
    return bool(min(seconds[True]) <= WORTH * min(seconds[False]))


def _enough(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """So many images that an accelerator is busy with them, rather than with being told what to do."""
    while len(x) < MOST_IMAGES and min(_seconds(layer, x, bf16=False) for _ in range(2)) < SECONDS:
        x = torch.cat([x, x])
    return x


def _seconds(layer: nn.Conv2d, x: Tensor, *, bf16: bool) -> float:
    start = perf_counter()
    with cast(x.device, bf16=bf16):
        y = layer(x)
    y.float().sum().backward()
    layer.weight.sum().item()  # waits for the device
    return perf_counter() - start


def cast(device: torch.device, *, bf16: bool) -> torch.autocast:
    """Autocast to bf16, or none. Of what was cast before nothing is left: weights have changed.

    torch lets go of casts of weights only when the outermost autocast ends, even one that is off, and that may be one
    around a whole course.
    """
    torch.clear_autocast_cache()
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


def equal(learner: Learner, batch: Tensor, labels: Tensor | None) -> bool:
    """Whether the learner's loss on a batch is the same in both precisions."""
    kept = {name: tensor.detach().clone() for name, tensor in learner.state_dict().items()}
    losses: list[float] = []
    for enabled in (False, True):
        with seeded(0, batch.device), torch.no_grad(), cast(batch.device, bf16=enabled):
            losses.append(learner(batch, labels).total.item())
    learner.load_state_dict(kept)  # batch norms have seen the batch twice
    return abs(losses[0] - losses[1]) <= EQUAL * max(1.0, abs(losses[0]))
