"""A run of an experiment: what was asked of it, how long it took, and what came out."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from zoo import files, training
from zoo.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from zoo.stack import Stack

TOOK = "took.json"  # beside a run: what was asked of it, how long it took, and whether it is over


@dataclass(frozen=True)
class Run:
    """A finished training.

    Args:
        stack: as it was saved.
        folder: where.
        batch_size: images a step.
        seconds: from the beginning to the saved stack; of one that went on, all its parts but those that were killed.
    """

    stack: Stack
    folder: Path
    batch_size: int
    seconds: float

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The lines of its history, in order."""
        text = (self.folder / training.HISTORY).read_text("utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def curve(self, level: int) -> list[tuple[int, float, float]]:
        """Steps, the seconds of these steps, and the squared error in pixels on held-out images, as a level learned."""
        found = [line for line in self.history if line["level"] == level and "mse" in line.get("val", {})]
        return [(line["step"], line["step"] * self.step_seconds(level), line["val"]["mse"]) for line in found]

    def step_seconds(self, level: int) -> float:
        """The median time of one step of a level; NaN where the run was too short to tell."""
        rates = [line["images_per_second"] for line in self.history if line["level"] == level and "loss" in line]
        return self.batch_size / median(rates) if rates else float("nan")


class Took:
    """What is kept of a run beside its stack.

    Args:
        folder: of the run.
        asked: what it is of, JSON-ready: the same name with something else asked is another run. Of its ``files``
            those that are not here this time are what they were.

    Raises:
        RecipeError: the run in this folder is of something else.
    """

    def __init__(self, folder: Path, asked: Mapping[str, Any]) -> None:
        self.path, self.asked = folder / TOOK, json.loads(json.dumps(asked, default=str))
        told = files.read_json(self.path) if self.path.is_file() else {"asked": self.asked}
        self.asked["files"] = told["asked"].get("files", {}) | self.asked.get("files", {})
        if other := [key for key in self.asked if told["asked"].get(key) != self.asked[key]]:
            raise RecipeError(
                f"{folder} is a run of another {' and other '.join(other)} than what is asked now under this name: "
                "choose another folder (--out), or remove that one and those of the runs that stand on it"
            )
        self.seconds: float = told.get("seconds", 0.0)
        self.finished: bool = told.get("finished", False)

    @contextmanager
    def part(self) -> Iterator[None]:
        """The run, or what is left of it, until it is over or something stops it."""
        start = perf_counter()
        try:
            yield
            self.finished = True
        finally:
            self.seconds += perf_counter() - start
            if (self.path.parent / training.RUN).is_file():  # else it was not even begun
                told = {"asked": self.asked, "seconds": self.seconds, "finished": self.finished}
                files.write_json(self.path, told)


def finished(folder: Path) -> bool:
    """Whether the run in a folder is over, whatever was asked of it."""
    path = folder / TOOK
    return path.is_file() and bool(files.read_json(path).get("finished"))
