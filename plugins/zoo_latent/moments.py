"""Moment matching: what an encoder is pretrained by, so that its codes begin where the prior is."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch

from zoo.phases import Phase

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.interfaces import Shape

ENOUGH = 0.1
"""It stops at a distance below this."""
SHARE = 0.25
"""At most so much of the level's budget, for each 1 that the stage's phases ask for."""
SAMPLE, SMALLER = 1000, 256
"""Inputs whose codes are matched in a step, and how many of those with more than ``LARGE`` numbers."""
LARGE = 1024


def pretraining(steps: int, input_shape: Shape) -> Phase:
    """The encoder alone learns to give codes with the prior's mean and covariance, for at most so many steps.

    Source: the code of Tolstikhin et al. (2018), arXiv:1711.01558: 200 steps, on 1,000 images of MNIST or 256 of
    CelebA.
    """
    return Phase(
        "moments",
        share=SHARE,
        steps=steps,
        until=ENOUGH,
        batch_size=SAMPLE if prod(input_shape) <= LARGE else SMALLER,
        rates={"encoder": 1.0},
        code_loss=distance_to_prior,
    )


def distance_to_prior(z: Tensor) -> Tensor:
    """``moment_distance`` of codes, (B, *code), and as many draws from N(0, I)."""
    q = z.flatten(1)
    return moment_distance(q, torch.randn_like(q))


def moment_distance(q: Tensor, p: Tensor) -> Tensor:
    """How far the moments of two samples are apart, (n, d) each: a scalar in float32.

    The mean square of the d differences of their means, and of the d^2 differences of their covariances, added.
    """
    with torch.autocast(q.device.type, enabled=False):
        (mean, covariance), (wanted_mean, wanted_covariance) = _moments(q.float()), _moments(p.float())
        return torch.mean((mean - wanted_mean) ** 2) + torch.mean((covariance - wanted_covariance) ** 2)


def _moments(sample: Tensor) -> tuple[Tensor, Tensor]:
    mean = sample.mean(0)
    centred = sample - mean
    return mean, centred.T @ centred / max(len(sample) - 1, 1)  # of one code, 0
