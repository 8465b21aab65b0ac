"""Ours and the anchor in turn, and the row that comes of it: the median of the ratios of neighbours.

Other programs on the machine slow two neighbours alike, so their ratio holds where neither of the two times does. Both
clocks are read: the wall's, and that of the processor, which stands still while another program has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING

from benchmarks.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Taken:
    """What something took.

    Args:
        wall: seconds.
        processor: seconds that this process, all its threads together, had a processor for.
    """

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Taken:
        """Both clocks."""
        return cls(perf_counter(), process_time())

    def __sub__(self, earlier: Taken) -> Taken:
        return Taken(self.wall - earlier.wall, self.processor - earlier.processor)

    def __truediv__(self, count: float) -> Taken:
        return Taken(self.wall / count, self.processor / count)


Pairs = list[tuple[Taken, Taken]]


def timed(work: Callable[[], object]) -> Taken:
    """What a call took, without letting go of what it gives."""
    start = Taken.now()
    kept = work()
    taken = Taken.now() - start
    del kept
    return taken


def in_turn(ours: Callable[[], object], anchor: Callable[[], object], *, turns: int) -> Pairs:
    """Both in turn, so often, after a first turn that warms what there is to warm."""
    return [(timed(ours), timed(anchor)) for _ in range(turns + 1)][1:]


def rates(name: str, pairs: Pairs, count: float, bar: str | None = None) -> list[Row]:
    """Two rows: so many items each, a second of the wall's clock, with the bar; and a second of the processor."""
    return [
        _of_ratios(f"{name}", [(count / ours.wall, count / anchor.wall) for ours, anchor in pairs], bar),
        _of_ratios(f"{name}, by seconds of processor",
                   [(count / ours.processor, count / anchor.processor) for ours, anchor in pairs]),
    ]  # fmt: skip


def _of_ratios(name: str, pairs: Sequence[tuple[float, float]], bar: str | None = None) -> Row:
    """The anchor's median, and ours as so many times that as the median of the ratios says."""
    anchor = median(theirs for _, theirs in pairs)
    return Row(name, anchor * median(ours / theirs for ours, theirs in pairs), anchor, bar)
