"""How far the codes are from the prior that samples are drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from zoo.evaluation.protocol import stream

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.interfaces import Regularizer

DIRECTIONS = 128
ACTIVE = 0.01  # the variance from which a number of the code counts as active: Burda, Grosse and Salakhutdinov (2016)


def distance(means: Tensor, draws: Tensor | None, prior: Regularizer | None, *, seed: int) -> dict[str, Any]:
    """The spread of the codes and their sliced Wasserstein-2 distance to the prior, N(0, I) where the level has none.

    Args:
        means: the posteriors' means, (N, *code).
        draws: one draw from every posterior, None where posteriors are points.
        prior: the level's.
        seed: of the prior's samples and of the directions.

    The distance compares equally many codes and samples of the prior along 128 random directions; ``floor`` is what two
    such sets of samples of the prior have between themselves, ``means`` and ``draws`` what the codes have.
    """
    generator = stream(seed, "prior")
    first, second = (_sample(means, prior, generator) for _ in range(2))
    found: dict[str, Any] = {
        "prior": None if prior is None else type(prior).__name__,
        "mean": _summary(means.flatten(1).double().mean(0)),
        "std": _summary(means.flatten(1).double().std(0, correction=0)),
        "sliced_wasserstein_means": sliced_wasserstein(means, first, seed=seed),
        "sliced_wasserstein_draws": None if draws is None else sliced_wasserstein(draws, first, seed=seed),
        "sliced_wasserstein_floor": sliced_wasserstein(second, first, seed=seed),
    }
    if draws is not None:
        active = means.flatten(1).double().var(0, correction=0) > ACTIVE
        found["active"] = int(active.sum())
        found["of"] = active.numel()
    return found


def sliced_wasserstein(a: Tensor, b: Tensor, *, seed: int) -> float:
    """The sliced Wasserstein-2 distance of two sets of equally many codes, (N, *code).

    The root of the mean, over random directions, of the squared distance in one dimension, which is that of sorted
    values (Bonneel, Rabin, Peyré and Pfister, 2015).
    """
    a, b = a.flatten(1), b.flatten(1)
    directions = torch.randn(a.shape[1], DIRECTIONS, generator=stream(seed, "directions"))
    directions /= directions.norm(dim=0)
    gaps = (a @ directions).sort(0).values - (b @ directions).sort(0).values
    return gaps.double().square().mean().sqrt().item()


def _sample(like: Tensor, prior: Regularizer | None, generator: torch.Generator) -> Tensor:
    if prior is None:
        return torch.randn(like.shape, generator=generator)
    return prior.sample(len(like), generator).float()


def _summary(values: Tensor) -> dict[str, float]:
    return {"min": values.min().item(), "median": values.median().item(), "max": values.max().item()}
