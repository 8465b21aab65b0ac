"""A few thousand configs and weight files with something wrong in them; tests/fuzz_gate.py has more."""

from __future__ import annotations

import pytest
from fuzz_gate import Bench, fuzz

EXAMPLES = 1_000  # of each


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("fuzz"))


def test_nothing_passes_that_does_not_mean_what_it_says(bench):
    fuzz(bench, EXAMPLES)
    assert bench.found["loaded"] > 20
    assert bench.found["refused"] > EXAMPLES


def test_the_fuzz_can_fail(bench, monkeypatch):
    """Without a check of the gate's it finds what that check is for."""
    monkeypatch.setattr("zoo.builder.loading._check_told", lambda stack, saved: None)
    with pytest.raises(AssertionError):
        fuzz(bench, EXAMPLES)
