"""The one loop that trains any stack, level by level."""

from __future__ import annotations

from zoo.training.fitting import fit
from zoo.training.interrupts import InterruptedTrainingError
from zoo.training.options import Options
from zoo.training.progress import HISTORY
from zoo.training.records import RUN

__all__ = ["HISTORY", "RUN", "InterruptedTrainingError", "Options", "fit"]
