"""Disks as small, or as read-only, as a test wants them: seen by the process alone that mounts them, gone with it."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000
READ_ONLY, REMOUNT, BIND, PRIVATE, ALL_BELOW = 1, 32, 4096, 1 << 18, 1 << 14
NONE = 77
PAGE = 4096


def mounted(code: int | None) -> int | None:
    """The exit code of a process that was to have disks of its own; the test is skipped where nobody may mount any."""
    if code == NONE:
        import pytest  # which takes the processes that mount longer than all they do

        pytest.skip("this machine lets no process mount a disk of its own")
    return code


def apart() -> None:
    """What this process mounts from now on nobody else sees. It ends where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    mapped = f"0 {os.getuid()} 1"
    if not sys.platform.startswith("linux"):
        sys.exit(NONE)
    if libc.unshare(NEW_MOUNTS) != 0:  # who is not root may still be root in a world of its own
        if libc.unshare(NEW_MOUNTS | NEW_USER) != 0:
            sys.exit(NONE)
        Path("/proc/self/uid_map").write_text(mapped)
    _mount("none", "/", None, ALL_BELOW | PRIVATE)


def small(folder: Path, size: int) -> Path:
    """An empty disk of so many bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("none", str(folder), "tmpfs", 0, f"size={size}")
    return folder


def read_only(folder: Path) -> Path:
    """The folder as it is, not to be changed by this process any more."""
    _mount(str(folder), str(folder), None, BIND)
    _mount(str(folder), str(folder), None, BIND | REMOUNT | READ_ONLY)
    return folder


@contextmanager
def nearly_full(disk: Path, pages: int) -> Iterator[None]:
    """So many pages of 4 kB are free on the disk while this lasts."""
    filler = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    filler.write_bytes(bytes(max(0, free - pages * PAGE)))
    try:
        yield
    finally:
        filler.unlink()


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    encoded = [None if text is None else text.encode() for text in (source, target, kind)]
    if libc.mount(*encoded, ctypes.c_ulong(flags), data.encode()) != 0:
        number = ctypes.get_errno()
        if number in (errno.EPERM, errno.EACCES):
            sys.exit(NONE)
        raise OSError(number, os.strerror(number), target)
