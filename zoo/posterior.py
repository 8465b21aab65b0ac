"""What an encoder says of an input: a distribution over codes, or one code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch

from zoo.errors import ZooError

if TYPE_CHECKING:
    from torch import Tensor

Noise = Literal["local", "feature", "shared"]
"""How a deviation and its draws are laid over a code map: one per pixel and feature; one per feature with
independent draws; one per feature with one draw for all pixels."""
NOISES: tuple[Noise, ...] = get_args(Noise)

START_LOGVAR = -4.0
"""Where log variances start: noise of a seventh of the code's unit scale, so that a new level first learns to code."""

HIGHEST_LOGVAR = 2.0
"""What log variances stay below. More than the prior's 0 never pays, and its exponential is in the divergence: without
a bound one odd input among millions ends a run."""


@dataclass(frozen=True)
class Posterior:
    """A diagonal Gaussian over codes, or a single code where ``logvar`` is None.

    Args:
        mean: (B, *code).
        logvar: log of the variance, sigma = exp(logvar / 2): shaped as ``mean`` for ``noise="local"``, (B, C)
            for ``"feature"`` and ``"shared"``, whose code is (B, C, H, W), or (B, C). None makes a point.
        noise: see ``Noise``.

    >>> posterior = Posterior(torch.zeros(2, 3), torch.zeros(2, 3))
    >>> posterior.kl().tolist()
    [0.0, 0.0]
    """

    mean: Tensor
    logvar: Tensor | None = None
    noise: Noise = "local"

    def __post_init__(self) -> None:
        if self.noise not in NOISES:
            raise ZooError(f"noise={self.noise!r}: there are {', '.join(NOISES)}")
        if self.logvar is not None:
            wanted = self.mean.shape if self.noise == "local" else self.mean.shape[:2]
            if self.logvar.shape != wanted:
                raise ZooError(
                    f"noise={self.noise!r} wants logvar of shape {tuple(wanted)}, got {tuple(self.logvar.shape)}"
                )
            if self.noise != "local" and self.mean.ndim not in (2, 4):
                raise ZooError(
                    f"noise={self.noise!r} has a deviation for each feature of a map (B, C, H, W) or a vector (B, N), "
                    f"and the mean is {tuple(self.mean.shape)}: take 'local'"
                )

    @property
    def mode(self) -> Tensor:
        """The most likely code, (B, *code): the mean."""
        return self.mean

    @property
    def std(self) -> Tensor:
        """The standard deviation, expanded to (B, *code); zeros for a point."""
        if self.logvar is None:
            return torch.zeros_like(self.mean)
        return self._over_pixels((self.logvar / 2).exp()).expand_as(self.mean)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw one code per input, (B, *code), with gradients to mean and logvar (the reparametrisation trick)."""
        if self.logvar is None:
            return self.mean
        shape = self.logvar.shape if self.noise == "shared" else self.mean.shape
        epsilon = torch.randn(shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + self.std * self._over_pixels(epsilon)

    def kl(self) -> Tensor:
        """KL divergence to N(0, I) in nats per image, (B,): the sum of (sigma^2 + mu^2 - 1 - log sigma^2) / 2.

        For ``"shared"`` noise the draws of one feature are perfectly correlated, so the true divergence is infinite;
        this is then the surrogate that treats them as independent.
        """
        if self.logvar is None:
            raise ZooError("a point has no KL divergence: its stage was built with posterior='point'")
        excess = self._over_pixels(self.logvar.exp() - 1 - self.logvar).expand_as(self.mean)
        return (self.mean.square() + excess).flatten(1).sum(1) / 2

    def scaled(self, shift: Tensor, scale: Tensor) -> Posterior:
        """The posterior of ``(z - shift) / scale``; both shaped to broadcast over one code, (C, 1, 1) say."""
        mean = (self.mean - shift) / scale
        if self.logvar is None:
            return Posterior(mean)
        log_scale = 2 * scale.log()
        if self.noise != "local":
            log_scale = log_scale.flatten()
        return Posterior(mean, self.logvar - log_scale, self.noise)

    def repeated(self, times: int) -> Posterior:
        """The posteriors of inputs that are there so many times, one after each other."""
        logvar = None if self.logvar is None else self.logvar.repeat_interleave(times, 0)
        return Posterior(self.mean.repeat_interleave(times, 0), logvar, self.noise)

    def detach(self) -> Posterior:
        """The same posterior, cut from the graph."""
        return Posterior(self.mean.detach(), None if self.logvar is None else self.logvar.detach(), self.noise)

    def float(self) -> Posterior:
        """The same posterior in float32: what terms compute with, whatever the precision of the network."""
        if self.mean.dtype == torch.float32 and (self.logvar is None or self.logvar.dtype == torch.float32):
            return self
        return Posterior(self.mean.float(), None if self.logvar is None else self.logvar.float(), self.noise)

    def _over_pixels(self, value: Tensor) -> Tensor:
        """Let a (B, C) value broadcast over the pixels of a (B, C, ...) code."""
        return value.reshape(value.shape + (1,) * (self.mean.ndim - value.ndim))


def places(codes: Tensor) -> list[int]:
    """The axes of codes (B, *code) along which one feature repeats itself: the batch, and the pixels of a map.

    Only the features of a map, (B, C, H, W), stand at many places. Each number of a vector, (B, N), and of a ladder,
    (B, rungs, width), is a feature of its own: no weights are shared between them, and beside a number that is used
    stands one that is not, so they have a scale each.
    """
    return [0, 2, 3] if codes.ndim == 4 else [0]


def log_variance(raw: Tensor) -> Tensor:
    """The log variance that a layer's output stands for: ``START_LOGVAR`` at 0, and smoothly bounded above.

    >>> log_variance(torch.tensor([-10.0, 0.0, 1000.0])).round(decimals=2).tolist()
    [-14.0, -4.0, 2.0]
    """
    raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
    return HIGHEST_LOGVAR - torch.nn.functional.softplus(HIGHEST_LOGVAR - START_LOGVAR - raw)
