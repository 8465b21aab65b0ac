"""A convolutional autoencoder: images or maps to smaller maps, or through a dense bottleneck to a vector."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from zoo.errors import SpecError
from zoo.interfaces import Place, Stage
from zoo.outputs import probability
from zoo.posterior import Noise, Posterior
from zoo_conv import growing
from zoo_conv.blocks import Norm  # noqa: TC001 - `build` reads the annotations
from zoo_conv.networks import NETWORKS, Name, settle
from zoo_conv.plan import Plan
from zoo_conv.projection import PatchDecoder, PatchEncoder, fit_patches, fit_vectors, settled_components
from zoo_conv.upsampling import Up  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from zoo.growth import Size, View
    from zoo.interfaces import Shape


class Conv(Stage):
    """A residual convolutional trunk beside a linear path that starts as patch PCA.

    ``conv8x8x64`` codes an image as an 8x8 map of 64 features and takes inputs of any size its factor divides;
    ``conv256`` ends the trunk in a dense bottleneck.

    Args:
        place: where it stands.
        network: ``residual``, or ``pooled``, the plain network of a source, for comparison: two convolutions, each
            pooled and batch-normalised, and a dense bottleneck; of the options that follow it has ``width`` (12) and
            ``up`` (``nearest``).
        noise: how the deviations are laid over a map, where a regularizer needs them.
        width: channels after the first step down, 32; they double with every step, to eight times this at most.
        blocks: residual blocks at every resolution; 1 on images and 0 on codes where not given: a step on codes
            takes six tenths of the time without them, and one trial of 80 s each ended at the same error.
        up: how the decoder steps up: ``shuffle`` (sub-pixel convolution, ICNR; the default), ``shuffle_blur`` (the
            same with normalised weights and a blur), ``shuffle_plain`` (without ICNR), ``nearest``, ``transpose`` or
            ``transpose_uneven`` (3x3 at stride 2).
        norm: ``none``, ``group`` or ``batch``.
        hidden: width of the dense layers of ``conv256``; twice the code's where not given.
        linear: the linear path; without it this is the plain residual autoencoder.
        overcomplete: allow a code with more numbers than its input.
    """

    source: ClassVar[str] = " ".join(network.source for network in NETWORKS.values())
    exportable: ClassVar[bool] = True
    compilable: ClassVar[bool] = True
    any_size: ClassVar[bool] = True

    def __init__(
        self,
        place: Place,
        *,
        network: Name = "residual",
        noise: Noise = "local",
        width: int | None = None,
        blocks: int | None = None,
        up: Up | None = None,
        norm: Norm | None = None,
        hidden: int | None = None,
        linear: bool | None = None,
        overcomplete: bool = False,
    ) -> None:
        code = _checked_code(place, overcomplete=overcomplete)
        super().__init__(place, code)
        if len(code) == 1 and noise != "local":
            raise SpecError(f"noise={noise} is laid over a map; conv{code[0]} codes to numbers, each with its own")
        given = {"width": width, "blocks": blocks, "up": up, "norm": norm, "hidden": hidden, "linear": linear}
        options = settle(network, given, place, code)
        if options["width"] < 1 or options.get("hidden", 1) < 1 or options.get("blocks", 0) < 0:
            raise SpecError("width and hidden are at least 1, and blocks at least 0")
        for option, value in options.items():
            setattr(self, option, value)  # what a saved stack writes out
        self.noise: Noise = noise
        self.view: View | None = None
        self.encoder, self.decoder = NETWORKS[network].build(Plan(place, code, noise, **options))
        self.settled = settled_components(place, self.encoder)

    def encode(self, x: Tensor) -> Posterior:
        """Images (B, C, H, W) in [0, 1], or a unit-scale map, to a posterior over (B, *code)."""
        self._check_size(x)
        mean, logvar = self.encoder(x * 2 - 1 if self.place.pixels else x)
        return Posterior(mean, logvar, self.noise if len(self.code_shape) == 3 else "local")

    def decode(self, z: Tensor) -> Tensor:
        """(B, *code) to (B, C, H, W), pixels about [0, 1] and not clamped."""
        x_hat: Tensor = self.decoder(z)
        if self.place.output == "sigmoid":
            return probability(x_hat)
        return (x_hat + 1) / 2 if self.place.pixels else x_hat

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Start the linear path, where there is one, as the principal components of x, (N, C, H, W)."""
        analysis, synthesis = (getattr(half, "linear", None) for half in (self.encoder, self.decoder))
        x = x * 2 - 1 if self.place.pixels else x
        if isinstance(analysis, PatchEncoder) and isinstance(synthesis, PatchDecoder):
            fit_patches(analysis, synthesis, x)
        elif isinstance(analysis, nn.Linear) and isinstance(synthesis, nn.Linear):
            fit_vectors(analysis, synthesis, x.flatten(1))

    def start_growing(self, sizes: Sequence[Size]) -> list[tuple[str, ...]]:
        """For each smaller size a step of the network is left out at either end; the code stays what it is."""
        return growing.start(self, sizes)

    def see(self, view: View | None) -> None:
        """Take and give images of this size from now on."""
        self.view = view
        growing.see(self, view)

    def stop_growing(self) -> None:
        """Let go of what stood in for steps."""
        self.view = None
        growing.stop(self)

    def _check_size(self, x: Tensor) -> None:
        if len(self.code_shape) == 1:
            if self.view is None:
                self.check_input(x)
            return
        channels, height, width = self.input_shape
        if self.view is not None:
            height, width = self.view.size
        vertical, horizontal = height // self.code_shape[1], width // self.code_shape[2]
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % vertical or x.shape[3] % horizontal:
            raise SpecError(
                f"this stage takes (B, {channels}, H, W) with H a multiple of {vertical} and W of {horizontal}, "
                f"got {tuple(x.shape)}"
            )


def _checked_code(place: Place, *, overcomplete: bool) -> Shape:
    code, shape = place.code_shape, place.input_shape
    if code is None or len(code) not in (1, 3):
        raise SpecError("conv wants the shape of its code: HxWxC as in conv8x8x64, or a width as in conv256")
    if len(shape) != 3:
        raise SpecError(f"conv takes images and maps; its input here is a vector of {shape[0]}: use fc{code[0]}")
    if len(code) == 3 and (code[1] > shape[1] or code[2] > shape[2]):
        raise SpecError(f"a map of {code[1]}x{code[2]} is larger than its input, {shape[1]}x{shape[2]}")
    numbers, inputs = prod(code), prod(shape)
    if numbers > inputs and not overcomplete:
        raise SpecError(
            f"a code of {numbers} numbers is larger than its input of {inputs}; if you mean it, say overcomplete=true"
        )
    return code
