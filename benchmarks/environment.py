"""The environment that the peers live in: what they need is installed there, everything else is the project's own.

It stands on the project's environment, so both sides run on one torch, in one process where they have to. It is made
when it is first asked for, in ``peers`` below the zoo's cache folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

from zoo.cache import root

PEERS = ("pythae==0.1.2", "lightning==2.6.*", "diffusers>=0.35")
STAMP = "installed.json"
"""Written last, so that an installation which was interrupted is begun again."""
PROJECT = Path(__file__).parent.parent


def python() -> Path:
    """The environment's Python; a few minutes when there is none yet, or one with other peers."""
    folder = root() / "peers"
    here, wanted = folder / "bin" / "python", [*PEERS, sysconfig.get_path("purelib")]
    stamp = folder / STAMP
    if stamp.exists() and json.loads(stamp.read_text("utf-8")) == wanted:
        return here
    print(f"installing {', '.join(PEERS)} into {folder}", file=sys.stderr, flush=True)
    venv.create(folder, clear=True, with_pip=True, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "project.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n", "utf-8")
    subprocess.run([here, "-m", "pip", "install", "--quiet", *PEERS], check=True)
    stamp.write_text(json.dumps(wanted), "utf-8")
    return here


def made() -> bool:
    """Whether there is one, so that asking for it installs nothing."""
    return (root() / "peers" / STAMP).exists()


def told(module: str, *arguments: str) -> list[dict[str, Any]]:
    """What a module of this package says on lines of JSON, run in the peers' environment.

    Raises:
        RuntimeError: it failed.
    """
    environ = {**os.environ, "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([python(), "-W", "ignore", "-m", module, *arguments], capture_output=True, text=True,
                          check=False, env=environ)  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
