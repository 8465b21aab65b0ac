"""Processes that have torch but not the Hub's client, which reads its environment when it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path


class Forks:
    """One process that imports torch once, and a fork of it for everything that a test runs."""

    def __enter__(self) -> Forks:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        tests = str(Path(__file__).parent.parent)
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from loopback import forks; forks.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**clean, "PYTHONPATH": os.pathsep.join(filter(None, [tests, clean.get("PYTHONPATH")]))},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # at once: it has nothing to tidy up
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def start(self, code: str, log: Path, environ: dict[str, str]) -> int:
        """Run code; what it says goes to ``log``. The number of its process."""
        return self._ask({"code": code, "log": str(log), "environ": environ})

    def wait(self, pid: int) -> int:
        """The exit code of such a process when it has ended."""
        return self._ask({"wait": pid})

    def _ask(self, question: dict[str, object]) -> int:
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def serve() -> None:
    """What that one process does: one answer for each line that comes in."""
    import torch

    import zoo.builder
    import zoo.cli.program
    import zoo.evaluation  # noqa: F401 - so that the forks have it

    torch.set_num_threads(1)
    assert "huggingface_hub" not in sys.modules  # neither building nor loading takes it
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        if "wait" in asked:
            answer = os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                _run(**asked)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _run(code: str, log: str, environ: dict[str, str]) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(environ)
    status = 1
    try:
        exec(code, {"__name__": "__main__"})  # noqa: S102 - the test's own code
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
