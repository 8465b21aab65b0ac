"""Block transforms: a stage of fixed cosines, a prior for what they give, and a look at where the variance is."""

from __future__ import annotations

from zoo import hookimpl


@hookimpl
def zoo_stages() -> dict[str, str]:
    """Names and references of the stages."""
    return {"dct": "zoo_dct.stage:BlockDCT"}


@hookimpl
def zoo_regularizers() -> dict[str, str]:
    """Names and references of the regularizers."""
    return {"laplace": "zoo_dct.laplace:Laplace"}


@hookimpl
def zoo_commands() -> dict[str, str]:
    """Names and references of the commands."""
    return {"dct-table": "zoo_dct.command:dct_table"}
