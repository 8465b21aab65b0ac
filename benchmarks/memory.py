"""How much memory a process holds for itself, at most: with ten times the images beside with one time (Linux)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.peak import watched
from benchmarks.rows import Row

MB = 10**6
FILES = 5_500
"""Images of 64x64x3 in a folder, 68 MB, as many as a shard of the cache holds; then ten times as many."""
IMAGES = 4_000
"""The same in one file, 49 MB, and 16 MB of codes; then ten times as many."""
PREPARED = 2**22
"""Numbers that a level looks at before its first step: fewer than usual, or nothing that grows would be seen beside."""
HELD = 200
DIFFERENT = 100
BATCHES = 100
KINDS = {
    "mapped from the cache": {"ZOO_MEMORY_LIMIT": "1MB"},
    "decoded when asked for": {"ZOO_MEMORY_LIMIT": "1MB", "ZOO_CACHE_LIMIT": "1MB"},
    "held in memory": {"ZOO_MEMORY_LIMIT": "10GB"},
}
SPEC = "64x64x3/conv8x8x16(width=8, blocks=0)/fc8"


def run() -> list[Row]:
    """The highest anonymous memory of fresh processes that draw from a folder, and that train two levels."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for count in (FILES, 10 * FILES):
            _link(folder, count)
        for kind, environ in KINDS.items():
            few, many = (_measured(folder, "draw", folder / f"{count}", **environ) for count in (FILES, 10 * FILES))
            bar = None if "in memory" in kind else "ratio <= 1.1"
            rows.append(Row(f"images {kind}, MB; of a tenth of them", many / MB, few / MB, bar))
        for count in (HELD, IMAGES, 10 * IMAGES):
            _write(folder / f"{count}.npy", count)
        few, many = (_measured(folder, "learn", folder / f"{count}.npy") for count in (IMAGES, 10 * IMAGES))
        rows.append(Row("two levels and their codes, MB; of a tenth of them", many / MB, few / MB, "ratio <= 1.1"))
    return rows


def draw(folder: str) -> None:
    """Read what a folder holds, and batches of it in random order."""
    import torch

    from zoo.data import images

    with torch.inference_mode():
        found = images(folder, (3, 64, 64), split="all")
        for _ in range(BATCHES):
            found.batch(torch.randint(len(found), (64,)))


def learn(file: str) -> None:
    """Train level 1 on images, encode them, train level 2 on their codes."""
    from zoo.builder import build
    from zoo.training import fit, loop

    loop.PREPARED_ELEMENTS = PREPARED
    held_out = Path(file).with_name(f"{HELD}.npy")
    fit(build(SPEC), file, val=held_out, steps=20, precision="fp32", progress=False)


def _link(scratch: Path, count: int) -> None:
    """A folder of so many images, few of which are files of their own."""
    seeds, folder = scratch / "seeds", scratch / f"{count}"
    seeds.mkdir(exist_ok=True)
    folder.mkdir()
    for number in range(DIFFERENT):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(seeds / f"{number}.png", compress_level=0)
    for number in range(count):
        os.link(seeds / f"{number % DIFFERENT}.png", folder / f"{number}.png")


def _write(path: Path, count: int) -> None:
    """A file of images, most of them black, which take no room on the disk."""
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 3, 64, 64))
    generator = np.random.default_rng(0)
    for place in range(0, count, count // DIFFERENT):
        array[place] = generator.integers(0, 256, (3, 64, 64), dtype=np.uint8)
    array.flush()


def _measured(scratch: Path, work: str, place: Path, **environ: str) -> int:
    """The most bytes that a process of its own holds while it does this, with an empty cache."""
    with tempfile.TemporaryDirectory(dir=scratch) as cache:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", work, str(place)], capture_output=True, text=True, check=False,
            env={**os.environ, **environ, "ZOO_CACHE": cache},
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return int(done.stdout.split()[-1])


def main(work: str, place: str) -> None:
    """In a process of its own: do this, and print the most memory it took."""
    with watched() as peak:
        {"draw": draw, "learn": learn}[work](place)
    print(peak[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
