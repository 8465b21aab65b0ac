"""The two halves of a ladder: an encoder that codes at every depth, and a decoder that takes each code at its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from zoo.posterior import log_variance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo_vlae.layers import Layers
    from zoo_vlae.steps import Map, Run

Merge = Literal["add", "concat", "gated"]

GATE = 0.1
"""Where gates start: the deeper rungs shape the image first."""


class LadderEncoder(nn.Module):
    """From a map to the means and log variances of all rungs, (B, rungs, width) each, the shallowest first.

    Args:
        runs: the steps between the rungs.
        width: numbers of a rung.
        layers: of the style.
        gaussian: there are log variances.
    """

    def __init__(self, runs: Sequence[Run], width: int, layers: Layers, *, gaussian: bool) -> None:
        super().__init__()
        self.trunk = nn.ModuleList(layers.trunk(runs))
        self.ladder = nn.ModuleList(Rung(*layers.features(run), width, gaussian=gaussian) for run in runs)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, C, H, W) to mean and log variance; None for points."""
        means, logvars = [], []
        for inference, rung in zip(self.trunk, self.ladder, strict=True):
            h = inference(h)
            mean, logvar = rung(h)
            means.append(mean)
            logvars.append(logvar)
        return torch.stack(means, 1), None if logvars[0] is None else torch.stack(logvars, 1)


class Rung(nn.Module):
    """What one rung says of the map that it reads. Its last layer is computed in float32 whatever the precision."""

    def __init__(self, features: nn.Module, count: int, width: int, *, gaussian: bool) -> None:
        super().__init__()
        self.features = features
        self.mean = nn.Linear(count, width)
        self.logvar = nn.Linear(count, width) if gaussian else None
        if self.logvar is not None:
            nn.init.zeros_(self.logvar.weight)
            nn.init.zeros_(self.logvar.bias)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, C, H, W) to mean and log variance, (B, width)."""
        y = self.features(h)
        with torch.autocast(h.device.type, enabled=False):
            y = y.to(self.mean.weight.dtype)
            return self.mean(y), None if self.logvar is None else log_variance(self.logvar(y))


class LadderDecoder(nn.Module):
    """From all rungs, (B, rungs, width), to a map: the deepest first, each joined where the trunk has its depth.

    Args:
        runs: the steps between the rungs.
        width: numbers of a rung.
        layers: of the style.
        merge: how a rung joins what comes from the deeper ones.
    """

    def __init__(self, runs: Sequence[Run], width: int, layers: Layers, merge: Merge) -> None:
        super().__init__()
        maps = [run[-1].outputs for run in runs]
        joined = [2 * channels if merge == "concat" else channels for channels, *_ in maps[:-1]] + [maps[-1][0]]
        self.enter = nn.ModuleList(layers.entry(width, outputs) for outputs in maps)
        self.join = nn.ModuleList(join(merge, outputs) for outputs in maps[:-1])
        self.rise = nn.ModuleList(
            layers.rise(run, channels, last=place == 0)
            for place, (run, channels) in enumerate(zip(runs, joined, strict=True))
        )

    def forward(self, z: Tensor) -> Tensor:
        """(B, rungs, width) to (B, C, H, W)."""
        *shallower, deepest = (enter(z[:, place]) for place, enter in enumerate(self.enter))
        s: Tensor = self.rise[-1](deepest)
        for place in reversed(range(len(shallower))):
            s = self.rise[place](self.join[place](s, shallower[place]))
        return s


class Add(nn.Module):
    """s + v."""

    def forward(self, s: Tensor, v: Tensor) -> Tensor:
        """Two maps to one of the same shape."""
        return s + v


class Concat(nn.Module):
    """s and v as channels side by side."""

    def forward(self, s: Tensor, v: Tensor) -> Tensor:
        """Two maps to one of all their channels."""
        return torch.cat([s, v], 1)


class Gated(nn.Module):
    """s + gate * v, with a gate for every number of the map that learns."""

    def __init__(self, shape: Map) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.full(shape, GATE))

    def forward(self, s: Tensor, v: Tensor) -> Tensor:
        """Two maps to one of the same shape."""
        return s + self.gate * v


def join(merge: Merge, shape: Map) -> nn.Module:
    """The module of this name."""
    return {"add": Add, "concat": Concat}[merge]() if merge != "gated" else Gated(shape)
