"""Measure the rows that are missing, or write what there is into docs/unit.md."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import benchmarks.unit
from benchmarks.machine import machine, versions
from benchmarks.unit import FOLDER, finished, measure_all
from benchmarks.unit.plan import SIZES, plan
from benchmarks.unit.table import fill
from zoo.training import InterruptedTrainingError

RESULTS = Path(__file__).parents[1] / "results" / "unit.json"
PAGE = Path(__file__).parents[2] / "docs" / "unit.md"


def main() -> None:
    """Measure, as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unit", description=benchmarks.unit.__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where rows and lower levels are kept")
    parser.add_argument("--network", type=Path, help="safetensors of a ResNet-18 (timm's names, its first convolution "
                        "of stride 1, inputs in [-1, 1]): also judges the samples of 64x64 images")  # fmt: skip
    parser.add_argument("--minutes", type=float, help="begin no row after so many")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument(
        "--render", action="store_true", help=f"measure nothing: write {RESULTS} and the tables of {PAGE}"
    )
    parser.add_argument("--revision", default="", help="of the zoo that was measured, for the results")
    arguments = parser.parse_args()
    if arguments.render:
        render(arguments.folder, arguments.revision)
        return
    cells = [cell for cell in plan() if arguments.only in cell.key]
    try:
        measure_all(cells, arguments.folder, network=arguments.network, minutes=arguments.minutes)
    except (KeyboardInterrupt, InterruptedTrainingError):
        sys.exit("\nstopped: the same command goes on with the rows that are missing")


def render(folder: Path, revision: str) -> None:
    """Keep the rows of a folder with what they were measured on, and put them into the page."""
    rows = finished(folder)
    if rows:
        kept = {
            "revision": revision,
            "machine": machine(),
            "versions": versions(),
            "sizes": {str(size): asdict(what) for size, what in SIZES.items()},
            "rows": [{name: rounded(value) for name, value in row.items()} for row in rows.values()],
        }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    PAGE.write_text(fill(PAGE.read_text("utf-8"), json.loads(RESULTS.read_text("utf-8"))["rows"]), "utf-8")


def rounded(value: Any) -> Any:
    """Floats, also those of a dict, to four digits that matter."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
