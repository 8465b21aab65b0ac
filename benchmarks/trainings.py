"""A process of ``zoo train`` that is watched from outside: which phase it is in, by the lines that it prints.

Its time is read from the system's own files, as Linux has them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread
from time import sleep

SPEC = "28x28x1/conv7x7x10/fc8+kl"
PHASES = {
    "starting": None,
    "level 1": "level 1 (pixels)",
    "encoding": "encoding through level 1",
    "level 2": "level 2 (codes)",
    "saving": "saving",
}
"""The phases of a run in turn, each with the beginning of the line that announces it."""
PLAIN = 60.0
"""Seconds between the checkpoints of the plain command."""
ZOO = "import sys; from zoo.training import loop; loop.SAVE_EVERY = {}; from zoo.cli import main; sys.exit(main())"


class Training:
    """One process of ``zoo train``, and what it says.

    Args:
        folder: the run is ``run`` in it, the cache ``cache``.
        data: the images.
        steps: of each level.
        resume: go on with the run that is there.
        save_every: seconds between checkpoints.
    """

    def __init__(self, folder: Path, *, data: str, steps: int, resume: bool = False, save_every: float = PLAIN) -> None:
        zoo = ["-m", "zoo"] if save_every == PLAIN else ["-c", ZOO.format(save_every)]
        train = ["train", SPEC, "--data", data, "--steps", str(steps), "--out", str(folder / "run")]
        self.command = [sys.executable, *zoo, *train, *["--resume"] * resume]
        self.began = {"starting": 0.0}
        self.lines: list[str] = []
        self.seconds = 0.0
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env={"OMP_NUM_THREADS": "1", **os.environ, "ZOO_CACHE": str(folder / "cache")},
        )  # fmt: skip
        self.listener = Thread(target=self._listen, daemon=True)
        self.listener.start()

    @property
    def phase(self) -> str:
        """The phase that began last."""
        return list(self.began)[-1]

    def clock(self) -> float:
        """Seconds that the process has had a processor for: unlike the wall's, they are the same on a busy machine."""
        with suppress(OSError):  # it is gone
            nanoseconds = Path(f"/proc/{self.process.pid}/schedstat").read_text("ascii").split()[0]
            self.seconds = int(nanoseconds) / 1e9
        return self.seconds

    @property
    def running(self) -> bool:
        """The process is there."""
        return self.process.poll() is None

    def reach(self, phase: str) -> str:
        """Wait until this phase has begun, or a later one, or the process has ended; the phase it is in then."""
        order = list(PHASES)
        while order.index(self.phase) < order.index(phase) and self.running:
            sleep(0.0005)
        return self.phase

    def end(self) -> None:
        """Wait for the end.

        Raises:
            RuntimeError: it failed.
        """
        status = self.process.wait()
        self.listener.join()
        if status not in (0, -signal.SIGKILL):
            raise RuntimeError("\n".join([f"{' '.join(self.command)} ended with {status}:", *self.lines[-20:]]))

    def _listen(self) -> None:
        for line in self.process.stderr or ():
            self.lines.append(line.rstrip())
            for phase, beginning in PHASES.items():
                if beginning is not None and phase not in self.began and line.startswith(beginning):
                    self.began[phase] = self.clock()
