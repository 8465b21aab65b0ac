"""Another stage `conv`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from zoo import Place, Posterior, Stage
from zoo.errors import SpecError

if TYPE_CHECKING:
    from torch import Tensor


class OneConvolution(Stage):
    """One strided convolution there, and one transposed back: a map of patches that do not overlap.

    Args:
        place: where it stands; the code's shape is written, as in ``conv4x4x8``.
    """

    source: ClassVar[str] = (
        "Masci, J. et al. (2011). Stacked Convolutional Auto-Encoders for Hierarchical Feature Extraction. ICANN"
    )

    def __init__(self, place: Place) -> None:
        if place.code_shape is None or len(place.code_shape) != 3 or len(place.input_shape) != 3:
            raise SpecError("conv codes images and maps, and wants the shape of its code, as in conv4x4x8")
        if place.posterior == "gaussian":
            raise SpecError("this conv has no deviation")
        (channels, height, _), (features, rows, _) = place.input_shape, place.code_shape
        super().__init__(place, place.code_shape)
        self.encoder = nn.Conv2d(channels, features, height // rows, height // rows)
        self.decoder = nn.ConvTranspose2d(features, channels, height // rows, height // rows)

    def encode(self, x: Tensor) -> Posterior:
        """(B, C, H, W) to (B, *code)."""
        return Posterior(self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        """(B, *code) to (B, C, H, W)."""
        x_hat: Tensor = self.decoder(z)
        return x_hat.sigmoid() if self.place.output == "sigmoid" else x_hat
