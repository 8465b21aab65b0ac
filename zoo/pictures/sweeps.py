"""What a sweep over learning rates came to, and what it suggests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.pictures.lines import Plot, lines

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zoo.training import Sweep

ABOVE = 1.5
"""A plot ends this many times as far above the start as the loss fell below it: one that diverged hides the rest."""


def sweeps(found: Mapping[str, Sweep], path: Path, *, title: str) -> Path:
    """Write sweeps side by side as one PNG: the loss over the rate, and a line at every suggestion."""
    return lines([_plot(sweep, name) for name, sweep in found.items()], path, title=title)


def _plot(sweep: Sweep, name: str) -> Plot:
    top = ABOVE * max(-min(sweep.smoothed), sweep.spread)
    curves = {"each batch": sweep.losses, "smoothed": sweep.smoothed}
    shown = {
        curve: [(rate, value) for rate, value in zip(sweep.rates, values, strict=True) if value <= top]
        for curve, values in curves.items()
    }
    return Plot(f"learning rate, {name}", "change of the loss", shown, ratios=True, marks=sweep.suggestions)
