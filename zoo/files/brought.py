"""Where the lower levels of a stack came from, to the byte, if somebody else has trained them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import FileError
from zoo.files.texts import shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FIELD = "brought"
_SOURCE = re.compile(r"[\x21-\x7e]{1,300}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Brought:
    """Levels that came finished from another saved stack.

    Args:
        levels: how many, from the pixels up; the head counts as one.
        source: ``hf-hub:user/name`` or ``builtin:name``; None for a folder of one's own, which is not recorded.
        revision: the commit that they were at, 40 hex digits.
        sha256: of each level's weights, as they came.
    """

    levels: int
    source: str | None = None
    revision: str | None = None
    sha256: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As config.json has it."""
        told = {"levels": self.levels, "source": self.source, "revision": self.revision, "sha256": [*self.sha256]}
        return {} if self.source is None else {FIELD: told}


def read_brought(config: Mapping[str, Any], path: Path) -> Brought | None:
    """What a config says of levels that were brought; None where it says nothing.

    Raises:
        FileError: names the file and the field.
    """
    if FIELD not in config:
        return None
    told = config[FIELD]
    if not isinstance(told, dict):
        raise FileError(f"{path}: {FIELD} is {shown(told)}, not an object")
    levels, digests = told.get("levels"), told.get("sha256")
    if type(levels) is not int or not 1 <= levels <= len(config["levels"]):
        raise FileError(f"{path}: {FIELD}.levels is {shown(levels)}, and the stack has {len(config['levels'])}")
    for key, form in (("source", _SOURCE), ("revision", _COMMIT)):
        if not isinstance(told.get(key), str) or not form.fullmatch(told[key]):
            raise FileError(f"{path}: {FIELD}.{key} is {shown(told.get(key))}, not what stack.save() writes")
    if (
        not isinstance(digests, list)
        or len(digests) != levels
        or not all(isinstance(digest, str) and _SHA256.fullmatch(digest) for digest in digests)
    ):
        raise FileError(f"{path}: {FIELD}.sha256 is {shown(digests)}; 64 hex digits for each of its levels are wanted")
    return Brought(levels, told["source"], told["revision"], tuple(digests))
