"""How long a command keeps you waiting: fresh processes, wall time, beside some that import its peers.

Fifty plugins more are fifty distributions with an entry point each, whose modules offer one name. diffusers stands
beside where the peers' environment is there (``python -m benchmarks peers`` makes it).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks import environment
from benchmarks.rows import Row

REPEATS = 5
ZOO = ("-m", "zoo")
PLUGINS = 50
BUILT = "28x28x1/conv7x7x10/fc8+kl"
MODULE = """from zoo.hookspecs import hookimpl


@hookimpl
def zoo_stages():
    return {{"{name}": "{name}:Nothing"}}
"""
Command = tuple[str, ...]


def run() -> list[Row]:
    """Seconds from the start of a process to its end, median of several, ours and the anchor in turn."""
    timm, torch = ("-c", "import timm"), ("-c", "import torch")
    model = ("-c", "import timm; timm.create_model('resnet18')")
    pairs = [
        ("import zoo, s; beside import timm", ("-c", "import zoo"), timm, None),
        ("zoo list, s; beside timm.list_models()", (*ZOO, "list"), ("-c", "import timm; timm.list_models()"), 0.25),
        ("zoo --help, s; beside import torch", (*ZOO, "--help"), torch, 0.25),
        ("zoo plugins, s; beside import torch", (*ZOO, "plugins"), torch, 0.25),
        ("zoo.build, s; beside timm.create_model()", ("-c", f"import zoo; zoo.build({BUILT!r})"), model, None),
    ]
    rows = [_import_time(), *(_row(*pair) for pair in pairs), _with_plugins()]
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([sys.executable, "-c", f"import zoo; zoo.build({BUILT!r}).save({scratch!r})"], check=True)
        load = ("-c", f"import zoo; zoo.load({scratch!r})")
        rows.append(_row("zoo.load, s; beside timm.create_model()", load, model, None))
    if environment.made():
        diffusers = "from diffusers import AutoencoderKL; AutoencoderKL()"
        python = str(environment.python())
        rows.append(_row("zoo.build, s; beside AutoencoderKL()", pairs[-1][1], ("-c", diffusers), None, python=python))
    return rows


def _row(name: str, ours: Command, anchor: Command, limit: float | None, *, python: str = sys.executable) -> Row:
    """Both in turn; the anchor by a Python of its own."""
    seconds = [(_wall(ours), _wall(anchor, python=python)) for _ in range(REPEATS + 1)][1:]  # the first warms the disk
    mine, theirs = (median(times) for times in zip(*seconds, strict=True))
    return Row(name, mine, theirs, None if limit is None else f"ours <= {limit}")


def _with_plugins() -> Row:
    """`zoo list` with so many plugins more, beside itself without them."""
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(PLUGINS):
            install(Path(scratch), "dummy_" + "".join(chr(ord("a") + int(digit)) for digit in str(number)))
        seconds = [(_wall((*ZOO, "list"), path=scratch), _wall((*ZOO, "list"))) for _ in range(REPEATS + 1)][1:]
    mine, theirs = (median(times) for times in zip(*seconds, strict=True))
    return Row(f"zoo list, s, with {PLUGINS} plugins more; without them", mine, theirs, "ours <= 0.2")


def install(folder: Path, name: str) -> None:
    """A distribution with one plugin, which offers one stage of its name, into a folder that is on the path."""
    (folder / f"{name}.py").write_text(MODULE.format(name=name), "utf-8")
    facts = folder / f"{name}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", "utf-8")
    (facts / "entry_points.txt").write_text(f"[zoo]\n{name} = {name}\n", "utf-8")


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


def _wall(arguments: Command, *, python: str = sys.executable, path: str = "") -> float:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (path, os.environ.get("PYTHONPATH"))))}
    start = perf_counter()
    subprocess.run([python, *arguments], capture_output=True, check=True, env=environ)
    return perf_counter() - start
