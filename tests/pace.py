"""How slow this machine is at present. Bounds in seconds are those of a quiet core; one that is throttled gets more."""

from __future__ import annotations

import time

QUIET = 0.02
"""Seconds of the processor that the work below takes on the core that the bounds were written for."""
PATIENCE = 600.0
"""Seconds until what a test waits for will not come any more: many, as nothing waits so long that is not broken."""


def slower() -> float:
    """How many times as long as there something takes here and now, at least 1."""
    start = time.process_time()
    sum(number for number in range(300_000))
    return max(1.0, (time.process_time() - start) / QUIET)
