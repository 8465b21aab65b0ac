"""The regularizer `laplace`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import torch

from zoo import Place, Regularizer, RoundTrip
from zoo.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.interfaces import PosteriorKind

SCALE = math.sqrt(1 / 2)  # of a Laplace distribution with variance 1: |z| / SCALE is its exponent


class Laplace(Regularizer):
    """Kullback-Leibler divergence of the posterior to independent Laplace distributions of variance 1.

    Like ``kl``, with a prior that has a peak and long tails: most features are near nothing, a few are large, as the
    cosine coefficients of photographs are. Per image the sum over the code of
    log(2 b) + E|z| / b - (1 + log(2 pi sigma^2)) / 2, b = sqrt(1/2), in nats, where E|z| is the mean of the folded
    normal distribution, sigma sqrt(2 / pi) exp(-mu^2 / 2 sigma^2) + mu erf(mu / (sigma sqrt(2))).

    Args:
        place: where it stands.
        weight: 1 makes the objective the negative evidence lower bound.

    Raises:
        TrainingError: the trip's posterior is a point.
    """

    source: ClassVar[str] = (
        "Leone, F. C., Nelson, L. S. and Nottingham, R. B. (1961). The Folded Normal Distribution. Technometrics 3(4). "
        "The prior: Reininger, R. C. and Gibson, J. D. (1983). Distributions of the Two-Dimensional DCT Coefficients "
        "for Images. IEEE Transactions on Communications 31(6)"
    )
    positional: ClassVar[str | None] = "weight"
    posterior: ClassVar[PosteriorKind] = "gaussian"

    def __init__(self, place: Place, *, weight: float = 1.0) -> None:
        super().__init__(place, weight)

    def forward(self, trip: RoundTrip) -> Tensor:
        """The divergence, nats per image."""
        posterior = trip.posterior.float()
        if posterior.logvar is None:
            raise TrainingError("laplace needs a deviation, but this posterior is a point")
        mean, std = posterior.mean, posterior.std.clamp_min(torch.finfo(torch.float32).tiny)
        size = _folded_mean(mean, std)
        number = math.log(2 * SCALE) + size / SCALE - (1 + math.log(2 * math.pi)) / 2 - std.log()
        return number.flatten(1).sum(1).mean()

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n codes from the prior, (n, *code), on the CPU: a random sign times an exponential distance."""
        shape = (n, *(self.place.code_shape or ()))
        distance = torch.empty(shape).exponential_(1 / SCALE, generator=generator)
        return distance * (2 * torch.randint(0, 2, shape, generator=generator) - 1)


def _folded_mean(mean: Tensor, std: Tensor) -> Tensor:
    """The mean of the absolute value of a normal variable."""
    # Through the ratio the derivatives of the two addends cancel exactly. Detached, they also do where it overflows.
    ratio = (mean / std).detach()
    return std * math.sqrt(2 / math.pi) * (-ratio.square() / 2).exp() + mean * torch.erf(ratio / math.sqrt(2))
