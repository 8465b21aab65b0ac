"""Stages of the zoo's own: convolutional and fully connected autoencoders."""

from __future__ import annotations

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_stages() -> dict[str, str]:
    """Names and references of the stages."""
    return {
        "conv": "zoo_conv.conv:Conv",
        "fc": "zoo_conv.fc:FullyConnected",
        "fc_conv": "zoo_conv.fc_conv:WholeImage",
    }
