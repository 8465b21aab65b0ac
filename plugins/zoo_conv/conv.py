"""A convolutional autoencoder: images or maps to smaller maps, or through a dense bottleneck to a vector."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from math import prod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from zoo.errors import SpecError
from zoo.interfaces import Place, Stage
from zoo.posterior import Noise, Posterior
from zoo_conv.blocks import (
    Factor,
    Norm,
    Residual,
    Up,
    factors,
    log_variance,
    normalisation,
    step_down,
    step_up,
    zeroed,
)
from zoo_conv.projection import PatchDecoder, PatchEncoder, fit_patches, fit_vectors

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.interfaces import PosteriorKind, Shape

DENSE_BELOW = 7
"""A trunk that ends in a dense bottleneck is halved until no side is longer than this."""


class Conv(Stage):
    """A residual convolutional trunk beside a linear path that starts as patch PCA.

    ``conv8x8x64`` codes an image as an 8x8 map of 64 features and takes inputs of any size its factor divides;
    ``conv256`` ends the trunk in a dense bottleneck.

    Args:
        place: where it stands.
        noise: how the deviations are laid over a map, where a regularizer needs them.
        width: channels after the first step down; they double with every step, to eight times this at most.
        blocks: residual blocks at every resolution; 1 on images and 0 on codes where not given: a step on codes
            takes six tenths of the time without them, and one trial of 80 s each ended at the same error.
        up: how the decoder steps up: ``shuffle`` (sub-pixel convolution, ICNR), ``nearest`` or ``transpose``.
        norm: ``none``, ``group`` or ``batch``.
        hidden: width of the dense layers of ``conv256``; twice the code's where not given.
        linear: the linear path; without it this is the plain residual autoencoder.
        overcomplete: allow a code with more numbers than its input.
    """

    source: ClassVar[str] = (
        "Residual blocks: He et al. (2016), arXiv:1603.05027. Sub-pixel convolution: Shi et al. (2016), "
        "arXiv:1609.05158; ICNR: Aitken et al. (2017), arXiv:1707.02937. Linear path: Baldi and "
        "Hornik (1989), Neural Networks and Principal Component Analysis."
    )
    exportable: ClassVar[bool] = True
    compilable: ClassVar[bool] = True
    any_size: ClassVar[bool] = True

    def __init__(
        self,
        place: Place,
        *,
        noise: Noise = "local",
        width: int = 32,
        blocks: int | None = None,
        up: Up = "shuffle",
        norm: Norm = "none",
        hidden: int | None = None,
        linear: bool = True,
        overcomplete: bool = False,
    ) -> None:
        code = _checked_code(place, overcomplete=overcomplete)
        super().__init__(place, code)
        if blocks is None:
            blocks = 1 if place.pixels else 0
        if width < 1 or blocks < 0:
            raise SpecError("width is at least 1 and blocks at least 0")
        self.noise: Noise = noise
        self.blocks = blocks
        steps = _steps(place.input_shape, code)
        widths = [width * 2 ** min(depth, 3) for depth in range(len(steps))] or [width]
        plan = _Plan(place.input_shape, steps, widths, blocks, norm)
        if len(code) == 3:
            self.encoder: nn.Module = _MapEncoder(plan, code[0], place.posterior, noise, linear=linear)
            self.decoder: nn.Module = _MapDecoder(plan, code[0], up, linear=linear)
        else:
            self.hidden = hidden or 2 * code[0]
            self.encoder = _VectorEncoder(plan, code[0], place.posterior, self.hidden, linear=linear)
            self.decoder = _VectorDecoder(plan, code[0], up, self.hidden, linear=linear)

    def encode(self, x: Tensor) -> Posterior:
        """Images (B, C, H, W) in [0, 1], or a unit-scale map, to a posterior over (B, *code)."""
        self._check_input(x)
        mean, logvar = self.encoder(x * 2 - 1 if self.place.pixels else x)
        return Posterior(mean, logvar, self.noise if len(self.code_shape) == 3 else "local")

    def decode(self, z: Tensor) -> Tensor:
        """(B, *code) to (B, C, H, W), pixels about [0, 1] and not clamped."""
        x_hat: Tensor = self.decoder(z)
        if self.place.output == "sigmoid":
            return torch.sigmoid(2 * x_hat)  # slope 1 at mid-grey: the linear path starts about right here too
        return (x_hat + 1) / 2 if self.place.pixels else x_hat

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Start the linear path as the principal components of x, (N, C, H, W)."""
        analysis, synthesis = self.encoder.linear, self.decoder.linear
        x = x * 2 - 1 if self.place.pixels else x
        if isinstance(analysis, PatchEncoder) and isinstance(synthesis, PatchDecoder):
            fit_patches(analysis, synthesis, x)
        elif isinstance(analysis, nn.Linear) and isinstance(synthesis, nn.Linear):
            fit_vectors(analysis, synthesis, x.flatten(1))

    def _check_input(self, x: Tensor) -> None:
        channels, height, width = self.input_shape
        if len(self.code_shape) == 1:
            if x.shape[1:] != self.input_shape:
                raise SpecError(f"a dense bottleneck takes {self.input_shape} alone, got {tuple(x.shape[1:])}")
            return
        vertical, horizontal = height // self.code_shape[1], width // self.code_shape[2]
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % vertical or x.shape[3] % horizontal:
            raise SpecError(
                f"this stage takes (B, {channels}, H, W) with H a multiple of {vertical} and W of {horizontal}, "
                f"got {tuple(x.shape)}"
            )


