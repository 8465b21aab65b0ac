"""Codes: what writing and reading them costs beside encoding, copying, a file for each, and a DataLoader.

**Writing**: ``zoo.codes.encode`` into an empty cache beside the same batches through the same levels, kept nowhere.
**Reading**: an epoch in a new random order, in batches, as training reads it, over 10^5, 10^6 and with ``--long`` 10^7
codes of 64 numbers, from the memory map of the cache. Beside it: a copy of as many bytes in their order, which is what
the memory can give; a file for each code, in the same kind of order; torch's own TensorDataset and DataLoader. Files
are in the system's cache on both sides. **Memory**: the most that a process holds for itself during an epoch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import torch

import zoo
from benchmarks import pairs
from benchmarks.peak import watched
from benchmarks.rows import Row
from zoo import cache
from zoo.codes import BATCH, Codes, encode
from zoo.data import images
from zoo.training.order import shuffled

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.data import Images
    from zoo.stack import Stack

WIDTH = 64
COUNTS, LONG_COUNTS = (10**5, 10**6), (10**5, 10**6, 10**7)
FEW, FILES = 10**5, 10**4
"""Codes that are read beside a DataLoader, and files that hold one each."""
READ = 256
"""Codes in a batch that is read."""
TURNS = 7
STACKS = ("28x28x1/conv7x7x10", "64x64x3/conv8x8x16")
"""Whose codes are written."""
ENCODED = (1_500, 6_000)
"""Images of a set that is encoded: what a set costs, however large, weighs more in a small one."""
MB = 10**6


def run(*, long: bool = False) -> list[Row]:
    """Rates of writing and reading, and memory."""
    torch.manual_seed(0)
    counts = LONG_COUNTS if long else COUNTS
    with tempfile.TemporaryDirectory() as scratch, patch.dict(os.environ, ZOO_CACHE=f"{scratch}/cache"):
        rows = [row for spec in STACKS for count in ENCODED for row in _written(zoo.build(spec).eval(), count)]
        rows += [row for count in counts for row in _beside_a_copy(count)]
        rows += _beside_files(Path(scratch) / "files") + _beside_a_loader()
        held = {count: _held(count) for count in counts}
    few = held[counts[0]]
    rows += [Row(f"an epoch over {count:,} codes, MB held; over {counts[0]:,}", held[count] / MB, few / MB)
             for count in counts]  # fmt: skip
    most = counts[-1]
    return [*rows, Row(f"MB held more with {most:,} codes than with {counts[0]:,}", (held[most] - few) / MB,
                       bar="ours <= 200")]  # fmt: skip


def _written(stack: Stack, count: int) -> list[Row]:
    """Encode other images in every turn, so that nothing is there yet."""
    pixels = torch.randint(256, (TURNS + 1, count, *stack.input_shape), dtype=torch.uint8)
    sets = [images(part, stack.input_shape) for part in pixels]
    ours, theirs = iter(sets), iter(sets)
    taken = pairs.in_turn(
        lambda: encode(stack, next(ours), levels=1), lambda: _encoded(stack, next(theirs)), turns=TURNS
    )
    name = f"{stack.spec}, {count:,} images: images/s encoded and kept; kept nowhere"
    return pairs.rates(name, taken, count, "ratio >= 0.9")


@torch.inference_mode()
def _encoded(stack: Stack, data: Images) -> None:
    for start in range(0, len(data), BATCH):
        stack.posterior(data.batch(slice(start, start + BATCH)).to(stack.device), 1).mode.float().cpu()


def _beside_a_copy(count: int) -> list[Row]:
    codes = _codes(count)
    source = codes.shards.all("mean")
    room = torch.empty_like(source)
    taken = pairs.in_turn(lambda: _epoch(codes), lambda: room.copy_(source), turns=TURNS)
    return pairs.rates(f"codes/s of an epoch over {count:,}; copied in their order", taken, count)


def _beside_files(folder: Path) -> list[Row]:
    """An epoch over codes beside one over as many files, each as .npy."""
    codes = _codes(FILES)
    folder.mkdir()
    paths = [folder / f"{place}.npy" for place in range(FILES)]
    for path, code in zip(paths, codes.batch(torch.arange(FILES)).numpy(), strict=True):
        np.save(path, code, allow_pickle=False)

    def read() -> None:
        for batch in torch.randperm(FILES).split(READ):
            torch.from_numpy(np.stack([np.load(paths[place], allow_pickle=False) for place in batch.tolist()]))

    taken = pairs.in_turn(lambda: _epoch(codes), read, turns=TURNS)
    return pairs.rates(f"codes/s of an epoch over {FILES:,}; from a file each", taken, FILES, "ratio >= 10")


def _beside_a_loader() -> list[Row]:
    from torch.utils.data import DataLoader, TensorDataset

    codes = _codes(FEW)
    loader = DataLoader(TensorDataset(codes.shards.all("mean")), batch_size=READ, shuffle=True)
    taken = pairs.in_turn(lambda: _epoch(codes), lambda: sum(len(batch) for (batch,) in loader), turns=TURNS)
    return pairs.rates(f"codes/s of an epoch over {FEW:,}; DataLoader of a tensor in memory", taken, FEW)


def _epoch(codes: Codes) -> None:
    """All codes in batches, in a new order, as the training loop takes them."""
    order = shuffled(len(codes), str(torch.initial_seed()))
    for start in range(0, len(codes), READ):
        codes.batch(order[start : start + READ])


def _codes(count: int) -> Codes:
    """So many codes of noise, made once and kept in the cache as real ones are."""
    key = cache.Key("codes", f"{count} codes of noise", {"count": count, "width": WIDTH}, ("width",))
    shards = cache.obtain(key, count, _noise, row_bytes=4 * WIDTH)
    return Codes(shards, count)


def _noise(rows: range, tick: Callable[[int], None]) -> dict[str, torch.Tensor]:
    """Every row is its place, 64 times: they come out the same when they are made again."""
    tick(len(rows))
    return {"mean": torch.arange(rows.start, rows.stop, dtype=torch.float32)[:, None].repeat(1, WIDTH)}


def _held(count: int) -> int:
    """Bytes that a process of its own holds at most, beyond what it holds before."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.codes", str(count)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return int(done.stdout.split()[-1])


def main(count: str) -> None:
    """In a process of its own: read an epoch, and print the most memory that it held."""
    codes = _codes(int(count))
    with watched() as peak:
        _epoch(codes)
    print(peak[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
