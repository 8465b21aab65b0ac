"""The one loop that trains any stack, level by level."""

from __future__ import annotations

from zoo.training.fitting import fit
from zoo.training.interrupts import InterruptedTrainingError
from zoo.training.options import Options

__all__ = ["InterruptedTrainingError", "Options", "fit"]
