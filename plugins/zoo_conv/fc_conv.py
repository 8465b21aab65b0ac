"""A fully connected autoencoder written as convolutions whose kernels are as large as the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from zoo.errors import SpecError
from zoo.interfaces import Place, Stage
from zoo.posterior import Posterior, log_variance

if TYPE_CHECKING:
    from torch import Tensor


class WholeImage(Stage):
    """Two layers each way, the outer ones convolutions with a kernel as large as the input: ``fc_conv10``.

    Down: a kernel over the whole image to ``down`` features, ReLU, and 1x1 kernels to the code's mean and log variance.
    Up: 1x1 to ``up`` features, ReLU, a transposed kernel over the whole image, and for images a sigmoid. So it is a
    fully connected network whose last layer has one bias a channel. On 28x28x1 with a code of 10, a prior and the
    default widths it has 119,591 parameters. It starts at random, with no linear path: ``fc`` has one, and is better.

    Args:
        place: where it stands.
        down: features between the image and the code.
        up: features between the code and the image.
        standardise: the encoder sees images, or codes, less the mean and over the deviation of those it is trained on.
        overcomplete: allow a code with more numbers than its input.
    """

    source: ClassVar[str] = (
        "Fashion-MNIST VAE (2018), post 'A VAE in a nutshell' and its code. Fully connected layers as convolutions: "
        "Long, Shelhamer and Darrell (2015), arXiv:1411.4038."
    )
    exportable: ClassVar[bool] = True
    compilable: ClassVar[bool] = True

    def __init__(
        self, place: Place, *, down: int = 32, up: int = 118, standardise: bool = False, overcomplete: bool = False
    ) -> None:
        if place.code_shape is None or len(place.code_shape) != 1:
            raise SpecError("fc_conv wants the width of its code, as in fc_conv10")
        if len(place.input_shape) != 3:
            raise SpecError(f"fc_conv takes images and maps; its input here is a vector of {place.input_shape[0]}")
        if min(down, up) < 1:
            raise SpecError(f"down={down}, up={up}: at least one feature each way")
        (code,), (channels, height, width) = place.code_shape, place.input_shape
        if code > channels * height * width and not overcomplete:
            raise SpecError(
                f"a code of {code} numbers is larger than its input of {channels * height * width}; if you mean it, "
                "say overcomplete=true"
            )
        super().__init__(place, place.code_shape)
        kernel = (height, width)
        self.encoder: nn.Module = _Down(
            channels, kernel, down, code, gaussian=place.posterior == "gaussian", standardise=standardise
        )
        self.decoder: nn.Module = nn.Sequential(
            nn.ConvTranspose2d(code, up, 1), nn.ReLU(), _FromFeatures(up, channels, kernel)
        )

    def encode(self, x: Tensor) -> Posterior:
        """(B, C, H, W) to a posterior over (B, code)."""
        self.check_input(x)
        return Posterior(*self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        """(B, code) to (B, C, H, W): pixels within [0, 1], codes of any size."""
        x_hat: Tensor = self.decoder(z[:, :, None, None])
        return torch.sigmoid(x_hat) if self.place.pixels else x_hat

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Take the mean and the deviation of x, (N, C, H, W), where inputs are standardised."""
        if isinstance(self.encoder, _Down) and self.encoder.standardise:
            self.encoder.mean_of_inputs.copy_(x.mean())
            self.encoder.deviation_of_inputs.copy_(x.std().clamp_min(1e-6))


class _ToFeatures(nn.Conv2d):
    """A kernel over the whole input, (B, C, H, W) to (B, F, 1, 1), as the matrix that it is: 40 times as fast."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None]


class _FromFeatures(nn.ConvTranspose2d):
    """The way back, (B, F, 1, 1) to (B, C, H, W)."""

    def forward(self, y: Tensor, output_size: list[int] | None = None) -> Tensor:
        x_hat: Tensor = (y.flatten(1) @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])
        return x_hat if self.bias is None else x_hat + self.bias[:, None, None]


class _Down(nn.Module):
    mean_of_inputs: Tensor
    deviation_of_inputs: Tensor

    def __init__(
        self, channels: int, kernel: tuple[int, int], width: int, code: int, *, gaussian: bool, standardise: bool
    ) -> None:
        super().__init__()
        self.standardise = standardise
        if standardise:
            self.register_buffer("mean_of_inputs", torch.zeros(()))
            self.register_buffer("deviation_of_inputs", torch.ones(()))
        self.trunk = nn.Sequential(_ToFeatures(channels, width, kernel), nn.ReLU())
        self.mean = nn.Conv2d(width, code, 1)
        self.logvar = nn.Conv2d(width, code, 1) if gaussian else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.standardise:
            x = (x - self.mean_of_inputs) / self.deviation_of_inputs
        y = self.trunk(x)
        mean = self.mean(y).flatten(1)
        return mean, None if self.logvar is None else log_variance(self.logvar(y).flatten(1))
