"""Pictures of a stack at work: what comes back, what it dreams up, where its codes lie, how it learned."""

from __future__ import annotations

from zoo.pictures.album import draw
from zoo.pictures.grids import grid

__all__ = ["draw", "grid"]
