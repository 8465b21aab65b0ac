"""What a level of images comes to in nats and in similarity, whatever it was trained by."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, cast

import torch

from zoo import builder
from zoo.evaluation.protocol import measuring, stream
from zoo.experiments.bench import batches
from zoo.interfaces import RoundTrip

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data import Images
    from zoo.interfaces import Term
    from zoo.stack import Stack

ACTIVE = 0.01  # the variance of a number's mean above which it is in use: Burda, Grosse and Salakhutdinov (2016)


def measured(stack: Stack, shown: Images, target: tuple[float, float] = (0.0, 1.0)) -> dict[str, Any]:
    """Columns of a table for a stack of one level with a posterior, over all images.

    ``nats`` is the cross-entropy of what comes back of the posterior's mean and the divergence; ``nats, drawn`` the
    same of a draw, which is a bound on the likelihood. ``SSIM`` has a window of 5 pixels, zeros outside.

    Args:
        stack: of one level.
        shown: images.
        target: what comes back is compared with the images less this mean, over this deviation.
    """
    height, width, channels = *shown.shape[1:], shown.shape[0]
    terms = builder.build(f"{height}x{width}x{channels}/fc1+kl+bernoulli+ssim+mse").level(1).terms
    sums = dict.fromkeys(("bernoulli", "drawn", "kl", "ssim", "mse"), 0.0)
    means, generator = [], stream(0, "codes")
    with measuring(stack):
        for x in batches(shown):
            posterior = stack.posterior(x)
            trip, drawn = (
                RoundTrip((x - target[0]) / target[1], posterior, z, stack.decode(z))
                for z in (posterior.mode, posterior.sample(generator))
            )
            told = {name: cast("Term", terms[name])(trip).item() for name in ("bernoulli", "kl", "ssim", "mse")}
            told["drawn"] = cast("Term", terms["bernoulli"])(drawn).item()
            for name, value in told.items():
                sums[name] += value * len(x)
            means.append(posterior.mode)
    found = {name: value / len(shown) for name, value in sums.items()}
    return _columns(found, torch.cat(means), prod(shown.shape))


def _columns(found: dict[str, float], means: Tensor, elements: int) -> dict[str, Any]:
    active = int((means.var(0) > ACTIVE).sum())
    return {
        "nats": found["bernoulli"] + found["kl"],
        "nats, drawn": found["drawn"] + found["kl"],
        "BCE": found["bernoulli"],
        "KL": found["kl"],
        "SSIM": 1 - found["ssim"] / elements,
        "MSE": found["mse"] / elements,
        "active": f"{active} of {means[0].numel()}",
    }
