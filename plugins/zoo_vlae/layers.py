"""The layers that a ladder is made of, as the paper has them and as the SELU network has them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Literal, Protocol

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo_vlae.steps import Map, Run, Step

Norm = Literal["layer", "batch", "none"]


class Layers(Protocol):
    """What encoder and decoder ask of a style."""

    def trunk(self, runs: Sequence[Run]) -> list[nn.Module]:
        """For every rung the way from what the rung before it reads to what it reads."""

    def features(self, run: Run) -> tuple[nn.Module, int]:
        """From what a rung reads to a vector, and how long that is."""

    def entry(self, width: int, outputs: Map) -> nn.Module:
        """From a rung's numbers, (B, width), to the map at which they enter the decoder."""

    def rise(self, run: Run, channels: int, *, last: bool) -> nn.Module:
        """A run of steps back up, from a map with so many channels; the last one ends in bare numbers."""


@dataclass(frozen=True)
class PaperLayers:
    """Zhao, Song and Ermon (2017): leaky ReLUs on the way down, ReLUs on the way up, each behind a normalisation.

    A rung has convolutions of its own: it reads what the trunk reads, and shares no weight with it.

    Args:
        norm: of every layer; the paper's is ``batch``.
    """

    norm: Norm

    def trunk(self, runs: Sequence[Run]) -> list[nn.Module]:
        """Nothing before the first rung, which reads the input itself."""
        return [nn.Identity(), *(self._down(run) for run in runs[:-1])]

    def features(self, run: Run) -> tuple[nn.Module, int]:
        """The same steps as the trunk's, flattened."""
        return nn.Sequential(self._down(run), nn.Flatten()), prod(run[-1].outputs)

    def entry(self, width: int, outputs: Map) -> nn.Module:
        """One dense layer."""
        return nn.Sequential(
            nn.Linear(width, prod(outputs)), nn.Unflatten(1, outputs), self._normalisation(outputs[0]), nn.ReLU()
        )

    def rise(self, run: Run, channels: int, *, last: bool) -> nn.Module:
        """Transposed convolutions and dense layers."""
        layers: list[nn.Module] = []
        for step in reversed(run):
            layers.append(up(step, channels))
            channels = step.inputs[0]
            if not (last and step is run[0]):
                layers += [self._normalisation(channels), nn.ReLU()]
        return nn.Sequential(*layers)

    def _down(self, run: Run) -> nn.Module:
        layers: list[nn.Module] = []
        for step in run:
            layers += [down(step), self._normalisation(step.outputs[0]), nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers)

    def _normalisation(self, channels: int) -> nn.Module:
        if self.norm == "layer":
            return nn.GroupNorm(1, channels)
        return nn.BatchNorm2d(channels) if self.norm == "batch" else nn.Identity()


@dataclass(frozen=True)
class SeluLayers:
    """Self-normalising: SELUs and alpha dropout, weights of gain 1 (Klambauer et al. 2017). Rungs share the trunk.

    Args:
        hidden: features of a rung's own dense layers.
        dropout: of a rung's features, while training.
    """

    hidden: int
    dropout: float

    def trunk(self, runs: Sequence[Run]) -> list[nn.Module]:
        """One run of convolutions before every rung."""
        return [nn.Sequential(*(layer for step in run for layer in (gain_one(down(step)), nn.SELU()))) for run in runs]

    def features(self, run: Run) -> tuple[nn.Module, int]:
        """One kernel over the whole map, then one dense layer."""
        layers = nn.Sequential(
            nn.Flatten(),
            gain_one(nn.Linear(prod(run[-1].outputs), self.hidden)),
            nn.AlphaDropout(self.dropout),
            gain_one(nn.Linear(self.hidden, self.hidden)),
            nn.SELU(),
        )
        return layers, self.hidden

    def entry(self, width: int, outputs: Map) -> nn.Module:
        """Two dense layers, then one kernel over the whole map."""
        return nn.Sequential(
            gain_one(nn.Linear(width, self.hidden)),
            nn.SELU(),
            nn.AlphaDropout(self.dropout),
            gain_one(nn.Linear(self.hidden, self.hidden)),
            nn.SELU(),
            nn.Unflatten(1, (self.hidden, 1, 1)),
            gain_one(nn.ConvTranspose2d(self.hidden, outputs[0], outputs[1:])),
            nn.SELU(),
        )

    def rise(self, run: Run, channels: int, *, last: bool) -> nn.Module:
        """Transposed convolutions."""
        layers: list[nn.Module] = []
        for step in reversed(run):
            layer = transposed(step, channels)
            layers += [layer] if last and step is run[0] else [gain_one(layer), nn.SELU()]
            channels = step.inputs[0]
        return nn.Sequential(*layers)


def down(step: Step) -> nn.Module:
    """The step's convolution; as a dense layer where it is one, which is faster."""
    if step.dense:
        features = step.outputs[0]
        return nn.Sequential(nn.Flatten(), nn.Linear(prod(step.inputs), features), nn.Unflatten(1, (features, 1, 1)))
    return nn.Conv2d(step.inputs[0], step.outputs[0], step.kernel, step.stride, step.padding)


def up(step: Step, channels: int) -> nn.Module:
    """The way back, from a map of the step's sides with so many channels; dense where the step is."""
    if step.dense:
        return nn.Sequential(nn.Flatten(), nn.Linear(channels, prod(step.inputs)), nn.Unflatten(1, step.inputs))
    return transposed(step, channels)


def transposed(step: Step, channels: int) -> nn.Module:
    """The way back as a transposed convolution, whose bias is one number a channel."""
    return nn.ConvTranspose2d(channels, step.inputs[0], step.kernel, step.stride, step.padding, step.spare)


def gain_one(module: nn.Module) -> nn.Module:
    """The module, its weights drawn so that a SELU keeps mean 0 and variance 1: He et al. (2015) with gain 1."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    return module
