"""Which precision a course computes in: bf16 autocast where a short probe shows that it gains and costs nothing."""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.training.objectives import Learner

PROBE_STEPS = 5
WORTH = 0.9
"""bf16 is taken when a step takes at most this part of fp32's time."""
EQUAL = 0.01
"""Losses this close, in nats per element, count as equal: a hundredth of a nat is 1 % of a standard deviation."""


def choose(learner: Learner, batch: Tensor, labels: Tensor | None) -> tuple[bool, dict[str, float]]:
    """Time forward and backward in both precisions on one batch; weights, buffers and random state end as they were.

    Returns:
        Whether to use bf16, and what was measured: seconds a step and loss, by precision.
    """
    kept = {name: tensor.detach().clone() for name, tensor in learner.state_dict().items()}
    measured: dict[str, float] = {}
    with torch.random.fork_rng(devices=[] if batch.device.type == "cpu" else None):
        for name, enabled in (("fp32", False), ("bf16", True)):
            seconds = []
            for _ in range(PROBE_STEPS):
                torch.manual_seed(0)
                start = perf_counter()
                with torch.autocast(batch.device.type, torch.bfloat16, enabled=enabled):
                    losses = learner(batch, labels)
                losses.total.backward()
                measured[f"{name}_loss"] = losses.total.item()  # waits for the device, so the clock is right
                seconds.append(perf_counter() - start)
                learner.zero_grad(set_to_none=True)
            measured[f"{name}_seconds"] = median(seconds[1:])
    learner.load_state_dict(kept)
    faster = measured["bf16_seconds"] <= WORTH * measured["fp32_seconds"]
    equal = abs(measured["bf16_loss"] - measured["fp32_loss"]) <= EQUAL
    return faster and equal, measured
