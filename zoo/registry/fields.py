"""A value of a JSON file and where it stands there: read strictly, refused by name."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from zoo.errors import RegistryError, nearest

if TYPE_CHECKING:
    from pathlib import Path

LONGEST_SHOWN = 60  # characters of a wrong value that an error repeats


@dataclass(frozen=True)
class Field:
    """A value of a JSON file.

    Args:
        value: as JSON gives it.
        where: the file, and the way to the value in it.
        joint: what comes between this and the name of a member.
    """

    value: Any
    where: str
    joint: str = "."

    def fail(self, wanted: str) -> NoReturn:
        """Refuse the value.

        Raises:
            RegistryError: it is not what is wanted.
        """
        text = ascii(self.value)
        shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
        raise RegistryError(f"{self.where} is {shown}; {wanted} is wanted")

    def members(self, wanted: str) -> dict[str, Field]:
        """The members of an object, of which there may be any."""
        if not isinstance(self.value, dict):
            self.fail(wanted)
        return {key: Field(value, f"{self.where}{self.joint}{ascii(key)[1:-1]}") for key, value in self.value.items()}

    def fields(self, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Field]:
        """The members of an object that has these, and may have those."""
        found = self.members(f"an object of {', '.join(required)}")
        for name in required:
            if name not in found:
                raise RegistryError(f"{self.where} has no {name!r}")
        for name in found:
            if name not in (*required, *optional):
                known = nearest(name, (*required, *optional))
                raise RegistryError(f"{self.where} has {name!a}, which is no field of it; {known}")
        return found

    def parts(self, wanted: str) -> list[Field]:
        """The parts of a list of at least one."""
        if not isinstance(self.value, list) or not self.value:
            self.fail(wanted)
        return [Field(value, f"{self.where}[{number}]") for number, value in enumerate(self.value)]

    def text(self, form: str, wanted: str) -> str:
        """A text of this form, a regular expression."""
        if not isinstance(self.value, str) or not re.fullmatch(form, self.value):
            self.fail(wanted)
        return self.value

    def whole(self) -> int:
        """A whole number from 1."""
        if type(self.value) is not int or self.value < 1:
            self.fail("a whole number from 1")
        return self.value

    def number(self) -> float:
        """A finite number."""
        try:
            number = float(self.value) if type(self.value) in (int, float) else math.nan
        except OverflowError:  # a whole number beyond all floats
            number = math.inf
        if not math.isfinite(number):
            self.fail("a number")
        return number


def read(path: Path) -> Field:
    """The whole of a JSON file in which no key stands twice.

    Raises:
        RegistryError: it cannot be read.
    """
    try:
        tree = json.loads(path.read_text("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise RegistryError(f"{path} cannot be read: {error}") from error
    return Field(tree, str(path), ": ")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!a} stands twice in one object")
        found[key] = value
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a number")
