"""The one loop that trains any stack, level by level."""

from __future__ import annotations

from zoo.files import RUN
from zoo.training.fitting import find_lr, fit, fit_together
from zoo.training.interrupts import InterruptedTrainingError
from zoo.training.options import Options
from zoo.training.progress import HISTORY
from zoo.training.rates import Sweep
from zoo.training.soundness import ExplodedTrainingError

__all__ = [
    "HISTORY",
    "RUN",
    "ExplodedTrainingError",
    "InterruptedTrainingError",
    "Options",
    "Sweep",
    "find_lr",
    "fit",
    "fit_together",
]
