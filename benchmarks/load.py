"""How long `zoo.load` takes, and how much memory, beside reading the file and hashing it: half a gigabyte of weights.

Ours and the anchor in turn, in one process, after its imports and with the file in the system's cache.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING

from benchmarks.peak import anonymous, watched
from benchmarks.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable

MB = 10**6
REPEATS = 5
SPEC = "64x64x3/fc512(hidden=[4450])"
"""500 MB of weights."""
SMALL = "8x8x3/fc4(hidden=[8])"
"""Loaded first, so that the plugin is imported."""


def run() -> list[Row]:
    """Seconds of processor and of clock, medians of several, and the peak of the anonymous memory."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _measured("save", folder)
        processor, clock, read_processor, read_clock = _measured("time", folder)
        peak, size = _measured("peak", folder)
    what = f"zoo.load of {size / MB:.0f} MB"
    return [
        Row(f"{what}, s of processor; beside read and sha256", processor, read_processor, "ratio <= 1.2"),
        Row(f"{what}, s of clock; beside read and sha256", clock, read_clock, "ratio <= 1.2"),
        Row(f"{what}, MB of memory beyond the imports' at its peak; of its size", peak / MB, size / MB, "ratio <= 1.2"),
    ]


def main(work: str, place: str) -> None:
    """In a process of its own: do this, and print what it took."""
    from zoo.builder import build, load

    small, large = (Path(place) / name for name in ("small", "large"))
    if work == "save":
        build(SPEC).save(large)
        build(SMALL).save(small)
        return
    (file,) = large.glob("*.safetensors")
    load(small)
    if work == "peak":
        before = anonymous()
        with watched() as peak:
            stack = load(large)
        print(peak[0] - before, file.stat().st_size)
        del stack  # which was held until now
        return
    runs = [(*_timed(lambda: load(large)), *_timed(lambda: _hashed(file))) for _ in range(REPEATS + 1)]
    print(*(median(column) for column in zip(*runs[1:], strict=True)))  # the first has warmed the system's cache


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of processor and of clock; what comes out is let go when they are taken."""
    processor, clock = process_time(), perf_counter()
    kept = work()
    taken = process_time() - processor, perf_counter() - clock
    del kept
    return taken


def _hashed(file: Path) -> tuple[bytes, str]:
    data = file.read_bytes()
    return data, hashlib.sha256(data).hexdigest()


def _measured(work: str, folder: Path) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", work, str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [float(number) for number in done.stdout.split()]


if __name__ == "__main__":
    main(*sys.argv[1:])
