"""The two halves: a backbone with its projection to codes, and a decoder of residual blocks that steps up."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, cast

import torch
from timm.layers.norm import GroupNorm
from timm.models.resnet import BasicBlock
from torch import nn
from torch.nn.functional import interpolate, pixel_shuffle

from zoo.posterior import log_variance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from zoo.interfaces import Shape
    from zoo.posterior import Noise
    from zoo_resnet.backbone import Backbone


class BackboneEncoder(nn.Module):
    """A backbone that sees its input as it was trained to, and a linear map from each place of its map to the code.

    Args:
        backbone: the network, cut.
        code: features of a code.
        mean, std: of each channel of what the backbone sees; of one for all.
        zoom: the backbone sees its input so many times as large.
        noise: None for codes without a deviation.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: Backbone, code: int, *, mean: Sequence[float], std: Sequence[float], zoom: float,
        noise: Noise | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network = backbone.network
        self.project = nn.Conv2d(backbone.channels, code, 1)
        self.logvar = None if noise is None else zeroed(nn.Conv2d(backbone.channels, code, 1))
        self.linear: PatchEncoder | None = None
        self.zoom, self.noise = zoom, noise
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1))

    def pass_by(self, linear: PatchEncoder) -> None:
        """Add what a linear map of the input says to what the backbone says, which starts at nothing."""
        self.linear = linear
        zeroed(self.project)

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the backbone's map; one channel of grey is shown as three of colour."""
        if x.shape[1] == 1 and len(self.mean) == 3:
            x = x.expand(-1, 3, -1, -1)
        if self.zoom != 1:
            size = [round(side * self.zoom) for side in x.shape[2:]]
            x = interpolate(x, size, mode="bicubic", align_corners=False, antialias=self.zoom < 1)
        return cast("Tensor", self.network((x - self.mean) / self.std)[0])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, C, H, W) to mean, and logvar where there is one."""
        y = self.features(x)
        mean: Tensor = self.project(y) if self.linear is None else self.project(y) + self.linear(x)
        if self.logvar is None:
            return mean, None
        raw = self.logvar(y)
        return mean, log_variance(raw if self.noise == "local" else raw.mean((2, 3)))


class RisingDecoder(nn.Module):
    """Residual blocks at every resolution from the code's to the input's, beside a linear map from code to patch.

    Args:
        code: features of a code.
        shape: of what is decoded, (C, H, W).
        steps: factors, the code's first.
        widths: channels at every resolution but the last, the code's first.
        blocks: residual blocks at each of these.
        linear: the linear map; the blocks' last layer then starts at zero.
    """

    def __init__(
        self, code: int, shape: Shape, steps: Sequence[int], *, widths: Sequence[int], blocks: int, linear: bool
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(code, widths[0], 3, padding=1)]
        for step, width, after in zip(steps, widths, [*widths[1:], shape[0]], strict=True):
            layers += [residual(width) for _ in range(blocks)]
            layers.append(StepUp(width, after, step))
        self.rise = nn.Sequential(*layers)
        self.linear = PatchDecoder(code, shape[0], prod(steps)) if linear else None
        if linear:
            zeroed(cast("StepUp", layers[-1]).wide)

    def forward(self, z: Tensor) -> Tensor:
        """(B, *code) to (B, C, H, W)."""
        x_hat: Tensor = self.rise(z)
        return x_hat if self.linear is None else x_hat + self.linear(z)


class StepUp(nn.Module):
    """A sub-pixel convolution that starts as one of nearest neighbours.

    Shi et al. (2016), arXiv:1609.05158; Aitken et al. (2017), arXiv:1707.02937.
    """

    def __init__(self, inputs: int, outputs: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.wide = nn.Conv2d(inputs, outputs * factor**2, 3, padding=1)
        with torch.no_grad():
            for parameter in self.wide.parameters():
                parameter.copy_(parameter[:outputs].repeat_interleave(factor**2, 0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, outputs, H * factor, W * factor)."""
        return pixel_shuffle(self.wide(x), self.factor)


class PatchEncoder(nn.Module):
    """A linear map from a square patch to the code's numbers there, in the network's own precision or float32."""

    def __init__(self, channels: int, code: int, side: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(channels, code, side, stride=side)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h * side, w * side) to (B, code, h, w)."""
        with torch.autocast(x.device.type, enabled=False):
            return cast("Tensor", self.linear(x.to(self.linear.weight.dtype)))


class PatchDecoder(nn.Module):
    """A linear map from the code's numbers at a place to a square patch, in the network's own precision or float32."""

    def __init__(self, code: int, channels: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.linear = nn.Conv2d(code, channels * side**2, 1)

    def forward(self, z: Tensor) -> Tensor:
        """(B, code, h, w) to (B, channels, h * side, w * side)."""
        with torch.autocast(z.device.type, enabled=False):
            return pixel_shuffle(self.linear(z.to(self.linear.weight.dtype)), self.side)


def residual(channels: int) -> nn.Module:
    """A residual block of timm, of two convolutions, normalised in groups; it starts as a ReLU."""
    groups = max(number for number in range(1, max(1, channels // 8) + 1) if channels % number == 0)
    block = BasicBlock(channels, channels, norm_layer=cast("Any", partial(GroupNorm, num_groups=groups)))
    block.zero_init_last()
    return block


@torch.no_grad()
def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer, starting at zero."""
    for parameter in layer.parameters():
        parameter.zero_()
    return layer
