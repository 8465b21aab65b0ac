"""The default reconstruction: a Gaussian whose variance is always the best one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch.nn.functional as F

from zoo.interfaces import Place, Reconstruction, RoundTrip
from zoo_losses.pixelwise import compared

if TYPE_CHECKING:
    from torch import Tensor

# The variance of rounding to 8 bits. Nothing an image file says is finer; and the gradient, which grows as 1 / error,
# stays bounded for a network that becomes exact. On unit-scale codes it is about a millionth of their variance.
FLOOR = 1 / (12 * 255**2)


class CalibratedGaussian(Reconstruction):
    """Negative log-likelihood of a Gaussian with one variance for all elements, the best one for the batch.

    With D elements in an image and mse the mean over the elements of the whole batch, the best variance is mse and
    the number is D/2 (log(2 pi mse) + 1), nats per image; negative once mse < 1/(2 pi e) = 0.0585. The variance is
    never less than that of rounding to 8 bits, v = 1.28e-6: below it the number is the likelihood at v,
    D/2 (log(2 pi v) + mse/v), which goes on smoothly. Nothing is learned and nothing remembered: in evaluation too the
    variance is the batch's own.

    Because the variance follows the error, a regularizer in nats keeps its meaning at any image size and code width.

    Args:
        weight: 1 for the likelihood.

    Raises:
        TrainingError: x and x_hat differ in shape.

    Source: Rybkin, Daniilidis and Levine (2021), the optimal sigma-VAE.
    """

    source = (
        "Rybkin, O., Daniilidis, K. and Levine, S. (2021). Simple and Effective VAE Training with Calibrated Decoders. "
        "ICML. arXiv:2006.13202"
    )
    positional = "weight"

    def __init__(self, place: Place, *, weight: float = 1.0) -> None:
        super().__init__(place, weight)

    def forward(self, trip: RoundTrip) -> Tensor:
        """The likelihood at the batch's own variance, nats per image."""
        x, x_hat = compared(trip)
        mse = F.mse_loss(x_hat, x)
        variance = mse.clamp(min=FLOOR)
        return x[0].numel() / 2 * ((2 * math.pi * variance).log() + mse / variance)
