"""Networks of a catalogue, such as timm's: built whole and then cut, so that most of what is built may be thrown away.

What a saved stack may build is bounded by the numbers that its weight files hold. How large the networks of a catalogue
are the catalogue says, and no option of a spec can make one larger.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPEN: ContextVar[bool] = ContextVar("zoo_catalogue", default=False)


@contextmanager
def from_catalogue() -> Iterator[None]:
    """What is built inside is of a catalogue: its numbers are not counted, its tensors and modules are.

    >>> with from_catalogue():
    ...     is_from_catalogue()
    True
    """
    token = _OPEN.set(True)
    try:
        yield
    finally:
        _OPEN.reset(token)


def is_from_catalogue() -> bool:
    """Whether what is built right now is of a catalogue."""
    return _OPEN.get()
