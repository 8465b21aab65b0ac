"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike


def expanded(path: str | PathLike[str]) -> Path:
    """With ~ as the home folder; as it stands where ~ is no user's."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; a path that the system cannot have, as one too long, is not there."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
