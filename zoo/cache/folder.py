"""Where the cache is, how large it may grow, and who may write to it."""

from __future__ import annotations

import errno
import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from zoo.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEFAULT_LIMIT = "20GB"
LOCKS = "locks"
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
PATIENCE = 0.2
"""Seconds between two looks at a lock that another process holds."""


def root() -> Path:
    """The cache folder: what the environment variable ``ZOO_CACHE`` names, else ``~/.cache/zoo``.

    Raises:
        FileError: there is no home, as for some users in containers.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "zoo"
    try:
        return Path(os.environ.get("ZOO_CACHE") or default).expanduser()
    except RuntimeError as error:
        raise FileError(f"there is no place for the cache ({error}): set the environment variable ZOO_CACHE") from error


def limit() -> int:
    """How many bytes the cache may hold: ``ZOO_CACHE_LIMIT``, 20GB unless set."""
    return size_of("ZOO_CACHE_LIMIT", DEFAULT_LIMIT)


def size_of(variable: str, default: str) -> int:
    """The number of bytes that an environment variable gives as ``"500MB"``, ``"20 GB"`` or ``"1000"``.

    Raises:
        FileError: it is no size.
    """
    text = os.environ.get(variable) or default
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMGT]?B?)", text.strip().upper())
    unit = None if match is None else UNITS.get(match[2]) or UNITS.get(f"{match[2]}B")
    if match is None or unit is None:
        raise FileError(f"{variable}={text!r} is no size: write 500MB, 20GB or a number of bytes")
    return int(float(match[1]) * unit)


def readable(size: float) -> str:
    """Bytes for people.

    >>> readable(1234567), readable(42)
    ('1.2 MB', '42 B')
    """
    for unit, step in reversed(UNITS.items()):
        if unit and size >= step:
            return f"{size / step:.1f} {unit}" if step > 1 else f"{size:.0f} B"
    return "0 B"


@contextmanager
def held(name: str, *, waiting: Callable[[], None]) -> Iterator[None]:
    """Be the only one to work on the entry of this name while this lasts, on this machine.

    The lock is the operating system's: it goes when its process goes, however that ends.

    Args:
        name: of the entry.
        waiting: called again and again while another process has the lock; what it raises ends the wait.
    """
    lock = _lock(name)
    while True:
        try:
            lock.acquire(timeout=PATIENCE)
            break
        except Timeout:  # an OSError as well
            waiting()
        except OSError as error:
            raise _unusable(error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def held_if_free(name: str) -> Iterator[bool]:
    """The lock of an entry if nobody else has it; whether that is so.

    Raises:
        FileError: nobody has it, but it cannot be taken.
    """
    lock = _lock(name)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise _unusable(error) from error
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def writing() -> Iterator[None]:
    """Turn what may go wrong in writing to the cache, a full disk or a read-only folder, into what to do about it.

    Raises:
        FileError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise _unusable(error) from error


def is_read_only(error: FileError) -> bool:
    """Whether the cache cannot be written to because this process may only read it."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in READ_ONLY


def _unusable(error: OSError) -> FileError:
    return FileError(
        f"the cache in {root()} cannot be written to ({error.strerror or error}): make room ('zoo cache clear'), "
        "or set the environment variable ZOO_CACHE to another folder"
    )


def _lock(name: str) -> FileLock:
    folder = root() / LOCKS
    with writing():
        folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock")
