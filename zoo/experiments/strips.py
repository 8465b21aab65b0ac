"""Test images, and what comes back of them through each stack, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.evaluation.protocol import measuring
from zoo.experiments.bench import spread
from zoo.pictures.grids import labelled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zoo.experiments.bench import Bench
    from zoo.experiments.runs import Run

SHOWN = 12


def strips(runs: Mapping[str, Run], bench: Bench, file: str, title: str, *, data: str | None = None) -> Path:
    """A picture with a row for some test images, and one for each run by its name.

    Args:
        runs: for images of one shape.
        bench: has the images, and the folder.
        file: of the picture, in that folder.
        title: above it.
        data: other images than the bench's.
    """
    shown = bench.test(next(iter(runs.values())).stack, data)
    x = shown.batch(spread(shown, SHOWN))
    rows = [x]
    for run in runs.values():
        with measuring(run.stack):
            rows.append(run.stack(x))
    return labelled(rows, bench.folder / file, title=title, beside=["original", *runs])
