"""Critics of codes: networks that give each code one logit."""

from __future__ import annotations

import torch
from torch import nn


def dense(size: int, depth: int, width: int, *, start: float = 0.0) -> nn.Sequential:
    """Codes of ``size`` numbers, (B, *code), to logits, (B, 1), by ``depth`` hidden layers with ReLU.

    Args:
        size: of one code, whatever its shape.
        depth: hidden layers.
        width: numbers in each.
        start: what logits are about before the first step.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in [size] + [width] * (depth - 1):
        layers += [nn.Linear(inputs, width), nn.ReLU()]
    last = nn.Linear(width, 1)
    with torch.no_grad():
        last.bias.add_(start)
    return nn.Sequential(*layers, last)
