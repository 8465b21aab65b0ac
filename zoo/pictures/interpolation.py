"""From one image to another, through their codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.stack import Stack

AT_ONCE = 256  # codes that are decoded together


def between(stack: Stack, first: Tensor, last: Tensor, steps: int) -> Tensor:
    """Decoded codes between those of pairs of images, (pairs, C, H, W) each: (pairs, steps, C, H, W), on the CPU.

    The ways are arcs where the top level has a prior and a code that is no map, because the Gaussian's mass lies in
    a shell that a straight line would leave; otherwise straight.
    """
    a, b = stack.encode(first), stack.encode(last)
    ways = torch.linspace(0, 1, steps, device=a.device)
    way = arc if curved(stack) else torch.lerp
    codes = torch.stack([way(a.flatten(1), b.flatten(1), t) for t in ways], 1)
    decoded = torch.cat([stack.decode(part).cpu() for part in codes.reshape(-1, *a.shape[1:]).split(AT_ONCE)])
    return decoded.reshape(len(first), steps, *decoded.shape[1:])


def curved(stack: Stack) -> bool:
    """Whether the ways between codes are arcs."""
    many = torch.Size(stack.code_shape).numel() > 1
    return len(stack.code_shape) != 3 and many and stack.level(len(stack.levels)).prior is not None


def arc(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The point ``t`` of the way from a to b, (B, N) each, along the arc between them: Shoemake (1985).

    Directions turn evenly and lengths change evenly. Parallel or opposite codes, between which no arc is given, and a
    code of zeros are joined by a straight line.
    """
    lengths = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    tiny = torch.finfo(a.dtype).eps
    directions = a / lengths[0].clamp(min=tiny), b / lengths[1].clamp(min=tiny)
    angle = (directions[0] * directions[1]).sum(1, keepdim=True).clamp(-1, 1).acos()
    sine = angle.sin()
    turned = (((1 - t) * angle).sin() * directions[0] + (t * angle).sin() * directions[1]) / sine.clamp(min=tiny)
    bent = turned * torch.lerp(*lengths, t)
    usable = (sine > 1e-3) & (lengths[0] > tiny) & (lengths[1] > tiny)
    return torch.where(usable, bent, torch.lerp(a, b, t))
