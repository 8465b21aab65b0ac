"""What can go wrong between a client and a Hub, switched on by a test."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass
class Fault:
    """One thing that goes wrong.

    Args:
        kind: "status" answers with ``value``, "drop" breaks off in the middle of the body, "flip" changes one byte of
            it, "short" leaves its last byte out and says so, "endless" goes on after it, "slow" waits ``value``
            seconds in the middle of it, "silent" as long before anything is done, "mute" when it is done, before the
            answer, "header" sets a header to ``value`` ("name: text"), "overtake" lets somebody else commit first.
        on: a pattern for "METHOD /path".
        times: how often; for ever when None.
        value: see kind.
    """

    kind: str
    on: str
    times: int | None = 1
    value: float | str = 0

    def strikes(self, kind: str, request: str) -> bool:
        """Whether it happens to this request; then it has happened once more."""
        if self.kind != kind or self.times == 0 or not re.search(self.on, request):
            return False
        if self.times is not None:
            self.times -= 1
        return True
