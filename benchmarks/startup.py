"""How long a command keeps you waiting: fresh processes, wall time, beside processes that import timm or torch."""

from __future__ import annotations

import re
import subprocess
import sys
from statistics import median
from time import perf_counter

from benchmarks.rows import Row

REPEATS = 5
ZOO = ("-m", "zoo")


def run() -> list[Row]:
    """Seconds from the start of a process to its end, median of several, ours and the anchor in turn."""
    timm, torch = ("-c", "import timm"), ("-c", "import torch")
    pairs = [
        ("import zoo, s; beside import timm", ("-c", "import zoo"), timm, None),
        ("zoo list, s; beside timm.list_models()", (*ZOO, "list"), ("-c", "import timm; timm.list_models()"), 0.25),
        ("zoo --help, s; beside import torch", (*ZOO, "--help"), torch, 0.25),
        ("zoo plugins, s; beside import torch", (*ZOO, "plugins"), torch, 0.25),
    ]
    rows = [_import_time()]
    for name, ours, anchor, limit in pairs:
        seconds = [(_wall(ours), _wall(anchor)) for _ in range(REPEATS + 1)][1:]  # the first warms the disk's cache
        mine, theirs = (median(times) for times in zip(*seconds, strict=True))
        rows.append(Row(name, mine, theirs, None if limit is None else f"ours <= {limit}"))
    return rows


def _import_time() -> Row:
    """What the interpreter itself counts for the import, without its own start."""
    ours, anchor = (median(_imported(module) for _ in range(REPEATS)) for module in ("zoo", "timm"))
    return Row("-X importtime of zoo, s; of timm", ours, anchor, "ours <= 0.1")


def _imported(module: str) -> float:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"], capture_output=True, text=True, check=True
    )
    times = re.findall(rf"^import time: +\d+ \| +(\d+) \| {module}$", done.stderr, flags=re.MULTILINE)
    return int(times[-1]) / 1e6


def _wall(arguments: tuple[str, ...]) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    return perf_counter() - start
