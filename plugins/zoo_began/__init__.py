"""Boundary equilibrium GAN: a head that learns to generate codes, or images, against an autoencoder."""

from __future__ import annotations

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_heads() -> dict[str, str]:
    """Names and references of the heads."""
    return {"began": "zoo_began.began:Began"}
