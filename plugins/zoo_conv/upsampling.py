"""The steps up of a decoder: sub-pixel convolutions, nearest neighbours and transposed convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from einops import rearrange, repeat
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from zoo_conv.blocks import overlapping

if TYPE_CHECKING:
    from torch import Tensor

    from zoo_conv.blocks import Factor

Up = Literal["shuffle", "shuffle_blur", "shuffle_plain", "nearest", "transpose", "transpose_uneven"]


class Shuffle(nn.Module):
    """Depth to space: (B, C * p * q, H, W) to (B, C, H * p, W * q). Shi et al. (2016), arXiv:1609.05158."""

    def __init__(self, factor: Factor) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(B, C * p * q, H, W) to (B, C, H * p, W * q)."""
        p, q = self.factor
        if p == q:
            return nn.functional.pixel_shuffle(x, p)
        return rearrange(x, "b (c p q) h w -> b c (h p) (w q)", p=p, q=q)


def blur(factor: Factor) -> nn.Module:
    """The mean of every p x q window, with the first row and column repeated: a map of the same size.

    What repeats every p pixels is gone after it. Sugawara, Shiota and Kiya (2018), arXiv:1806.02658.
    """
    p, q = factor
    return nn.Sequential(nn.ReplicationPad2d((q - 1, 0, p - 1, 0)), nn.AvgPool2d(factor, stride=1))


def step_up(inputs: int, outputs: int, factor: Factor, up: Up) -> nn.Module:
    """From (B, inputs, H, W) to (B, outputs, H * p, W * q).

    ``shuffle`` is a sub-pixel convolution that starts as nearest neighbour (ICNR), ``shuffle_plain`` one that starts
    anyhow, and ``shuffle_blur`` one with normalised weights and a blur behind it, as in fastai's super-resolution.
    ``transpose`` has a kernel that its stride divides, 4x4 at stride 2, and ``transpose_uneven`` one that it does not,
    3x3, which makes a checkerboard (Odena, Dumoulin and Olah, 2016, Deconvolution and checkerboard artifacts, Distill).
    """
    match up:
        case "shuffle":
            return sub_pixel(inputs, outputs, factor)
        case "shuffle_plain":
            return sub_pixel(inputs, outputs, factor, nearest=False)
        case "shuffle_blur":
            return sub_pixel(inputs, outputs, factor, normed=True, blurred=True)
        case "nearest":
            return nn.Sequential(nn.Upsample(scale_factor=factor), nn.Conv2d(inputs, outputs, 3, padding=1))
        case "transpose":
            kernel, padding = overlapping(factor)
            return nn.ConvTranspose2d(inputs, outputs, kernel, factor, padding)
    kernel, padding = (2 * factor[0] - 1, 2 * factor[1] - 1), (factor[0] - 1, factor[1] - 1)
    return nn.ConvTranspose2d(inputs, outputs, kernel, factor, padding, padding)


def sub_pixel(
    inputs: int,
    outputs: int,
    factor: Factor,
    *,
    kernel: int = 3,
    nearest: bool = True,
    normed: bool = False,
    rectified: bool = False,
    blurred: bool = False,
) -> nn.Sequential:
    """A convolution to p * q times the channels, and these laid out as pixels.

    Args:
        inputs: channels.
        outputs: channels.
        factor: p and q.
        kernel: of the convolution.
        nearest: it starts as nearest neighbour.
        normed: length and direction of its weights learn apart: Salimans and Kingma (2016), arXiv:1602.07868.
        rectified: a ReLU behind the convolution.
        blurred: the mean over p x q pixels at the end.
    """
    wide = nn.Conv2d(inputs, outputs * factor[0] * factor[1], kernel, padding=kernel // 2)
    if nearest:
        icnr(wide, factor[0] * factor[1])
    layers: list[nn.Module] = [weight_norm(wide) if normed else wide]  # of the weights that it starts with
    layers += [nn.ReLU()] * rectified + [Shuffle(factor)]
    return nn.Sequential(*layers, *[blur(factor)] * blurred)


@torch.no_grad()
def icnr(convolution: nn.Conv2d, copies: int) -> None:
    """Start a sub-pixel convolution as nearest neighbour: the ``copies`` channels of one output feature are equal.

    Aitken et al. (2017), Checkerboard artifact free sub-pixel convolution, arXiv:1707.02937.
    """
    features = convolution.out_channels // copies
    convolution.weight.copy_(repeat(convolution.weight[:features], "o ... -> (o copies) ...", copies=copies))
    if convolution.bias is not None:
        convolution.bias.copy_(repeat(convolution.bias[:features], "o -> (o copies)", copies=copies))


@torch.no_grad()
def silence(layer: nn.Module) -> None:
    """Let a layer start at zero; of normalised weights the length alone, as zero has no direction."""
    for name, parameter in layer.named_parameters():
        if not name.endswith("weight.original1"):
            parameter.zero_()
