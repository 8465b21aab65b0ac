"""The KL divergence estimated from the one code that was drawn, with two gradients for the same number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.errors import TrainingError
from zoo.interfaces import Place, Regularizer, RoundTrip

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.posterior import Posterior


class MonteCarlo(Regularizer):
    """log q(z) - log p(z) at the drawn code, with the total derivative: the plain Monte-Carlo estimate of ``kl``.

    Per image the sum over the code of z^2/2 - epsilon^2/2 - log sigma, where z = mu + sigma epsilon; in nats. Its
    expectation is ``posterior.kl()`` for all three kinds of noise: each element of the code counts with its own
    marginal, so for ``"shared"`` noise it is an estimate of the same surrogate, and has a larger variance because the
    pixels of a feature move together. Gradients: d/dmu = z, d/dsigma = epsilon z - 1/sigma.

    The code must be a draw from the posterior (``posterior.sample()``), not its mean.

    Args:
        weight: 1 makes the objective an estimate of the negative evidence lower bound.
        warmup: the weight rises to its full size over this part of the level's budget, in a straight line.
        tau: or as 1 - exp(-t / tau), t in steps.
        balance: the weight is multiplied by the running mean of the reconstruction over that of this number; this is
            the decay of the means, as 0.9.

    Raises:
        TrainingError: the trip's posterior is a point.

    Source: Kingma and Welling (2014), equation 6.
    """

    source = "Kingma, D. P. and Welling, M. (2014). Auto-Encoding Variational Bayes. ICLR. arXiv:1312.6114"
    positional = "weight"
    posterior = "gaussian"

    def __init__(
        self, place: Place, *, weight: float = 1.0, warmup: float = 0.0, tau: float = 0.0, balance: float = 0.0
    ) -> None:
        super().__init__(place, weight, warmup=warmup, tau=tau, balance=balance)

    def forward(self, trip: RoundTrip) -> Tensor:
        """The estimate, nats per image."""
        z, posterior = trip.z.float(), _gaussian(trip.posterior)
        std = posterior.std
        # As a function of mu and sigma the draw's epsilon is a constant: detached, its exact gradient of zero is exact.
        epsilon = ((z - posterior.mean) / std).detach()
        return _per_image(z.square() / 2 - epsilon.square() / 2 - std.log())


class StickingTheLanding(Regularizer):
    """The number of ``mc`` with the path derivative: log q takes its parameters detached.

    The score of q, whose expectation is zero, is dropped from the gradient. What remains vanishes when q is the prior,
    draw by draw, where that of ``mc`` is noise. Gradients: d/dmu = z - epsilon/sigma, d/dsigma = epsilon
    (z - epsilon/sigma). Noise, draws and units are as for ``mc``.

    Args:
        weight: 1 makes the objective an estimate of the negative evidence lower bound.
        warmup: the weight rises to its full size over this part of the level's budget, in a straight line.
        tau: or as 1 - exp(-t / tau), t in steps.
        balance: the weight is multiplied by the running mean of the reconstruction over that of this number; this is
            the decay of the means, as 0.9.

    Raises:
        TrainingError: the trip's posterior is a point.

    Source: Roeder, Wu and Duvenaud (2017), the path derivative.
    """

    source = (
        "Roeder, G., Wu, Y. and Duvenaud, D. (2017). Sticking the Landing: Simple, Lower-Variance Gradient Estimators "
        "for Variational Inference. NeurIPS. arXiv:1703.09194"
    )
    positional = "weight"
    posterior = "gaussian"

    def __init__(
        self, place: Place, *, weight: float = 1.0, warmup: float = 0.0, tau: float = 0.0, balance: float = 0.0
    ) -> None:
        super().__init__(place, weight, warmup=warmup, tau=tau, balance=balance)

    def forward(self, trip: RoundTrip) -> Tensor:
        """The estimate, nats per image."""
        z, fixed = trip.z.float(), _gaussian(trip.posterior).detach()
        std = fixed.std
        return _per_image(z.square() / 2 - ((z - fixed.mean) / std).square() / 2 - std.log())


def _gaussian(posterior: Posterior) -> Posterior:
    """The posterior in float32, if it is one to draw from."""
    if posterior.logvar is None:
        raise TrainingError(
            "mc and stl need a draw, but this posterior is a point: its stage wants posterior='gaussian'"
        )
    return posterior.float()


def _per_image(elements: Tensor) -> Tensor:
    return elements.flatten(1).sum(1).mean()
