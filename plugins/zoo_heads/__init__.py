"""Heads that make any stack generative."""

from __future__ import annotations

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_heads() -> dict[str, str]:
    """Names and references of the heads."""
    return {"normal": "zoo_heads.normal:Normal"}
