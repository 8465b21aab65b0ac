"""A fully connected autoencoder, on images, maps or vectors."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from zoo.errors import SpecError
from zoo.interfaces import Place, Stage
from zoo.outputs import probability
from zoo.posterior import Posterior, log_variance
from zoo_conv.blocks import zeroed
from zoo_conv.projection import fit_vectors, settled_components

if TYPE_CHECKING:
    from torch import Tensor


class FullyConnected(Stage):
    """Dense layers beside a linear path that starts as PCA: ``fc8`` codes its input, whatever its shape, in 8 numbers.

    Args:
        place: where it stands.
        hidden: widths of the hidden layers of the encoder; the decoder's are the same in reverse.
        linear: the linear path; without it this is the plain multilayer perceptron.
        overcomplete: allow a code with more numbers than its input.
    """

    source: ClassVar[str] = (
        "Hinton and Salakhutdinov (2006), Reducing the dimensionality of data with neural networks, Science 313. "
        "Linear path: Baldi and Hornik (1989), Neural Networks and Principal Component Analysis."
    )
    exportable: ClassVar[bool] = True
    compilable: ClassVar[bool] = True

    def __init__(
        self,
        place: Place,
        *,
        hidden: tuple[int, ...] = (512, 512),
        linear: bool = True,
        overcomplete: bool = False,
    ) -> None:
        if place.code_shape is None or len(place.code_shape) != 1:
            raise SpecError("fc wants the width of its code, as in fc8")
        if min(hidden, default=1) < 1:
            raise SpecError("hidden is a list of widths, which are at least 1, as in hidden=[512, 512]")
        inputs, (code,) = prod(place.input_shape), place.code_shape
        if code > inputs and not overcomplete:
            raise SpecError(
                f"a code of {code} numbers is larger than its input of {inputs}; if you mean it, say overcomplete=true"
            )
        super().__init__(place, place.code_shape)
        self.encoder: nn.Module = _Encoder(inputs, hidden, code, gaussian=place.posterior == "gaussian", linear=linear)
        self.decoder: nn.Module = _Decoder(code, hidden[::-1], inputs, linear=linear)
        self.settled = settled_components(place, self.encoder)

    def encode(self, x: Tensor) -> Posterior:
        """(B, *input) to a posterior over (B, code)."""
        self.check_input(x)
        return Posterior(*self.encoder(self._normalised(x)))

    def decode(self, z: Tensor) -> Tensor:
        """(B, code) to (B, *input), pixels about [0, 1] and not clamped."""
        x_hat: Tensor = self.decoder(z).unflatten(1, self.input_shape)
        if self.place.output == "sigmoid":
            return probability(x_hat)
        return (x_hat + 1) / 2 if self.place.pixels else x_hat

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Start the linear path as the principal components of x, (N, *input)."""
        analysis, synthesis = self.encoder.linear, self.decoder.linear
        if isinstance(analysis, nn.Linear) and isinstance(synthesis, nn.Linear):
            fit_vectors(analysis, synthesis, self._normalised(x))

    def _normalised(self, x: Tensor) -> Tensor:
        return (x * 2 - 1 if self.place.pixels else x).flatten(1)


class _Encoder(nn.Module):
    def __init__(self, inputs: int, hidden: tuple[int, ...], code: int, *, gaussian: bool, linear: bool) -> None:
        super().__init__()
        self.trunk = _layers(inputs, hidden)
        width = hidden[-1] if hidden else inputs
        self.mean = zeroed(nn.Linear(width, code)) if linear else nn.Linear(width, code)
        self.linear = nn.Linear(inputs, code) if linear else None
        self.logvar = zeroed(nn.Linear(width, code)) if gaussian else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        y = self.trunk(x)
        mean = self.mean(y) if self.linear is None else self.mean(y) + self.linear(x)
        return mean, None if self.logvar is None else log_variance(self.logvar(y))


class _Decoder(nn.Module):
    def __init__(self, code: int, hidden: tuple[int, ...], outputs: int, *, linear: bool) -> None:
        super().__init__()
        self.trunk = _layers(code, hidden)
        width = hidden[-1] if hidden else code
        self.last = zeroed(nn.Linear(width, outputs)) if linear else nn.Linear(width, outputs)
        self.linear = nn.Linear(code, outputs) if linear else None

    def forward(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.last(self.trunk(z))
        return x_hat if self.linear is None else x_hat + self.linear(z)


def _layers(inputs: int, hidden: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.SiLU()]
        inputs = width
    return nn.Sequential(*layers)
