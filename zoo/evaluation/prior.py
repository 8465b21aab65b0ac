"""How far the codes are from the prior that samples are drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from zoo.evaluation import protocol
from zoo.evaluation.protocol import stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from zoo.interfaces import Regularizer

DIRECTIONS = 128
AT_ONCE = 2**24  # numbers of codes that are copied to float64 together
ACTIVE = 0.01  # the variance from which a number of the code counts as active: Burda, Grosse and Salakhutdinov (2016)


def distance(means: Tensor, draws: Tensor | None, prior: Regularizer | None, *, seed: int) -> dict[str, Any]:
    """The spread of the codes and their sliced Wasserstein-2 distance to the prior, N(0, I) where the level has none.

    Args:
        means: the posteriors' means, (N, *code).
        draws: one draw from every posterior, None where posteriors are points.
        prior: the level's.
        seed: of the prior's samples and of the directions.

    The distance compares equally many codes and samples of the prior along 128 random directions; ``floor`` is what two
    such sets of samples of the prior have between themselves, ``means`` and ``draws`` what the codes have. Of codes
    that are more than 125 million numbers as many as these are compared, evenly from first to last.
    """
    few, some = _few(means), None if draws is None else _few(draws)
    generator = stream(seed, "prior")
    first, second = (_sample(few, prior, generator) for _ in range(2))
    found: dict[str, Any] = {
        "prior": None if prior is None else type(prior).__name__,
        "mean": _summary(by_number(means, lambda z: z.mean(0))),
        "std": _summary(by_number(means, lambda z: z.std(0, correction=0))),
        "sliced_wasserstein_means": sliced_wasserstein(few, first, seed=seed),
        "sliced_wasserstein_draws": None if some is None else sliced_wasserstein(some, first, seed=seed),
        "sliced_wasserstein_floor": sliced_wasserstein(second, first, seed=seed),
    }
    if draws is not None:
        active = by_number(means, variance) > ACTIVE
        found["active"] = int(active.sum())
        found["of"] = active.numel()
    return found


def by_number(codes: Tensor, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """What a measure makes of each number of all codes, (N, *code): it is given columns of them in float64, (N, d)."""
    flat = codes.flatten(1)
    return torch.cat([measure(part.double()) for part in flat.split(max(1, AT_ONCE // len(flat)), 1)])


def variance(z: Tensor) -> Tensor:
    """Of each column, a measure for ``by_number``."""
    return z.var(0, correction=0)


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


def _few(codes: Tensor) -> Tensor:
    """All of them, or as many as bound the memory that copies of them take."""
    most = max(1, protocol.NUMBERS // codes[0].numel())
    return codes if len(codes) <= most else codes[torch.linspace(0, len(codes) - 1, most).long()]


def _sample(like: Tensor, prior: Regularizer | None, generator: torch.Generator) -> Tensor:
    if prior is None:
        return torch.randn(like.shape, generator=generator)
    return prior.sample(len(like), generator).float()


def _summary(values: Tensor) -> dict[str, float]:
    return {"min": values.min().item(), "median": values.median().item(), "max": values.max().item()}
