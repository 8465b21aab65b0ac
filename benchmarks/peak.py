"""The most memory that a process holds for itself (Linux)."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERVAL = 0.002
"""Seconds between two looks."""


def anonymous() -> int:
    """The bytes that this process alone holds: not those of files, mapped."""
    status = Path("/proc/self/status").read_text("ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


@contextmanager
def watched() -> Iterator[list[int]]:
    """One number, which is the most that ``anonymous`` was while this lasts when it is over."""
    peak, ending = [anonymous()], threading.Event()

    def look() -> None:
        while not ending.wait(INTERVAL):
            peak[0] = max(peak[0], anonymous())

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield peak
    finally:
        ending.set()
        watching.join()
