"""One Gaussian for all codes, fitted in closed form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from zoo.errors import EvaluationError, SpecError, TrainingError
from zoo.interfaces import Head, HeadBatch, Place

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 8192  # numbers per code: a covariance of 8192^2 is 256 MiB in the saved file
JITTER = 1e-6  # a millionth of a unit-scale code's variance: a code that never varies still has a factor


class Normal(Head):
    """A Gaussian with a full covariance over the codes below, fitted once in ``prepare``; it has no parameters.

    It makes any autoencoder generative in seconds. The covariance S of n codes with d numbers each is shrunk towards
    a multiple of the identity by the oracle-approximating factor, so that fewer codes than numbers are enough. Before
    ``prepare`` it is N(0, I).

    Raises:
        SpecError: a code of more than 8192 numbers, or a shape behind the name.
        TrainingError: ``prepare`` got fewer than two codes, or some that are not finite.

    Source: Ghosh et al. (2020), ex-post density estimation; the shrinkage is Chen et al. (2010), IEEE TSP
    58(10), equation 23.
    """

    source = (
        "Ghosh, P., Sajjadi, M. S. M., Vergari, A., Black, M. and Schoelkopf, B. (2020). From Variational to "
        "Deterministic Autoencoders. ICLR. arXiv:1903.12436"
    )

    mean: Tensor
    factor: Tensor

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        if place.code_shape is not None:
            raise SpecError("normal has the shape of the code below it and takes none of its own: write 'normal'")
        size = math.prod(place.input_shape)
        if size > LARGEST:
            code = "x".join(map(str, (*place.input_shape[1:], place.input_shape[0])))  # HxWxC, as the spec says it
            raise SpecError(
                f"normal keeps a covariance of {size}x{size} numbers for codes of {code}; the most it takes is "
                f"{LARGEST}x{LARGEST}: put it on a level with a smaller code"
            )
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("factor", torch.eye(size))

    def prepare(self, codes: Tensor, labels: Tensor | None = None) -> None:
        """Fit mean and covariance to codes, (N, *code); in float64 on the CPU, so every machine finds the same."""
        points = codes.detach().flatten(1).cpu().double()
        if len(points) < 2:
            raise TrainingError(f"normal fits a covariance and got {len(points)} code: give it at least 2")
        if not points.isfinite().all():
            raise TrainingError("normal got codes that are not finite: the level below it has diverged")
        mean = points.mean(0)
        self.mean.copy_(mean)
        self.factor.copy_(torch.linalg.cholesky(covariance(points - mean)))

    def loss(self, batch: HeadBatch) -> Tensor:
        """Negative log-likelihood of the codes, a scalar, nats per image."""
        residual = batch.codes.flatten(1).float() - self.mean
        white = torch.linalg.solve_triangular(self.factor, residual.T, upper=False)
        volume = self.factor.diagonal().log().sum()
        distance: Tensor = white.square().sum(0).mean() / 2
        return distance + volume + len(self.mean) / 2 * math.log(2 * math.pi)

    def sample(self, n: int, *, label: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Draw n codes, (n, *code); the noise is drawn where the generator lives, on the CPU without one."""
        if label is not None:
            raise EvaluationError(
                f"normal knows one Gaussian for all codes and cannot draw label {label}: sample without a label, or "
                "end the stack in a head that learns labels (`zoo list --kind head`)"
            )
        device = "cpu" if generator is None else generator.device
        noise = torch.randn((n, len(self.mean)), generator=generator, device=device).to(self.mean.device)
        with torch.autocast(self.mean.device.type, enabled=False):
            codes = self.mean + noise @ self.factor.T
        return codes.reshape(n, *self.place.input_shape)


def covariance(residual: Tensor) -> Tensor:
    """Covariance of centred points, (n, d) to (d, d), shrunk towards its mean variance so that it has an inverse."""
    n, d = residual.shape
    plain = residual.T @ residual / n
    squares, trace = plain.square().sum(), plain.trace()
    spread = (n + 1 - 2 / d) * (squares - trace**2 / d)  # 0 for one number, or when all directions are alike
    shrinkage = ((1 - 2 / d) * squares + trace**2) / spread if spread > 0 else torch.ones_like(trace)
    shrinkage = shrinkage.clamp(0, 1)
    shrunk = (1 - shrinkage) * plain
    shrunk.diagonal().add_(shrinkage * trace / d + JITTER)
    return shrunk
