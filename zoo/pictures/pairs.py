"""Codes of a few numbers, every pair of axes, several stacks beside each other."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from zoo.pictures.codes import colours_of
from zoo.pictures.grids import DPI, save

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

REACH = 5.0  # of the axes, in deviations of a unit-scale code


def pairs(panels: Mapping[str, tuple[Tensor, Tensor | None]], path: Path, *, title: str) -> Path:
    """Write scatters of codes (N, d): a row for every pair of axes, a column for every name.

    Args:
        panels: codes and their labels, by name; grey without labels.
        path: the PNG.
        title: above everything.
    """
    width = next(iter(panels.values()))[0].shape[1]
    rows = list(combinations(range(width), 2))
    figure = Figure(figsize=(2.3 * len(panels) + 0.3, 2.3 * len(rows) + 0.6), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    for row, (one, other) in enumerate(rows):
        for column, (name, (codes, labels)) in enumerate(panels.items()):
            plot = figure.add_subplot(len(rows), len(panels), row * len(panels) + column + 1)
            z = codes.detach().float().cpu().numpy()
            colour = "grey" if labels is None else colours_of(labels)
            plot.scatter(z[:, one], z[:, other], s=3, alpha=0.2, linewidths=0, c=colour)
            plot.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")
            plot.tick_params(labelsize=7)
            plot.set_title(name if row == 0 else "", fontsize=9, parse_math=False)
            if column == 0:
                plot.set_ylabel(f"z{one + 1}, z{other + 1}", fontsize=8)
    return save(figure, path)
