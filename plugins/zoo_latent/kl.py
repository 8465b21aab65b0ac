"""The regularizer of the variational autoencoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.interfaces import Place, Regularizer, RoundTrip

if TYPE_CHECKING:
    from torch import Tensor


class KL(Regularizer):
    """Kullback-Leibler divergence of the posterior to N(0, I), in closed form, averaged over the batch.

    Per image the sum over the code of (sigma^2 + mu^2 - 1 - log sigma^2) / 2, in nats. With ``noise="feature"`` the
    deviation of a feature counts once for every pixel; with ``"shared"`` the true divergence is infinite and this is
    its surrogate, which treats the pixels' draws as independent.

    Args:
        weight: 1 makes the objective the negative evidence lower bound; above 1 it is the beta of a beta-VAE.
        warmup: the weight rises to its full size over this part of the level's budget, in a straight line.
        tau: or as 1 - exp(-t / tau), t in steps.
        balance: the weight is multiplied by the running mean of the reconstruction over that of this number; this is
            the decay of the means, as 0.9.

    Raises:
        ZooError: the trip's posterior is a point.

    Source: Kingma and Welling (2014), appendix B.
    """

    source = "Kingma, D. P. and Welling, M. (2014). Auto-Encoding Variational Bayes. ICLR. arXiv:1312.6114"
    positional = "weight"
    posterior = "gaussian"

    def __init__(
        self, place: Place, *, weight: float = 1.0, warmup: float = 0.0, tau: float = 0.0, balance: float = 0.0
    ) -> None:
        super().__init__(place, weight, warmup=warmup, tau=tau, balance=balance)

    def forward(self, trip: RoundTrip) -> Tensor:
        """The mean over the batch of ``posterior.kl()``, nats per image."""
        return trip.posterior.float().kl().mean()
