"""What the numbers of a page rest on: the command that repeats them, images, options, machine and versions."""

from __future__ import annotations

import platform
import shlex
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from zoo import files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from zoo.experiments.recipes import Recipe


def facts(
    recipe: Recipe,
    data: str | None,
    *,
    epochs: int | None = None,
    brought: Mapping[str, Path] | None = None,
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """By name, as a page lists them.

    Args:
        recipe: what is carried out.
        data, epochs, brought, only: what was given beside it, as of ``reproduce``.
    """
    words = _words(recipe, {"--data": data, "--epochs": epochs}, brought or {}, only)
    options = ", ".join(f"{key}={value}" for key, value in recipe.training.items())
    return {
        "command": shlex.join(["zoo", "reproduce", *words]),
        "data": data or recipe.data,
        "options": options or "the defaults",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads"
        + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""),
        "versions": f"stackzoo {files.zoo_version()}, torch {version('torch')}, Python {platform.python_version()}",
    }


def _words(
    recipe: Recipe, options: Mapping[str, object], brought: Mapping[str, Path], only: Sequence[str]
) -> Iterator[str]:
    """What the command is given, but for the folder."""
    yield recipe.file
    yield from ("--quick",) if recipe.quick else ()
    for option, value in options.items():
        yield from () if value is None else (option, str(value))
    for name, path in brought.items():
        yield from ("--file", f"{name}={path}")
    for name in only:
        yield from ("--only", name)
