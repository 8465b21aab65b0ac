"""Regularizers that play against a critic: the latent adversary of the Wasserstein autoencoder."""

from __future__ import annotations

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_regularizers() -> dict[str, str]:
    """Names and references of the regularizers."""
    return {"wae_gan": "zoo_adversarial.wae_gan:WAEGAN"}
