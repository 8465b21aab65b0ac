"""Ctrl-C, answered between two steps rather than in the middle of one."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zoo.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator


class InterruptedTrainingError(TrainingError):
    """The user asked to stop; the run is saved and can go on."""


class Interrupt:
    """Whether the user asked to stop. A second Ctrl-C stops at once; a second SIGTERM, as launchers send, does not."""

    def __init__(self) -> None:
        self.asked = False
        self.signal = signal.SIGINT

    def __call__(self, number: int, *_: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked, self.signal = True, signal.Signals(number)


@contextmanager
def listening() -> Iterator[Interrupt]:
    """Take Ctrl-C (SIGINT) and SIGTERM as a request while this lasts; outside the main thread nothing changes.

    A request that came when no step was left to stop before is handed on afterwards: a recipe would begin with its
    next run otherwise.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if interrupt.asked:
        signal.raise_signal(interrupt.signal)
