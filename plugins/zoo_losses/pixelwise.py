"""Likelihoods that judge every element by itself, with nothing to estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from zoo.errors import TrainingError
from zoo.interfaces import Place, Reconstruction, RoundTrip

if TYPE_CHECKING:
    from torch import Tensor

# The nearest a probability may come to 0 or 1 before its logarithm: what torch.distributions uses in float32.
EDGE = torch.finfo(torch.float32).eps


class SquaredError(Reconstruction):
    """Sum of squared errors, averaged over the batch: no 1/2, no 1/D, no constant.

    It is the negative log-likelihood of a Gaussian of variance 1/2, less its constant: nats per image. The mean
    squared error of the tables is this number divided by the elements of an image.

    Args:
        weight: 0.5 is a Gaussian of unit variance; 0.05 is the convention of Tolstikhin et al. (2018).

    Raises:
        TrainingError: x and x_hat differ in shape.
    """

    source = (
        "Rumelhart, D. E., Hinton, G. E. and Williams, R. J. (1986). Learning representations by back-propagating "
        "errors. Nature 323"
    )
    positional = "weight"

    def __init__(self, place: Place, *, weight: float = 1.0) -> None:
        super().__init__(place, weight)

    def forward(self, trip: RoundTrip) -> Tensor:
        """Sum over an image of (x - x_hat)^2, averaged over the batch."""
        x, x_hat = compared(trip)
        return per_image((x - x_hat).square())


class AbsoluteError(Reconstruction):
    """Sum of absolute errors, averaged over the batch: no 1/D, no constant.

    It is the negative log-likelihood of a Laplace distribution of scale 1, less its constant D log 2: nats per image.

    Args:
        weight: the inverse of the scale.

    Raises:
        TrainingError: x and x_hat differ in shape.
    """

    source = (
        "Zhao, H., Gallo, O., Frosio, I. and Kautz, J. (2017). Loss Functions for Image Restoration with Neural "
        "Networks. IEEE TCI. arXiv:1511.08861"
    )
    positional = "weight"

    def __init__(self, place: Place, *, weight: float = 1.0) -> None:
        super().__init__(place, weight)

    def forward(self, trip: RoundTrip) -> Tensor:
        """Sum over an image of |x - x_hat|, averaged over the batch."""
        x, x_hat = compared(trip)
        return per_image((x - x_hat).abs())


class Bernoulli(Reconstruction):
    """Binary cross-entropy, summed over an image and averaged over the batch: nats per image.

    x_hat is a probability, out of a sigmoid. Before its logarithm it is kept 1.2e-7 away from 0 and 1, so one wrong
    certainty costs 16 nats. Targets between 0 and 1 are allowed, as everybody does; the number is then no longer the
    likelihood of a distribution over [0, 1] (Loaiza-Ganem and Cunningham, 2019, arXiv:1907.06845) and its least value
    is the targets' entropy, not 0.

    Args:
        weight: 1 for the likelihood of binary images.

    Raises:
        TrainingError: x and x_hat differ in shape.

    Source: Kingma and Welling (2014), appendix C.1.
    """

    source = "Kingma, D. P. and Welling, M. (2014). Auto-Encoding Variational Bayes. ICLR. arXiv:1312.6114"
    positional = "weight"
    output = "sigmoid"
    needs_pixels = True

    def __init__(self, place: Place, *, weight: float = 1.0) -> None:
        super().__init__(place, weight)

    def forward(self, trip: RoundTrip) -> Tensor:
        """Sum over an image of -x log x_hat - (1 - x) log(1 - x_hat), averaged over the batch."""
        x, x_hat = compared(trip)
        probability = x_hat.clamp(EDGE, 1 - EDGE)
        return per_image(-x * probability.log() - (1 - x) * (1 - probability).log())


def compared(trip: RoundTrip) -> tuple[Tensor, Tensor]:
    """Give x and x_hat in float32; unequal shapes would broadcast to a number of no meaning, so they are refused."""
    if trip.x.shape != trip.x_hat.shape:
        raise TrainingError(
            f"x has shape {tuple(trip.x.shape)} and x_hat {tuple(trip.x_hat.shape)}: "
            "a reconstruction compares equal shapes; does decode give back its stage's input shape?"
        )
    return trip.x.float(), trip.x_hat.float()


def per_image(elements: Tensor) -> Tensor:
    """(B, ...) to a scalar: summed over an image, averaged over the batch."""
    return elements.flatten(1).sum(1).mean()
