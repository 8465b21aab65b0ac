"""Curves beside each other: one number against another, for several things at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib import colormaps
from matplotlib.figure import Figure

from zoo.pictures.grids import DPI, save

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

COLOURS = [colormaps["tab20"](2 * place % 20 + place // 10) for place in range(20)]
"""The ten that are used first everywhere, then their lighter shades."""


@dataclass(frozen=True)
class Plot:
    """One small plot.

    Args:
        across: what the horizontal axis is.
        up: what the vertical axis is.
        lines: points (x, y) in order, by the name of each line; lines of one name have one colour in all plots.
        logarithmic: the vertical axis.
        levels: horizontal lines to compare with, by name.
        dashed: names of lines that are somebody else's.
        ratios: the horizontal axis is logarithmic as well.
        marks: places on the horizontal axis, by name.
    """

    across: str
    up: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    logarithmic: bool = False
    levels: Mapping[str, float] | None = None
    dashed: Sequence[str] = ()
    ratios: bool = False
    marks: Mapping[str, float] | None = None


def lines(plots: Sequence[Plot], path: Path, *, title: str) -> Path:
    """Write plots side by side as one PNG, with one legend."""
    figure = Figure(figsize=(4.4 * len(plots) + 0.3, 3.9), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    names = list(dict.fromkeys(name for plot in plots for name in plot.lines))
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    drawn = {}
    for place, plot in enumerate(plots, 1):
        axes = figure.add_subplot(1, len(plots), place)
        for name, points in plot.lines.items():
            line, marker = "--" if name in plot.dashed else "-", "o" if len(points) <= 12 else ""
            x, y = zip(*points, strict=True)
            (drawn[name],) = axes.plot(
                x, y, color=colours[name], linestyle=line, marker=marker, markersize=3.5, linewidth=1.3
            )
        for name, value in (plot.levels or {}).items():
            drawn[name] = axes.axhline(value, color="grey", linestyle="--", linewidth=1)
        for number, (name, value) in enumerate((plot.marks or {}).items()):
            drawn[name] = axes.axvline(
                value, color=COLOURS[(len(names) + number) % len(COLOURS)], linestyle=":", linewidth=1.5
            )
        if plot.ratios:
            axes.set_xscale("log")
        if plot.logarithmic:
            axes.set_yscale("log")
        axes.set_xlabel(plot.across, fontsize=9)
        axes.set_ylabel(plot.up, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25, which="both")
    figure.legend(
        drawn.values(), drawn.keys(), loc="outside lower center", ncols=min(len(drawn), 4), fontsize=8, frameon=False
    )
    return save(figure, path)
