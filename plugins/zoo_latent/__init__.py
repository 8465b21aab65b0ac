"""Regularizers of the code: KL and its Monte-Carlo forms, and the maximum mean discrepancy."""

from __future__ import annotations

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_regularizers() -> dict[str, str]:
    """Names and references of the regularizers."""
    return {
        "kl": "zoo_latent.kl:KL",
        "mc": "zoo_latent.monte_carlo:MonteCarlo",
        "stl": "zoo_latent.monte_carlo:StickingTheLanding",
        "wae_mmd": "zoo_latent.mmd:MMD",
    }
