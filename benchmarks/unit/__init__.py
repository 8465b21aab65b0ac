"""Whether nats per image need no tuning: kl, mc and wae_mmd over code widths, image sizes, levels and precisions.

Two hours or more, so only when it is named. Every row is appended to a file as it is done, and a run that was stopped
goes on with the rows that are missing. ``python -m benchmarks.unit --help`` says what can be chosen.
"""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks.rows import Row
from benchmarks.unit.cell import Bench, measure
from benchmarks.unit.plan import SIZES, Cell, plan
from benchmarks.unit.table import COLLAPSED

LONG = True
"""Not among the benchmarks that run when none is named."""

FOLDER = Path("runs") / "unit"


def run() -> list[Row]:
    """Everything that is missing, then all rows: the error on test images beside that of the mean image."""
    measure_all(plan(), FOLDER)
    return [_row(row) for row in finished(FOLDER).values()]


def measure_all(cells: list[Cell], folder: Path, *, network: Path | None = None, minutes: float | None = None) -> None:
    """Every row of these that the folder does not hold yet, until the minutes are over."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    done, benches, start = finished(folder), {}, perf_counter()
    left = [cell for cell in cells if cell.key not in done]
    for place, cell in enumerate(left):
        if minutes is not None and perf_counter() - start > minutes * 60:
            break
        print(f"[{place + 1} of {len(left)}{_expected(left[place:], done)}] {cell.key}", flush=True)
        if cell.size not in benches:
            benches[cell.size] = Bench(SIZES[cell.size], folder, network)
        found = measure(cell, benches[cell.size])
        with (folder / "rows.jsonl").open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(found)}\n")  # on a line of its own, also after one that was cut short
        done[cell.key] = found
        print(f"  {summary(found)}", flush=True)


def finished(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows that a folder holds, by key; a line that was cut short by a stop counts as missing."""
    path, rows = folder / "rows.jsonl", {}
    for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows[row["key"]] = row
    return rows


def summary(row: dict[str, Any]) -> str:
    """A row in a line."""
    if row["exploded"]:
        return f"exploded: {row['exploded']}"
    kids = {name: row[f"kid{name and '_'}{name}"] for name in ("", "folded", "normal", "there_and_back")}
    after = row["seconds_measuring"] - row["seconds"]
    return (
        f"mse {row['mse']:.4f} (pca {row['pca_mse']:.4f}), active {row['active']} of {row['width']}, "
        f"std {row['std']['median']:.2f}, sw {row['sw']:.3f} ({row['sw_floor']:.3f}), "
        f"kid{', '.join(f'{name} {value:.3f}' for name, value in kids.items())} +- {row['kid_std']:.3f} "
        f"(pca {row['pca_kid']:.3f}), {row['seconds']:.0f} s + {after:.0f} s"
    )


def _expected(left: list[Cell], done: dict[str, dict[str, Any]]) -> str:
    """About how long the rest takes, from rows of the same size and levels."""
    seconds = 0.0
    for cell in left:
        alike = [row["seconds_measuring"] for row in done.values()
                 if (row["size"], row["levels"]) == (cell.size, cell.levels) and not row["exploded"]]  # fmt: skip
        seconds += sum(alike) / len(alike) if alike else 60.0
    return f", about {seconds / 60:.0f} min"


def _row(row: dict[str, Any]) -> Row:
    error, anchor = (1.0, 1.0) if row["exploded"] else (row["mse"], row["mean_mse"])
    return Row(f"{row['key']}: test MSE; beside the mean image's", error, anchor, f"ratio <= {COLLAPSED}")
