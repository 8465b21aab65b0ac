"""Structural similarity as a reconstruction."""

from __future__ import annotations

import math
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from zoo.errors import SpecError, TrainingError
from zoo.interfaces import Place, Reconstruction, RoundTrip
from zoo_losses.pixelwise import compared

if TYPE_CHECKING:
    from torch import Tensor

SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2  # of the paper, for images in [0, 1]


class SSIM(Reconstruction):
    """D (1 - SSIM), averaged over the batch; D the elements of an image, SSIM the mean over its pixels and channels.

    The factor D puts the number, which is not a likelihood, on the scale of the terms that are in nats per image: a
    blank reconstruction costs about D. Windows are Gaussian, sigma 1.5, sum 1; images are padded with zeros, so that
    every pixel has a window; variances are the window's plain second moments; C1 = 0.01^2 and C2 = 0.03^2. Programs
    that mirror or crop the border, or use 11 pixels, give other numbers.

    Args:
        weight: what the number is multiplied by.
        window: width of the window in pixels, odd.

    Raises:
        SpecError: a window that is even, less than 3 or larger than the images.
        TrainingError: x and x_hat differ in shape, or are not images as large as the window.

    Source: Wang, Bovik, Sheikh and Simoncelli (2004), equation 13.
    """

    source = (
        "Wang, Z., Bovik, A. C., Sheikh, H. R. and Simoncelli, E. P. (2004). Image Quality Assessment: From Error "
        "Visibility to Structural Similarity. IEEE TIP 13(4)"
    )
    positional = "weight"
    needs_pixels = True

    def __init__(self, place: Place, *, weight: float = 1.0, window: int = 5) -> None:
        super().__init__(place, weight)
        if window < 3 or window % 2 == 0:
            raise SpecError(f"ssim(window={window}): a window has a pixel in its middle and neighbours: 3, 5, 7, ...")
        # With its loss in pixels an upper level's ssim sees images while its stage stands on codes: ask forward then.
        if place.pixels and not _fits(place.input_shape, window):
            raise SpecError(
                f"ssim(window={window}) needs images of at least {window}x{window} pixels, "
                f"this level's input is {_words(place.input_shape)}: give ssim a smaller window"
            )
        self.window = window

    def forward(self, trip: RoundTrip) -> Tensor:
        """D (1 - SSIM), averaged over the batch."""
        x, x_hat = compared(trip)
        if not _fits(tuple(x.shape[1:]), self.window):
            raise TrainingError(
                f"ssim(window={self.window}) got inputs of {_words(tuple(x.shape[1:]))}: it needs images at least "
                "as large as its window; on an upper level train with --loss-in pixels"
            )
        return x[0].numel() * (1 - similarity(x, x_hat, self.window).mean())


def similarity(x: Tensor, y: Tensor, window: int) -> Tensor:
    """The map of local similarities of two batches of images, (B, C, H, W), in float32."""
    with torch.autocast(x.device.type, enabled=False):  # variances are small differences: bf16 would lose them
        moments = _blur(torch.cat([x, y, x * x, y * y, x * y]), window)
    mean_x, mean_y, xx, yy, xy = moments.chunk(5)
    variances = xx - mean_x.square() + yy - mean_y.square()
    covariance = xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x.square() + mean_y.square() + C1)
    return luminance * (2 * covariance + C2) / (variances + C2)


def _blur(images: Tensor, window: int) -> Tensor:
    """Every channel by itself through the window, along the rows and then the columns, zeros outside.

    As sums of shifted images: on a CPU a convolution of single channels takes several times as long there and back.
    """
    half = window // 2
    weights = [math.exp(-((place - half) ** 2) / (2 * SIGMA**2)) for place in range(window)]
    for axis, padding in ((3, (half, half)), (2, (0, 0, half, half))):
        wide, size = F.pad(images, padding), images.shape[axis]
        shifted = (weight / sum(weights) * wide.narrow(axis, place, size) for place, weight in enumerate(weights))
        images = reduce(add, shifted)
    return images


def _fits(shape: tuple[int, ...], window: int) -> bool:
    return len(shape) == 3 and min(shape[1:]) >= window


def _words(shape: tuple[int, ...]) -> str:
    """A tensor's shape the way the spec writes it, HxWxC."""
    return "x".join(map(str, (*shape[1:], shape[0])))
