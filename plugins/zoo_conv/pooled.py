"""The plain convolutional autoencoder that "modern best practices" are applied to: two convolutions, pooled."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.posterior import log_variance
from zoo_conv.blocks import zeroed
from zoo_conv.growing import Stairs, Step
from zoo_conv.upsampling import step_up, sub_pixel

if TYPE_CHECKING:
    from zoo.interfaces import Place, Shape
    from zoo_conv.plan import Plan
    from zoo_conv.upsampling import Up

SOURCE = "Woodcock (2020), Applying modern best practices to autoencoders (page and code)"
HALVED = 2
"""Every convolution is followed by a pooling that halves the map."""


def options(place: Place, code: Shape) -> dict[str, Any]:
    """The options it has, with their defaults."""
    return {"width": 12, "up": "nearest"}


def build(plan: Plan) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder, 1,540,060 and 1,540,569 parameters for ``32x32x3/conv1000(network=pooled)``.

    Raises:
        SpecError: the code is a map, or a side of the input is no multiple of 4.
    """
    channels, height, width = plan.shape
    if len(plan.code) != 1:
        raise SpecError("network=pooled ends in a dense bottleneck: conv1000(network=pooled)")
    if height % HALVED**2 or width % HALVED**2:
        raise SpecError(f"network=pooled halves its input twice, and {height}x{width} is not a multiple of 4")
    widths = (channels, plan.width, 2 * plan.width)
    small = (widths[-1], height // HALVED**2, width // HALVED**2)
    bounded = plan.place.pixels and plan.place.output == "linear"
    return (
        _Encoder(widths, small, plan.code[0], gaussian=plan.gaussian),
        _Decoder(widths[::-1], small, plan.code[0], plan.up, bounded=bounded),
    )


class _Encoder(nn.Module):
    def __init__(self, widths: tuple[int, ...], small: Shape, code: int, *, gaussian: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            layers += [nn.MaxPool2d(HALVED), nn.BatchNorm2d(outputs), nn.ReLU()]
        steps = [Step((HALVED, HALVED), 6, outputs) for outputs in widths[1:]]
        self.trunk = Stairs(*layers, nn.Flatten(), steps=steps, image=widths[0], rising=False, normed=True)
        self.mean = nn.Linear(prod(small), code)
        self.logvar = zeroed(nn.Linear(prod(small), code)) if gaussian else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        y = self.trunk(x)
        return self.mean(y), None if self.logvar is None else log_variance(self.logvar(y))


class _Decoder(nn.Module):
    """Ends in batch normalisation, and pixels are clamped: outside [0, 1] there is no gradient, in the source as here.

    The source has a ReLU before the clamp, which changes nothing.
    """

    def __init__(self, widths: tuple[int, ...], small: Shape, code: int, up: Up, *, bounded: bool) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(code, prod(small)), nn.Unflatten(1, small))
        layers: list[nn.Module] = []
        steps: list[Step] = []
        for place, (inputs, outputs) in enumerate(pairwise(widths), 2 - len(widths)):
            own = [*_step(inputs, outputs, up), nn.BatchNorm2d(outputs)]
            own += [nn.ReLU()] * (place < 0 and not up.startswith("shuffle"))
            layers, steps = [*layers, *own], [Step((HALVED, HALVED), len(own), inputs), *steps]
        self.rise = Stairs(*layers, steps=steps, image=widths[-1], rising=True, normed=True)
        self.bounded = bounded

    def forward(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.rise(self.first(z))
        return x_hat.clamp(0, 1) * 2 - 1 if self.bounded else x_hat


def _step(inputs: int, outputs: int, up: Up) -> list[nn.Module]:
    """A step up: the source has ``nearest`` and, with its ReLU inside, ``shuffle_blur``."""
    factor = (HALVED, HALVED)
    if up == "nearest":
        return [nn.Upsample(scale_factor=factor), nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)]
    if up.startswith("shuffle"):
        blurred, nearest = up == "shuffle_blur", up != "shuffle_plain"
        return [sub_pixel(inputs, outputs, factor, kernel=1, nearest=nearest, normed=blurred, rectified=True,
                          blurred=blurred)]  # fmt: skip
    return [step_up(inputs, outputs, factor, up)]
