"""How long `zoo.load` takes, and how much memory, beside reading the file and hashing it: half a gigabyte of weights.

Each is a process of its own, after its imports and with the file in the system's cache; ours and the anchor in turn.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

from benchmarks.peak import anonymous, watched
from benchmarks.rows import Row

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
        (file,) = (folder / "large").glob("*.safetensors")
        pairs = [(_measured("load", folder), _measured("hash", folder)) for _ in range(REPEATS + 1)][1:]
        ours, anchor = ([median(column) for column in zip(*runs, strict=True)] for runs in zip(*pairs, strict=True))
        size, (peak,) = file.stat().st_size, _measured("peak", folder)
    what = f"zoo.load of {size / MB:.0f} MB"
    return [
        Row(f"{what}, s of processor; beside read and sha256", ours[0], anchor[0], "ratio <= 1.2"),
        Row(f"{what}, s of clock; beside read and sha256", ours[1], anchor[1]),
        Row(f"{what}, MB of memory beyond the imports' at its peak; of its size", peak / MB, size / MB, "ratio <= 1.2"),
    ]


def main(work: str, place: str) -> None:
    """In a process of its own: do this, and print what it took."""
    from zoo.builder import build, load

    folder = Path(place)
    if work == "save":
        build(SPEC).save(folder / "large")
        build(SMALL).save(folder / "small")
        return
    load(folder / "small")
    if work == "peak":
        before = anonymous()
        with watched() as peak:
            stack = load(folder / "large")
        print(peak[0] - before)
        del stack  # which was held until now
        return
    (file,) = (folder / "large").glob("*.safetensors")
    processor, clock = process_time(), perf_counter()
    kept = load(folder / "large") if work == "load" else _hashed(file)
    print(process_time() - processor, perf_counter() - clock)
    del kept


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
