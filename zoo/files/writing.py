"""Files that appear whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import UnwritableError

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator

UNFINISHED = ".unfinished-"  # begins the names of what is still being written
SAFETENSORS_OWN = ".tmp" + "[A-Za-z0-9]" * 6  # what safetensors itself writes to before it renames

_log = logging.getLogger(__name__)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, which takes its place if all went well and is removed if not.

    Raises:
        UnwritableError: the disk is full, or the folder may only be read.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED, suffix=f"-{path.name}")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("r+b") as written:  # Windows syncs no file that is only read
                os.fsync(written.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


@contextmanager
def exchanging(folder: Path) -> Iterator[Path]:
    """A scratch folder for what will take the place of files in ``folder``; for one process at a time.

    Others that would exchange something in the same folder wait, and what one of them that was killed left behind is
    removed. So is the scratch folder at the end: whoever fails before moving anything has changed nothing.

    Raises:
        UnwritableError: the disk is full, or the folder may only be read.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(folder):
            for left in filter(Path.is_dir, folder.glob(f"{UNFINISHED}*")):
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(dir=folder, prefix=UNFINISHED) as scratch:
                yield Path(scratch)


def sweep(folder: Path) -> None:
    """Remove what processes that were killed left half-written here; for a folder that is this process's to write."""
    for stray in [*folder.glob(f"{UNFINISHED}*"), *folder.glob(SAFETENSORS_OWN)]:
        if stray.is_dir():
            shutil.rmtree(stray)
        else:
            stray.unlink(missing_ok=True)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the system's lock on the folder itself: it leaves no file behind, and goes when its process goes.

    Where folders cannot be locked, on Windows and on some network file systems, nobody waits for anybody.
    """
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, folder)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # not left to close: a process that was forked meanwhile has it too
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _log.warning("%s: another process is saving here; waiting for it", folder)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:  # this file system has no such lock
        return


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What the system says against writing, as an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise UnwritableError(error.errno, error.strerror or str(error), str(path)) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
