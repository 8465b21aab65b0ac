"""The zoo's own network: a residual convolutional trunk beside a linear path that starts as patch PCA."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from zoo.posterior import log_variance
from zoo_conv.blocks import Residual, normalisation, step_down, zeroed
from zoo_conv.growing import Stairs, Step
from zoo_conv.projection import PatchDecoder, PatchEncoder
from zoo_conv.upsampling import silence, step_up

if TYPE_CHECKING:
    from zoo.interfaces import Place, Shape
    from zoo_conv.plan import Plan

SOURCE = (
    "Residual blocks: He et al. (2016), arXiv:1603.05027. Sub-pixel convolution: Shi et al. (2016), "
    "arXiv:1609.05158; ICNR: Aitken et al. (2017), arXiv:1707.02937. Linear path: Baldi and "
    "Hornik (1989), Neural Networks and Principal Component Analysis."
)


def options(place: Place, code: Shape) -> dict[str, Any]:
    """The options it has, with their defaults; ``hidden`` means nothing for a map."""
    blocks = 1 if place.pixels else 0
    return {"width": 32, "blocks": blocks, "up": "shuffle", "norm": "none", "hidden": 2 * code[0], "linear": True}


def build(plan: Plan) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder of a map, or of a vector."""
    if len(plan.code) == 3:
        return _MapEncoder(plan), _MapDecoder(plan)
    return _VectorEncoder(plan), _VectorDecoder(plan)


class _Trunk(Stairs):
    """Steps down, each followed by residual blocks."""

    def __init__(self, plan: Plan) -> None:
        layers: list[nn.Module] = []
        for factor, above, below in plan.stairs:
            layers.append(
                nn.Conv2d(above, below, 3, padding=1) if factor == (1, 1) else step_down(above, below, factor)
            )
            layers += [Residual(below, plan.norm) for _ in range(plan.blocks)]
        steps = [Step(factor, 1 + plan.blocks, below) for factor, _, below in plan.stairs]
        layers += [normalisation(plan.norm, plan.widths[-1]), nn.SiLU()]
        super().__init__(*layers, steps=steps, image=plan.shape[0], rising=False)


class _Rise(Stairs):
    """The way back: residual blocks at each resolution, then a step up; beside a linear path it starts at zero."""

    def __init__(self, plan: Plan) -> None:
        layers: list[nn.Module] = []
        for place, (factor, above, below) in reversed(list(enumerate(plan.stairs))):
            layers += [Residual(below, plan.norm) for _ in range(plan.blocks)]
            if place == 0:
                layers += [normalisation(plan.norm, below), nn.SiLU()]
            layers.append(
                nn.Conv2d(below, above, 3, padding=1) if factor == (1, 1) else step_up(below, above, factor, plan.up)
            )
        steps = [Step(factor, plan.blocks + (1 if place else 3), below)
                 for place, (factor, _, below) in enumerate(plan.stairs)]  # fmt: skip
        super().__init__(*layers, steps=steps, image=plan.shape[0], rising=True, silent=plan.linear)
        if plan.linear:
            silence([layer for layer in self.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)][-1])


class _MapEncoder(nn.Module):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        code = plan.code[0]
        self.trunk = _Trunk(plan)
        mean = nn.Conv2d(plan.widths[-1], code, 3, padding=1)
        self.mean = zeroed(mean) if plan.linear else mean
        self.linear = PatchEncoder(plan.shape[0], code, plan.factor) if plan.linear else None
        self.logvar = zeroed(nn.Conv2d(plan.widths[-1], code, 3, padding=1)) if plan.gaussian else None
        self.noise = plan.noise

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        y = self.trunk(x)
        mean = self.mean(y) if self.linear is None else self.mean(y) + self.linear(self.trunk.whole(x))
        if self.logvar is None:
            return mean, None
        raw = self.logvar(y)
        return mean, log_variance(raw if self.noise == "local" else raw.mean((2, 3)))


class _MapDecoder(nn.Module):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.first = nn.Conv2d(plan.code[0], plan.widths[-1], 3, padding=1)
        self.rise = _Rise(plan)
        self.linear = PatchDecoder(plan.shape[0], plan.code[0], plan.factor) if plan.linear else None

    def forward(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.rise(self.first(z))
        return x_hat if self.linear is None else x_hat + self.rise.shown(self.linear(z))


class _VectorEncoder(nn.Module):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        (code,), hidden = plan.code, plan.hidden
        self.trunk = nn.Sequential(_Trunk(plan), nn.Flatten(), nn.Linear(prod(plan.small), hidden), nn.SiLU())
        mean = nn.Linear(hidden, code)
        self.mean = zeroed(mean) if plan.linear else mean
        self.linear = nn.Linear(prod(plan.shape), code) if plan.linear else None
        self.logvar = zeroed(nn.Linear(hidden, code)) if plan.gaussian else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        y = self.trunk(x)
        mean = (
            self.mean(y)
            if self.linear is None
            else self.mean(y) + self.linear(cast("_Trunk", self.trunk[0]).whole(x).flatten(1))
        )
        return mean, None if self.logvar is None else log_variance(self.logvar(y))


class _VectorDecoder(nn.Module):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        (code,), hidden = plan.code, plan.hidden
        self.first = nn.Sequential(
            nn.Linear(code, hidden), nn.SiLU(), nn.Linear(hidden, prod(plan.small)), nn.Unflatten(1, plan.small)
        )
        self.rise = _Rise(plan)
        self.linear = nn.Linear(code, prod(plan.shape)) if plan.linear else None
        self.shape = plan.shape

    def forward(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.rise(self.first(z))
        return x_hat if self.linear is None else x_hat + self.rise.shown(self.linear(z).unflatten(1, self.shape))
