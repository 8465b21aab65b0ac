"""The regularizer of the Wasserstein autoencoder that plays against a critic of codes."""

from __future__ import annotations

from math import log, pi, prod
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import softplus

from zoo.errors import SpecError
from zoo.interfaces import Place, Regularizer, RoundTrip
from zoo_adversarial.critics import dense

if TYPE_CHECKING:
    from torch import Tensor


class WAEGAN(Regularizer):
    """How little a critic believes that the codes are draws from N(0, I): -log D(q), averaged over the batch.

    D is the probability that it gives a code of being one. It learns in a turn of its own, to lower
    -log D(p) - log(1 - D(q)) for the codes q of the batch and as many draws p, from torch's global generator. The best
    critic's logit is the log of the ratio of the prior's density to that of all codes; then the number is the mean of
    log(1 + q(z) / p(z)), log 2 where the two are one. A map is one vector per image.

    Args:
        weight: chosen by measurement against the calibrated Gaussian reconstruction (docs/unit.md).
        depth: hidden layers of the critic.
        width: numbers in each.
        rate: the critic's learning rate, as a factor on the run's.
        trick: add log p(z) to the critic's logit, so that it only has to learn the density of the codes. Its last bias
            starts at the prior's entropy, so that logits start about 0.
        warmup: the weight rises to its full size over this part of the level's budget, in a straight line.
        tau: or as 1 - exp(-t / tau), t in steps.
        adaptive: after every so many steps the weight goes half of the way to the one at which the number would have
            counted as much as the reconstruction, which has to be an error: mse, mae, bernoulli or ssim.

    Raises:
        SpecError: numbers that mean nothing.

    Source: Tolstikhin et al. (2018), algorithm 1; in their code depth is 4, width 512 and the rate a half. The trick is
    theirs too, after Mescheder et al. (2017), arXiv:1701.04722; their code adds the densities of a whole batch to each
    of its logits, with the constant of one dimension.
    """

    source = (
        "Tolstikhin, I., Bousquet, O., Gelly, S. and Schoelkopf, B. (2018). Wasserstein Auto-Encoders. ICLR. "
        "arXiv:1711.01558"
    )
    positional = "weight"
    critic: nn.Module

    def __init__(
        self,
        place: Place,
        *,
        weight: float = 1.0,
        depth: int = 4,
        width: int = 256,
        rate: float = 0.5,
        trick: bool = False,
        warmup: float = 0.0,
        tau: float = 0.0,
        adaptive: int = 0,
    ) -> None:
        super().__init__(place, weight, warmup=warmup, tau=tau, adaptive=adaptive)
        if depth < 1 or width < 1 or rate <= 0:
            raise SpecError(f"depth={depth}, width={width}, rate={rate:g}: a critic has layers, and learns")
        size = prod(place.code_shape or ())
        entropy = size * (log(2 * pi) + 1) / 2
        self.critic = dense(size, depth, width, start=entropy if trick else 0.0)
        self.critic_rate = rate
        self.trick = trick

    def forward(self, trip: RoundTrip) -> Tensor:
        """-log D of the codes, nats per image."""
        return softplus(-self._logits(trip.z.float())).mean()

    def critic_loss(self, trip: RoundTrip) -> Tensor:
        """-log D of draws from the prior and -log(1 - D) of the codes, each averaged over the batch."""
        q = trip.z.float()
        true, false = self._logits(torch.cat([torch.randn_like(q), q])).chunk(2)
        return softplus(-true).mean() + softplus(false).mean()

    def _logits(self, z: Tensor) -> Tensor:
        """The critic's logits, (B, 1): log D - log(1 - D), in float32 also under autocast."""
        with torch.autocast(z.device.type, enabled=False):
            logits: Tensor = self.critic(z)
        if not self.trick:
            return logits
        flat = z.flatten(1)
        return logits - flat.square().sum(1, keepdim=True) / 2 - flat.shape[1] * log(2 * pi) / 2
