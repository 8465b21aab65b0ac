"""A run that is killed at any moment and resumed ends in the same bytes as one that is not; see tests/kills.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pace import PATIENCE

pytestmark = pytest.mark.skipif(not hasattr(os, "fork") or not Path("/proc/self").is_dir(), reason="forks")

SERIES = {  # and how many scenarios there are at least
    "changes": 50,  # killed before a change of the disk: all of them
    "steps": 4,  # killed within a level that has no checkpoint
    "encoding": 6,  # killed while something is encoded: for the cache, for a validation, for the scale of codes
    "again": 5,  # killed, and twice more while it is resumed
    "others": 9,  # other terms, optimisers, schedules; a head; a critic, dropout, batch norm; refined; in pixels
    "anew": 1,  # killed before there was a checkpoint, and begun anew without --resume
    "damaged": 6,  # its last checkpoint is damaged: the one before it has to do, and the user is told
    "torn": 1,  # half a line at the end of its history
    "probed": 4,  # whether bf16 gains is found to be otherwise when it is resumed
}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, dict[str, list[str]]]:
    folder = tmp_path_factory.mktemp("kills")
    script, written = Path(__file__).with_name("kills.py"), folder / "results.json"
    done = subprocess.run(
        [sys.executable, script, folder, written], capture_output=True, text=True, timeout=5 * PATIENCE, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(written.read_text())


@pytest.mark.parametrize("series", SERIES)
def test_a_killed_run_ends_as_if_nothing_had_happened(results, series):
    wrong = [f"{scenario}: {'; '.join(problems)}" for scenario, problems in results[series].items() if problems]
    if wrong:
        pytest.fail("\n".join([f"{len(wrong)} of {len(results[series])} scenarios:", *wrong]))
    assert len(results[series]) >= SERIES[series]


def test_a_run_that_forgets_its_random_state_is_found_out(results):
    for problems in results["forgetful"].values():
        assert "history: values differ" in problems
        assert any(problem.startswith("level-2-") for problem in problems)
        assert not any(problem.startswith("level-1-") for problem in problems)


def test_every_series_is_looked_at(results):
    assert results.keys() == {*SERIES, "forgetful"}
