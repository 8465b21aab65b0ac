"""How far images are from what came back of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from zoo.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from zoo.data import Images

    Decode = Callable[[slice], Tensor]
    """From a run of places in the data to what came back of the images there, (B, C, H, W), not yet clamped."""

SSIM_WINDOW = 11  # pixels; the Gaussian of sigma 1.5 of Wang et al. (2004)
AT_ONCE = 16  # images whose SSIM is computed together: their maps stay in a CPU's cache, three times as fast as 256
LOWEST_MSE = 1e-10  # of one image; what came back exactly would have an infinite PSNR, and counts as 100 dB


def score(images: Images, decode: Decode, *, batch_size: int) -> dict[str, Any]:
    """MSE, MAE, PSNR and SSIM of what ``decode`` gives for every image, clamped to [0, 1].

    ``psnr`` is that of the mean MSE, ``psnr_of_images`` the mean of every image's own, both in dB. ``ssim`` is Wang,
    Bovik, Sheikh and Simoncelli (2004), the mean over images, channels and all pixels, the border reflected; None
    for images smaller than its window.

    Raises:
        EvaluationError: a value that is not finite came back.
    """
    parts = [
        compare(images.batch(part), decode(part), ssim=min(images.shape[-2:]) >= SSIM_WINDOW)
        for part in batches(len(images), batch_size)
    ]
    each = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    mse = each["mse"].mean().item()
    return {
        "mse": mse,
        "mae": each["mae"].mean().item(),
        "psnr": decibels(mse),
        "psnr_of_images": -10 * each["mse"].clamp(min=LOWEST_MSE).log10().mean().item(),
        "ssim": each["ssim"].mean().item() if "ssim" in each else None,
    }


def compare(x: Tensor, x_hat: Tensor, *, ssim: bool) -> dict[str, Tensor]:
    """MSE, MAE and (asked) SSIM of every image of a batch, each (B,) on the CPU.

    Args:
        x: images in [0, 1].
        x_hat: what came back, as ``Stack.to_pixels`` gives it: a clamp would make images of infinities. It is clamped
            to [0, 1] here.
        ssim: asked.

    Raises:
        EvaluationError: a value that is not finite came back.
    """
    if not x_hat.isfinite().all():
        raise EvaluationError("what came back holds NaN or infinities: the weights are damaged, or training diverged")
    x_hat = x_hat.clamp(0, 1)
    error = (x_hat.cpu().double() - x.cpu().double()).flatten(1)  # on the CPU, as not every device has float64
    found = {"mse": error.square().mean(1), "mae": error.abs().mean(1)}
    if ssim:
        found["ssim"] = _ssim(x_hat.float(), x.to(x_hat.device).float()).cpu()
    return found


def decibels(mse: float) -> float:
    """The PSNR of an error of images in [0, 1], in dB."""
    return -10 * math.log10(max(mse, LOWEST_MSE))


def batches(count: int, size: int) -> Iterator[slice]:
    """The places 0 to ``count`` in runs of ``size``."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _ssim(x_hat: Tensor, x: Tensor) -> Tensor:
    """The mean of each image's whole map: whether its border is cropped differs between versions of torchmetrics."""
    maps = [
        structural_similarity_index_measure(*pair, data_range=1.0, reduction="none", return_full_image=True)[1]
        for pair in zip(x_hat.split(AT_ONCE), x.split(AT_ONCE), strict=True)
    ]
    return torch.cat([whole.flatten(1).mean(1) for whole in maps])
