"""Stages of the zoo's own: any network of timm as the encoder."""

from __future__ import annotations

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_stages() -> dict[str, str]:
    """Names and references of the stages."""
    return {"resnet": "zoo_resnet.resnet:BackboneAutoencoder"}
