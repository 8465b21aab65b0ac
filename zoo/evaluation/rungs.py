"""What each rung of a ladder decides: how images change when its numbers are drawn anew."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from zoo import rungs
from zoo.errors import EvaluationError
from zoo.evaluation.protocol import measuring, stream
from zoo.evaluation.reconstruction import batches
from zoo.posterior import Posterior

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from zoo.data import Images
    from zoo.stack import Stack

    Classify = Callable[[Tensor], Tensor]

AT_ONCE = 250  # images


@dataclass(frozen=True)
class Redrawn:
    """What comes of drawing a part of the code anew, from the prior or the head, all else being as it was.

    Args:
        rung: counted from 1, the shallowest; None for all of them, a new image altogether.
        variance: of a pixel over the draws, the mean over pixels and images in [0, 1].
        changed: the share of draws that show another class than what comes back of the image; None where nobody says.
        nats: the mean KL divergence of the posteriors to N(0, I), of codes at unit scale; None where they are points.
    """

    rung: int | None
    variance: float
    changed: float | None
    nats: float | None


def redraw(
    stack: Stack, shown: Images, classify: Classify | None = None, *, most: int = 2000, draws: int = 4, seed: int = 0
) -> list[Redrawn]:
    """Measure every rung of the top codes, from the shallowest, and last all of them together.

    Args:
        stack: one that samples, with codes of rungs on top.
        shown: images to begin with.
        classify: images (N, C, H, W) to their classes (N,), as ``zoo.evaluation.classifier.train(...).labels`` does.
        most: so many of them, chosen at random, at most.
        draws: for each image and rung, at least 2.
        seed: of the choice and the draws.

    Raises:
        EvaluationError: the codes have no rungs, or the stack cannot sample.
    """
    if draws < 2:
        raise EvaluationError(f"draws={draws}: a variance takes 2 at least")
    which: list[int | None] = [*range(1, rungs.count(stack.code_shape) + 1), None]
    chosen = shown.subset(torch.randperm(len(shown), generator=stream(seed, "images of rungs"))[:most])
    draw = stack.sampler(generator=stream(seed, "draws of rungs"))
    totals = torch.zeros(len(which), 3, dtype=torch.float64)
    with measuring(stack):
        for part in batches(len(chosen), AT_ONCE):
            posterior = stack.posterior(chosen.batch(part).to(stack.device))
            for place, rung in enumerate(which):
                found = *_change(stack, posterior.mode, rung, draw, classify, draws), _nats(posterior, rung)
                totals[place] += len(posterior.mode) * torch.tensor(found, dtype=torch.float64)
    rows = (totals / len(chosen)).tolist()
    return [
        Redrawn(rung, variance, None if classify is None else changed, None if math.isnan(nats) else nats)
        for rung, (variance, changed, nats) in zip(which, rows, strict=True)
    ]


def _change(
    stack: Stack,
    z: Tensor,
    rung: int | None,
    draw: Callable[[int], Tensor],
    classify: Classify | None,
    draws: int,
) -> tuple[float, float]:
    """The variance of a pixel and the share of other classes, over the draws for these codes; 0 where nobody says."""
    classes = None if classify is None else classify(stack.decode(z).cpu()).cpu()
    images, others = [], 0.0
    for _ in range(draws):
        fresh = draw(len(z)).to(z)
        images.append(stack.decode(fresh if rung is None else rungs.swap(z, fresh, rung)).cpu())
        if classify is not None and classes is not None:
            others += (classify(images[-1]).cpu() != classes).double().mean().item()
    return torch.stack(images).double().var(0).mean().item(), others / draws


def _nats(posterior: Posterior, rung: int | None) -> float:
    """The mean KL divergence of one rung, or of all; NaN for points."""
    if posterior.logvar is None:
        return math.nan
    if rung is not None:
        posterior = Posterior(posterior.mean[:, rung - 1], posterior.logvar[:, rung - 1])
    return posterior.kl().mean().item()
