"""Processes that tests start: forks of one process that has imported torch, so that each is there in a moment."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pace import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["zoo.cli.training", "zoo.training", "torch._dynamo", "numpy.lib._npyio_impl", "pytest"])


def start(work: Callable[..., None], *arguments: object, log: Path, environ: dict[str, str]) -> BaseProcess:
    """A process that does this; what it says goes to a file."""
    process = FORKS.Process(target=_begin, args=(work, arguments, log, environ))
    process.start()
    return process


def run(work: Callable[..., None], *arguments: object, log: Path, environ: dict[str, str]) -> int:
    """The exit code of such a process when it has ended."""
    return ended(start(work, *arguments, log=log, environ=environ))


def ended(process: BaseProcess) -> int | None:
    """Wait for the end of a process: its exit code."""
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        raise TimeoutError("a process of a test did not end")
    return process.exitcode


def until(holds: Callable[[], bool]) -> None:
    """Wait until something is so."""
    late = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > late:
            raise TimeoutError("what a test waits for did not come")
        time.sleep(0.005)


class Memory:
    """How much more memory a process holds for itself while this lasts, at most: bytes, without files it has mapped."""

    def __enter__(self) -> Memory:
        self.start = self.peak = _anonymous()
        self.ending = threading.Event()
        self.watch = threading.Thread(target=self._look)
        self.watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self.watch.join()
        self.peak = max(self.peak, _anonymous())

    @property
    def grown(self) -> int:
        return self.peak - self.start

    def _look(self) -> None:
        while not self.ending.wait(0.002):
            self.peak = max(self.peak, _anonymous())


def _anonymous() -> int:
    status = Path("/proc/self/status").read_text("ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


def _begin(work: Callable[..., None], arguments: tuple[object, ...], log: Path, environ: dict[str, str]) -> None:
    os.environ.update(environ)
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    work(*arguments)
    sys.stderr.flush()
