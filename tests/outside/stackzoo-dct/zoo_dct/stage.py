"""The stage `dct`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from zoo import Place, Posterior, Stage
from zoo.errors import SpecError
from zoo_dct.transform import Analysis, Synthesis

if TYPE_CHECKING:
    from torch import Tensor


class BlockDCT(Stage):
    """The cosine transform of square or oblong blocks, of which the lowest frequencies are kept. It learns nothing.

    ``dct4x4x64`` makes 8x8 blocks of a 32x32 image, JPEG's own, and keeps 64 numbers of each: all of a grey one,
    a third of one in colour. The transform is orthonormal, so an error in its code is as large as the error that it
    makes in the image. Channels are transformed each by itself; inputs are images or the maps of another stage, of any
    size the block divides.

    Args:
        place: where it stands; the code's shape is written, as in ``dct4x4x64``, and says how large a block is.

    Raises:
        SpecError: blocks that do not fit the input or have fewer coefficients than are asked for, or a term that
            needs a deviation: nothing here could learn one.
    """

    source: ClassVar[str] = (
        "Ahmed, N., Natarajan, T. and Rao, K. R. (1974). Discrete Cosine Transform. IEEE Transactions on Computers "
        "C-23(1). Order of the coefficients: Wallace, G. K. (1991). The JPEG Still Picture Compression Standard. "
        "Communications of the ACM 34(4)"
    )
    exportable: ClassVar[bool] = True
    compilable: ClassVar[bool] = True
    any_size: ClassVar[bool] = True

    def __init__(self, place: Place) -> None:
        if place.code_shape is None or len(place.code_shape) != 3 or len(place.input_shape) != 3:
            raise SpecError("dct codes images and maps, and wants the shape of its code, as in dct4x4x64")
        if place.posterior == "gaussian":
            raise SpecError("dct is fixed and has no deviation: put kl and its like on the level above it")
        (channels, *sides), (features, *blocks) = place.input_shape, place.code_shape
        if any(side % count for side, count in zip(sides, blocks, strict=True)):
            raise SpecError(f"{_words(sides)} does not divide into {_words(blocks)} blocks")
        height, width = (side // count for side, count in zip(sides, blocks, strict=True))
        most = channels * height * width
        if features > most:
            raise SpecError(f"a block of {height}x{width}x{channels} has {most} coefficients, {features} are asked for")
        super().__init__(place, place.code_shape)
        self.block = (height, width)
        self.encoder = Analysis(channels, self.block, features)
        self.decoder = Synthesis(channels, self.block, features)

    def encode(self, x: Tensor) -> Posterior:
        """Images (B, C, H, W) in [0, 1], or maps, to their coefficients (B, *code)."""
        height, width = self.block
        if x.ndim != 4 or x.shape[1] != self.input_shape[0] or x.shape[2] % height or x.shape[3] % width:
            raise SpecError(
                f"this stage takes (B, {self.input_shape[0]}, H, W) with H a multiple of {height} and W of {width}, "
                f"got {tuple(x.shape)}"
            )
        return Posterior(self.encoder(2 * x - 1 if self.place.pixels else x))

    def decode(self, z: Tensor) -> Tensor:
        """Coefficients (B, *code) to (B, C, H, W)."""
        x_hat: Tensor = self.decoder(z)
        if self.place.pixels:
            x_hat = (x_hat + 1) / 2
        return x_hat.clamp(0, 1) if self.place.output == "sigmoid" else x_hat


def _words(sides: list[int]) -> str:
    return "x".join(map(str, sides))
