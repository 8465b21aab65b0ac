"""What the numbers of a page rest on: the command that repeats them, images, options, machine and versions."""

from __future__ import annotations

import platform
import shlex
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from zoo import files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.experiments.bench import Bench


def facts(bench: Bench) -> dict[str, Any]:
    """By name, as a page lists them."""
    options = ", ".join(f"{key}={value}" for key, value in bench.recipe.training.items())
    return {
        "command": shlex.join(["zoo", "reproduce", *_words(bench)]),
        "data": bench.data,
        "options": options or "the defaults",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads"
        + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""),
        "versions": f"stackzoo {files.zoo_version()}, torch {version('torch')}, Python {platform.python_version()}",
    }


def _words(bench: Bench) -> Iterator[str]:
    """What the command is given, but for the folder."""
    yield bench.recipe.file
    yield from ("--data", bench.data) if bench.chosen else ()
    yield from ("--quick",) if bench.recipe.quick else ()
    yield from () if bench.epochs is None else ("--epochs", str(bench.epochs))
    for name, path in bench.brought.items():
        yield from ("--file", f"{name}={path}")
    for name in bench.only:
        yield from ("--only", name)
