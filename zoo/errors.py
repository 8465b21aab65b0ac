"""Every error the zoo raises on purpose. Each message says what was wrong, where, and what to do about it."""

from __future__ import annotations

import errno
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ZooError(Exception):
    """The root of the tree: catch this to catch everything the zoo raises on purpose."""


class SpecError(ZooError):
    """A spec, or a part of one, that cannot be understood or built.

    Where the place is known the message carries the text and a caret under it.
    """

    def __init__(self, problem: str, text: str = "", position: int | None = None) -> None:
        self.problem, self.text, self.position = problem, text, position
        super().__init__(problem if position is None else f"{problem}\n{_caret(text, position)}")


class RegistryError(ZooError):
    """A name nobody offers, a name offered twice, or a plugin that breaks its contract."""


class DataError(ZooError):
    """Images that cannot be found, read or brought to the shape that was asked for."""


class FileError(ZooError):
    """A saved stack, checkpoint or cache that is missing, damaged or not what it says it is."""


class UnwritableError(FileError, OSError):
    """A file or folder that cannot be written: a full disk, a place that may only be read. What was there is there.

    It is made as an ``OSError`` is, of its number, its text and the path, and can be caught as one.
    """

    def __str__(self) -> str:
        advice = "make room there, or choose another folder" if self.errno in _FULL else "choose another folder"
        return f"{self.filename} cannot be written ({self.strerror}): {advice}"


class HubError(ZooError):
    """A reference to the Hub that cannot be one, or a Hub that has not, gives not or takes not what was asked."""


class NetworkError(ZooError):
    """A network of others that nobody knows, or whose weights cannot be had or do not fit it."""


class TrainingError(ZooError):
    """Training that cannot start, or had to stop: a loss that is not finite, a resume that does not fit."""


class EvaluationError(ZooError):
    """A measurement or a picture that this stack or this data cannot give."""


class RecipeError(ZooError):
    """An experiment that is not there, or whose recipe or folder is another's."""


LISTED = 40
"""Names that an error lists at the most."""


def nearest(name: str, names: Iterable[str]) -> str:
    """End of an error message: the names closest to a misspelt one, or those there are.

    >>> nearest("cnov", ["conv", "fc"])
    "did you mean 'conv'?"
    >>> nearest("zzz", ["conv", "fc"])
    'there are: conv, fc'
    """
    names = sorted(names)
    close = get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(repr(match) for match in close)}?"
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return f"there are: {', '.join(names[:LISTED])}{more}" if names else "there are none"


def _caret(text: str, position: int, reach: int = 60) -> str:
    """Show the text around ``position`` with a caret under it; long texts are cut on both sides."""
    start, end = max(0, position - reach), position + reach
    shown = "".join(letter if letter.isprintable() else " " for letter in text[start:end])
    head, tail = "..." * (start > 0), "..." * (end < len(text))
    return f"  {head}{shown}{tail}\n  {' ' * (len(head) + position - start)}^"