@dataclass(frozen=True)
class _Plan:
    """What encoder and decoder are built by: the input, the steps down with the channels after each, the blocks."""

    shape: Shape
    steps: list[Factor]
    widths: list[int]
    blocks: int
    norm: Norm

    @property
    def factor(self) -> Factor:
        """All steps together."""
        down = across = 1
        for step in self.steps:
            down, across = down * step[0], across * step[1]
        return down, across

    @property
    def small(self) -> Shape:
        """The map at the bottom of the trunk."""
        return self.widths[-1], self.shape[1] // self.factor[0], self.shape[2] // self.factor[1]

    @property
    def stairs(self) -> list[tuple[Factor, int, int]]:
        """Factor, channels above and channels below of every step; one of factor 1 where the map keeps its size."""
        return list(zip(self.steps or [(1, 1)], [self.shape[0], *self.widths[:-1]], self.widths, strict=True))


class _Trunk(nn.Sequential):
    """Steps down, each followed by residual blocks."""

    def __init__(self, plan: _Plan) -> None:
        layers: list[nn.Module] = []
        for factor, above, below in plan.stairs:
            layers.append(
                nn.Conv2d(above, below, 3, padding=1) if factor == (1, 1) else step_down(above, below, factor)
            )
            layers += [Residual(below, plan.norm) for _ in range(plan.blocks)]
        super().__init__(*layers, normalisation(plan.norm, plan.widths[-1]), nn.SiLU())


class _Rise(nn.Sequential):
    """The trunk's way back: residual blocks at each resolution, then a step up; with ``zero`` it ends at zero."""

    def __init__(self, plan: _Plan, up: Up, *, zero: bool) -> None:
        layers: list[nn.Module] = []
        for place, (factor, above, below) in reversed(list(enumerate(plan.stairs))):
            layers += [Residual(below, plan.norm) for _ in range(plan.blocks)]
            if place == 0:
                layers += [normalisation(plan.norm, below), nn.SiLU()]
            layers.append(
                nn.Conv2d(below, above, 3, padding=1) if factor == (1, 1) else step_up(below, above, factor, up)
            )
        super().__init__(*layers)
        if zero:
            last = [layer for layer in self.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)][-1]
            for parameter in last.parameters():
                nn.init.zeros_(parameter)


class _MapEncoder(nn.Module):
    def __init__(self, plan: _Plan, code: int, posterior: PosteriorKind, noise: Noise, *, linear: bool) -> None:
        super().__init__()
        self.trunk = _Trunk(plan)
        mean = nn.Conv2d(plan.widths[-1], code, 3, padding=1)
        self.mean = zeroed(mean) if linear else mean
        self.linear = PatchEncoder(plan.shape[0], code, plan.factor) if linear else None
        gaussian = posterior == "gaussian"
        self.logvar = zeroed(nn.Conv2d(plan.widths[-1], code, 3, padding=1)) if gaussian else None
        self.noise = noise

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        y = self.trunk(x)
        mean = self.mean(y) if self.linear is None else self.mean(y) + self.linear(x)
        if self.logvar is None:
            return mean, None
        raw = self.logvar(y)
        return mean, log_variance(raw if self.noise == "local" else raw.mean((2, 3)))


class _MapDecoder(nn.Module):
    def __init__(self, plan: _Plan, code: int, up: Up, *, linear: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(code, plan.widths[-1], 3, padding=1)
        self.rise = _Rise(plan, up, zero=linear)
        self.linear = PatchDecoder(plan.shape[0], code, plan.factor) if linear else None

    def forward(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.rise(self.first(z))
        return x_hat if self.linear is None else x_hat + self.linear(z)


class _VectorEncoder(nn.Module):
    def __init__(self, plan: _Plan, code: int, posterior: PosteriorKind, hidden: int, *, linear: bool) -> None:
        super().__init__()
        self.trunk = nn.Sequential(_Trunk(plan), nn.Flatten(), nn.Linear(prod(plan.small), hidden), nn.SiLU())
        mean = nn.Linear(hidden, code)
        self.mean = zeroed(mean) if linear else mean
        self.linear = nn.Linear(prod(plan.shape), code) if linear else None
        self.logvar = zeroed(nn.Linear(hidden, code)) if posterior == "gaussian" else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        y = self.trunk(x)
        mean = self.mean(y) if self.linear is None else self.mean(y) + self.linear(x.flatten(1))
        return mean, None if self.logvar is None else log_variance(self.logvar(y))


class _VectorDecoder(nn.Module):
    def __init__(self, plan: _Plan, code: int, up: Up, hidden: int, *, linear: bool) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Linear(code, hidden), nn.SiLU(), nn.Linear(hidden, prod(plan.small)), nn.Unflatten(1, plan.small)
        )
        self.rise = _Rise(plan, up, zero=linear)
        self.linear = nn.Linear(code, prod(plan.shape)) if linear else None
        self.shape = plan.shape

    def forward(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.rise(self.first(z))
        return x_hat if self.linear is None else x_hat + self.linear(z).unflatten(1, self.shape)


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


def _steps(shape: Shape, code: Shape) -> list[Factor]:
    """The factors of the steps down, from the input's resolution to the code's or to where a dense layer is small."""
    if len(code) == 3:
        down, across = factors(shape[1], code[1]), factors(shape[2], code[2])
        return list(zip_longest(down, across, fillvalue=1))
    steps, sides = [], list(shape[1:])
    while max(sides) > DENSE_BELOW:
        factor = [
            next((prime for prime in (2, 3, 5, 7) if side % prime == 0), 1) if side > DENSE_BELOW else 1
            for side in sides
        ]
        if factor == [1, 1]:
            break
        steps.append((factor[0], factor[1]))
        sides = [side // step for side, step in zip(sides, factor, strict=True)]
    return steps
