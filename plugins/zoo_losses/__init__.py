"""Reconstructions: the likelihoods of what came back."""

from __future__ import annotations

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_reconstructions() -> dict[str, str]:
    """Names and references of the reconstructions."""
    return {
        "gaussian": "zoo_losses.gaussian:CalibratedGaussian",
        "mse": "zoo_losses.pixelwise:SquaredError",
        "mae": "zoo_losses.pixelwise:AbsoluteError",
        "bernoulli": "zoo_losses.pixelwise:Bernoulli",
        "ssim": "zoo_losses.ssim:SSIM",
    }
