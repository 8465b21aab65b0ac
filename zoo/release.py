"""Which zoo this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def zoo_version() -> str:
    """The installed version of the zoo."""
    try:
        return version("stackzoo")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0+unknown"
