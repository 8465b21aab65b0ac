"""A stage that is called as one of the zoo's own, and a command that is."""

from __future__ import annotations

from zoo import hookimpl


@hookimpl
def zoo_stages() -> dict[str, str]:
    """Names and references of the stages."""
    return {"conv": "zoo_collides.stage:OneConvolution"}


@hookimpl
def zoo_commands() -> dict[str, str]:
    """Names and references of the commands."""
    return {"train": "zoo_collides.command:train"}
