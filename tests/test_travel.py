"""docs/travel.sh does what it says, against a Hub that it knows by its address alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from loopback import Server
from pace import PATIENCE

SCRIPT = Path(__file__).parent.parent / "docs" / "travel.sh"


def test_a_stage_travels():
    with Server() as server:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "ZOO_"))}
        programs = os.pathsep.join([str(Path(sys.executable).parent), clean.get("PATH", "")])
        environ = {"HF_ENDPOINT": server.endpoint, "HF_TOKEN": "hf_you", "HF_HUB_DISABLE_XET": "1", "PATH": programs}
        done = subprocess.run(
            ["sh", SCRIPT, "you"],
            env={**clean, **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * PATIENCE,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("== bit-equal")
    commit = server.hub.repositories["you/stage"].find("v1").oid
    assert f"28x28x1/conv7x7x10(width=8)/fc8+wae_mmd on hf-hub:you/stage {commit}" in done.stdout
