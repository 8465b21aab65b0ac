"""Heads that make any stack generative."""

from __future__ import annotations

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_heads() -> dict[str, str]:
    """Names and references of the heads."""
    return {
        "flow": "zoo_heads.flow:Flow",
        "mixture": "zoo_heads.mixture:Mixture",
        "normal": "zoo_heads.normal:Normal",
    }
