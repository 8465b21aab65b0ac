"""JSON and text: what the zoo writes beside weights, and JSON that a stranger may have written."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from zoo.errors import FileError
from zoo.files.writing import replacing

if TYPE_CHECKING:
    from pathlib import Path

CONFIG, REPORT, CARD = "config.json", "report.json", "README.md"
RUN = "run.json"  # what a training run was given: there from its first step on, before there is a config.json
LARGEST_JSON = 8 * 2**20  # bytes; a config of the deepest stack is a hundredth of this
LONGEST_NUMBER = 32  # digits and the rest; the longest float that Python writes has 24
LONGEST_SHOWN, MOST_SHOWN = 80, 12  # characters of a stranger's text that an error repeats, and parts of a list
LONGEST_MESSAGE = 1500


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole: to a temporary name beside it, then renamed."""
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, *, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """A JSON object from a file of at most ``largest`` bytes, refusing duplicate keys and numbers that are none.

    Raises:
        FileError: the file cannot be read, is larger, or holds something else.
    """
    try:
        with path.open("rb") as handle:
            data = handle.read(largest + 1)
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read: {error}") from error
    if len(data) > largest:
        raise FileError(f"{path} has more than {largest} bytes; no file of the zoo is that large")
    try:
        value = parse_json(data)
    except ValueError as error:
        raise FileError(f"{path} is not JSON that the zoo wrote: {error}") from error
    if not isinstance(value, dict):
        raise FileError(f"{path} holds a JSON {type(value).__name__}, not an object")
    return value


def parse_json(data: bytes, *, most: int | None = None) -> Any:
    """JSON with every key once and only finite numbers of sensible length.

    Args:
        data: UTF-8.
        most: objects that it may hold at most; any number where None.

    Raises:
        ValueError: it is something else.
    """
    count = 0

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal count
        count += 1
        if most is not None and count > most:
            raise ValueError(f"it holds more than {most} objects")
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError(f"the key {_twice(pairs)} stands twice")
        return found

    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=unique, parse_constant=_constant, parse_int=_whole,
            parse_float=_fraction,
        )  # fmt: skip
    except RecursionError as error:
        raise ValueError("lists and objects stand in one another too deep") from error


def shown(value: object) -> str:
    """A stranger's value as an error repeats it: on one line, printable, and cut where it is long."""
    if isinstance(value, dict | list):
        parts = list(value.values() if isinstance(value, dict) else value)
        if len(parts) > MOST_SHOWN or any(isinstance(part, dict | list) for part in parts):
            return f"a {type(value).__name__} of {len(parts)}"
    text = ascii(value[:LONGEST_SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def same(one: Any, other: Any) -> bool:
    """Equal, lists part by part, and not as True is equal to 1."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def cleaned(text: object) -> str:
    """A message that may repeat a stranger's words: its lines printable, and not without end."""
    lines = str(text)[:LONGEST_MESSAGE].split("\n")
    return "\n".join("".join(letter if letter.isprintable() else " " for letter in line) for line in lines)


def named(key: str) -> str:
    """A stranger's key as a part of a field's name."""
    return ascii(key[:LONGEST_SHOWN])[1:-1]


def _twice(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return shown(key)
        seen.add(key)
    return "?"


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _whole(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _fraction(text: str) -> float:
    number = float(text) if len(text) <= LONGEST_NUMBER else math.inf
    if not math.isfinite(number):
        raise ValueError(f"{text[:LONGEST_NUMBER]} is beyond what a float holds")
    return number
