"""How training went: the loss and its terms level by level, from the run's history."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from zoo.errors import EvaluationError
from zoo.pictures.grids import DPI, save

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    Line = tuple[list[float], list[float]]
    """Steps, and the values there."""

START = 0.05  # of a curve: what it does there may leave the picture, if everything else is flattened by it


@dataclass
class Panel:
    """One small plot: what was measured in training, and on held-out images."""

    training: Line = field(default_factory=lambda: ([], []))
    held_out: Line = field(default_factory=lambda: ([], []))


def curves(history: Path, path: Path, *, title: str) -> Path:
    """Write the curves of a ``history.jsonl``: a row for every level and phase, a plot for every number.

    Raises:
        EvaluationError: the file holds no steps.
    """
    rows = _read(history)
    if not rows:
        raise EvaluationError(f"{history} holds no steps: nothing to draw")
    columns = max(len(panels) for panels in rows.values())
    figure = Figure(figsize=(max(3.4 * columns, 6.5), 2.7 * len(rows) + 0.5), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    for row, ((level, phase), panels) in enumerate(rows.items()):
        for column, (name, panel) in enumerate(panels.items()):
            plot = figure.add_subplot(len(rows), columns, row * columns + column + 1)
            _draw(plot, panel)
            words = name if panel.training[0] else f"{name}, held out"
            words = f"level {level}, {phase}: {words}" if column == 0 else words
            plot.set_title(words, fontsize=9, loc="left", parse_math=False)
            plot.tick_params(labelsize=8)
            plot.set_xlabel("step", fontsize=8)
    return save(figure, path)


def _draw(plot: Axes, panel: Panel) -> None:
    kinds = {"training": (panel.training, "tab:blue"), "held out": (panel.held_out, "tab:orange")}
    shown = {name: line for name, line in kinds.items() if line[0][0]}
    for name, ((steps, values), colour) in shown.items():
        marker = "." if len(steps) <= 30 else ""
        plot.plot(steps, values, color=colour, linewidth=1.2, marker=marker, label=name)
    values = [value for (_, found), _ in shown.values() for value in found]
    if min(values) > 0 and max(values) > 10 * min(values):
        plot.set_yscale("log")
    else:
        _leave_out_the_start(plot, [found for (_, found), _ in shown.values()])
    plot.grid(alpha=0.25, which="both")
    if len(shown) > 1:
        plot.legend(fontsize=8, frameon=False)


def _leave_out_the_start(plot: Axes, lines: list[list[float]]) -> None:
    """Let the axis end where the curves are after their start, if that shows them at twice the size or more."""
    late = [value for line in lines for value in line[math.ceil(START * len(line)) :] or line]
    every = [value for line in lines for value in line]
    span = max(late) - min(late)
    if 0 < 2 * span < max(every) - min(every):
        plot.set_ylim(min(late) - 0.05 * span, max(late) + 0.05 * span)


def _read(history: Path) -> dict[tuple[int, str], dict[str, Panel]]:
    """The panels by name, for every level and phase in the order of training."""
    rows: dict[tuple[int, str], dict[str, Panel]] = {}
    for entry in _entries(history):
        panels = rows.setdefault((entry["level"], entry["phase"]), {})
        _add(panels, "loss", entry["step"], entry.get("loss"), held_out=False)
        for name, value in ((entry.get("terms") or {}) | (entry.get("measures") or {})).items():
            _add(panels, name, entry["step"], value, held_out=False)
        for name, value in (entry.get("weights") or {}).items():
            _add(panels, f"weight of {name}", entry["step"], value, held_out=False)
        for name, value in (entry.get("val") or {}).items():
            _add(panels, "MSE" if name == "mse" else name, entry["step"], value, held_out=True)
    return {key: panels for key, panels in rows.items() if panels}


def _entries(history: Path) -> list[dict[str, Any]]:
    """The lines of the file; a last one that was cut off is left out."""
    entries = []
    for line in history.read_text("utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and {"level", "phase", "step"} <= entry.keys():
            entries.append(entry)
    return entries


def _add(panels: dict[str, Panel], name: str, step: float, value: Any, *, held_out: bool) -> None:
    if isinstance(value, (int, float)) and np.isfinite(value):
        panel = panels.setdefault(name, Panel())
        steps, values = panel.held_out if held_out else panel.training
        steps.append(step)
        values.append(value)
