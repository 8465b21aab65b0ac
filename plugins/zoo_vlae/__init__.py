"""The variational ladder autoencoder: a code of rungs, one for every depth of the network."""

from __future__ import annotations

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_stages() -> dict[str, str]:
    """Names and references of the stages."""
    return {"vlae": "zoo_vlae.vlae:VariationalLadder"}
