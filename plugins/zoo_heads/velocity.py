"""The velocity of a flow: exact for a Gaussian, and a residual network for all that is not Gaussian."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import nn

from zoo_heads.normal import covariance

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.interfaces import Shape

WAVES, HIGHEST = 64, 1000.0
"""Frequencies that a time in [0, 1] is told in, from 1 to nearly 1,000 per unit."""
BITS = 10
"""Of a label: 1,024 classes can be told apart."""
CODES_AT_ONCE = 2**24
"""Numbers of codes that a Gaussian is fitted to, at most: 34,000 codes of 490 numbers."""


class Gaussian(nn.Module):
    """The velocity of the straight path from N(0, I) to a Gaussian with mean m and covariance S.

    E[x_1 - x_0 | x_t = x] = m + (t S - (1 - t) I) (t^2 S + (1 - t)^2 I)^-1 (x - t m), along the principal axes of S.
    Until ``fit`` it is that to N(0, I).
    """

    center: Tensor
    axes: Tensor
    variances: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("axes", torch.eye(size))
        self.register_buffer("variances", torch.ones(size))

    @property
    def fitted(self) -> bool:
        """Whether it is that of some codes."""
        return bool(self.center.any())

    def fit(self, codes: Tensor) -> None:
        """To codes (N, *shape); in float64 on the CPU, so every machine finds the same."""
        points = codes[: max(2, CODES_AT_ONCE // len(self.center))].flatten(1).cpu().double()
        mean = points.mean(0)
        variances, axes = torch.linalg.eigh(covariance(points - mean))
        self.center.copy_(mean)
        self.axes.copy_(axes)
        self.variances.copy_(variances)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """At codes x, (B, *shape), and times t, (B,): (B, *shape) in float32."""
        with torch.autocast(x.device.type, enabled=False):
            t = t[:, None]
            along = (x.flatten(1).float() - t * self.center) @ self.axes
            pull = (t * self.variances - (1 - t)) / (t.square() * self.variances + (1 - t).square())
            return (self.center + (pull * along) @ self.axes.T).reshape(x.shape)


class Network(nn.Module):
    """A residual network of codes x and times t: convolutions on maps, dense layers on all else. It starts at zero.

    Args:
        shape: of one code.
        width: features.
        blocks: of two layers each.
        classes: it is told labels too.
    """

    def __init__(self, shape: Shape, *, width: int, blocks: int, classes: bool) -> None:
        super().__init__()
        self.dense = len(shape) != 3
        layer = nn.Linear if self.dense else partial(nn.Conv2d, kernel_size=3, padding=1)
        features = prod(shape) if self.dense else shape[0]
        self.time = _perceptron(2 * WAVES, width)
        self.label = _perceptron(BITS, width) if classes else None
        self.enter = layer(features, width)
        self.blocks = nn.ModuleList(Block(width, layer) for _ in range(blocks))
        self.leave = nn.Sequential(nn.GroupNorm(1, width), nn.SiLU(), _zeroed(layer(width, features)))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, *shape); labels are (B,), -1 for none."""
        told = self.time(waves(t))
        if self.label is not None and labels is not None:
            told = told + self.label(bits(labels)) * (labels >= 0)[:, None]
        h = self.enter(x.flatten(1) if self.dense else x)
        for block in self.blocks:
            h = block(h, told)
        y: Tensor = self.leave(h)
        return y.reshape(x.shape)


class Block(nn.Module):
    """Two layers added to their input; what is told scales and shifts before them and gates after, from a gate of 0.

    Peebles and Xie (2023), Scalable Diffusion Models with Transformers, arXiv:2212.09748 (adaLN-Zero).
    """

    def __init__(self, width: int, layer: partial[nn.Conv2d] | type[nn.Linear]) -> None:
        super().__init__()
        self.told = nn.Sequential(nn.SiLU(), _zeroed(nn.Linear(width, 3 * width)))
        self.norm = nn.GroupNorm(1, width, affine=False)
        self.layers = nn.Sequential(layer(width, width), nn.SiLU(), layer(width, width))

    def forward(self, h: Tensor, told: Tensor) -> Tensor:
        """h, (B, width) or (B, width, H, W), to the same; told is (B, width)."""
        told = self.told(told)
        shift, scale, gate = told.reshape(*told.shape, *(1,) * (h.ndim - 2)).chunk(3, 1)
        y: Tensor = h + gate * self.layers(self.norm(h) * (1 + scale) + shift)
        return y


def waves(t: Tensor) -> Tensor:
    """Times (B,) as cosines and sines, (B, 2 * WAVES)."""
    frequencies = HIGHEST ** (torch.arange(WAVES, device=t.device) / WAVES)
    angles = t[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)


def bits(labels: Tensor) -> Tensor:
    """Labels (B,) as their binary digits, (B, BITS), of 1 and -1, the lowest first.

    So nothing depends on how many classes there are, which a spec does not say. Chen, Zhang and Hinton (2023),
    Analog Bits, arXiv:2208.04202.

    >>> bits(torch.tensor([5]))[:, :4].tolist()
    [[1.0, -1.0, 1.0, -1.0]]
    """
    return 2.0 * (labels[:, None] >> torch.arange(BITS, device=labels.device) & 1) - 1


def _perceptron(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))


def _zeroed(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
