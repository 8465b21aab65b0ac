"""The published stages: registry.json, which holds data and never code."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from zoo.errors import RegistryError

FORMAT = 1
_NAME = re.compile(r"[a-z]+(_[a-z]+)*([0-9]+(x[0-9]+)*)?\.[a-z0-9_]+")


@cache
def published() -> dict[str, dict[str, Any]]:
    """Each published stage by its name with shape and tag, as in ``conv7x7x10.fashion_mnist``.

    Raises:
        RegistryError: the file is missing or not of this form.
    """
    package = Path(__file__).parents[1]
    beside, above = package / "registry.json", package.parent / "registry.json"
    path = beside if beside.exists() else above  # in a wheel, or in a checkout
    return read(path)


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The stages of a registry.json, each an object, with their names checked."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RegistryError(f"{path} cannot be read: {error}") from error
    stages = tree.get("stages") if isinstance(tree, dict) and tree.get("format") == FORMAT else None
    if not isinstance(stages, dict):
        raise RegistryError(f'{path} is not of the form {{"format": {FORMAT}, "stages": {{...}}}}')
    for name, stage in stages.items():
        if not _NAME.fullmatch(name) or not isinstance(stage, dict):
            raise RegistryError(f"{path}: {name!r} is not a name.tag with an object behind it")
    return stages
