"""One head trained in three ways: on images, through a frozen stage, and on the stage's cached codes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from zoo.experiments import flops
from zoo.experiments.bench import at, batches
from zoo.pictures.grids import labelled
from zoo.pictures.lines import Plot, lines
from zoo.seeding import seeded
from zoo.spec import StackSpec, parse
from zoo.training.heads import HeadLearner

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zoo.experiments.bench import Bench
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe
    from zoo.experiments.runs import Run

STACKS = "codes", "pixels", "full"
SHOWN = 12


@dataclass(frozen=True)
class Trained:
    """The three ways, and the one on codes with several budgets.

    Args:
        by_steps: on codes, by the steps that were taken.
        pixels: through the stage.
        full: on images.
    """

    by_steps: dict[int, Run]
    pixels: Run
    full: Run

    @cached_property
    def ways(self) -> dict[str, Run]:
        """One run of each."""
        return {"codes": self.by_steps[max(self.by_steps)], "pixels": self.pixels, "full": self.full}


def run(recipe: Recipe, bench: Bench) -> Page:
    """Train all; compare what a batch takes with what it computes, and steps and seconds to equal loss in images."""
    page, trained = bench.page(), _train(recipe, bench)
    seconds = {way: found.step_seconds(_level(found)) for way, found in trained.ways.items()}
    counted = {way: _counted(way, found, bench) for way, found in trained.ways.items()}
    page.table("A batch", [
        {
            "way": way,
            "head's parameters": sum(weight.numel() for weight in found.stack.head.parameters()),
            "GFLOP": counted[way] / 1e9,
            "s": seconds[way],
            "the source's s": recipe.told("seconds", way),
        }
        for way, found in trained.ways.items()
        if found.stack.head is not None
    ])  # fmt: skip
    _compare(page, recipe, seconds, counted)
    _equal_loss(page, trained, bench)
    page.picture(_measures(trained.ways, bench.folder), "The measure of convergence M in training, and k")
    samples = [found.stack.sample(SHOWN, seed=0) for found in trained.ways.values()]
    path = labelled(samples, bench.folder / "samples.png", title="Samples", beside=[*trained.ways])
    page.picture(path, "Samples of each way, after the few steps that were taken")
    return page


def _train(recipe: Recipe, bench: Bench) -> Trained:
    """The stage once, and the heads on it; the third has none."""
    settings, levels = recipe.settings, {way: parse(recipe.stacks[way]) for way in ("codes", "pixels")}
    below = StackSpec(levels["codes"].levels[:-1], levels["codes"].input)
    stage = bench.train("stage", str(below), steps=settings["stage_steps"])
    heads = {way: f"{at(stage.folder)}/{spec.levels[-1]}" for way, spec in levels.items()}
    by_steps = {steps: bench.train(f"codes-{steps}", heads["codes"], steps=steps) for steps in settings["code_steps"]}
    pixels = bench.train("pixels", heads["pixels"], steps=settings["pixel_steps"])
    full = bench.train("full", recipe.stacks["full"], steps=settings["full_steps"])
    return Trained(by_steps, pixels, full)


def _level(run: Run) -> int:
    """The head's number in the history."""
    return len(run.stack.levels) + 1


def _counted(way: str, run: Run, bench: Bench) -> int:
    x = bench.test(run.stack).batch(slice(0, run.batch_size))
    return flops.of_head(run.stack, x, "pixels" if way == "pixels" else "codes")


def _compare(page: Page, recipe: Recipe, seconds: Mapping[str, float], counted: Mapping[str, int]) -> None:
    near, rows = recipe.settings["near"], []
    for one, other in (("full", "pixels"), ("pixels", "codes"), ("full", "codes")):
        times, operations = seconds[one] / seconds[other], counted[one] / counted[other]
        told = recipe.told("seconds", one), recipe.told("seconds", other)
        rows.append({"ratio": f"{one} / {other}", "time": times, "FLOP": operations,
                     "time over FLOP": times / operations,
                     "the source's time": None if None in told else told[0] / told[1]})  # fmt: skip
    page.table("Ratios", rows)
    worst = min(rows, key=lambda row: float(str(row["time over FLOP"])))
    share = float(str(worst["time over FLOP"]))
    page.claim(f"each way is as much cheaper as it computes less (a ratio of times at least {near:g} of that of FLOPs)",
               share >= near, f"{worst['ratio']}: {share:.2f}")  # fmt: skip


def _equal_loss(page: Page, trained: Trained, bench: Bench) -> None:
    """Steps and seconds until the loss in images is that of the way through the stage."""
    points = [_Point.of("codes", found, bench) for found in trained.by_steps.values()]
    last = _Point.of("pixels", trained.pixels, bench)
    page.table("Loss in images", [
        {"way": point.way, "steps": point.steps, "s": point.seconds, "M in images": point.measure}
        for point in (*points, last)
    ])  # fmt: skip
    encoding = bench.encoding_seconds(trained.pixels.stack, len(trained.pixels.stack.levels))
    page.say(
        "Seconds are those of the steps. To train in codes, all images that are learned from have to be encoded once, "
        f"which takes {encoding:.0f} s here and then is kept."
    )
    there = next((point for point in points if point.measure <= last.measure), None)
    reached = there or points[-1]
    page.claim(
        "a loss in codes takes more iterations, each far cheaper",
        None if there is None else there.steps > last.steps and there.seconds < last.seconds,
        f"{reached} in codes, {last} in pixels",
    )


@dataclass(frozen=True)
class _Point:
    """How far a way has come: steps, seconds, and M in images."""

    way: str
    steps: int
    seconds: float
    measure: float

    @classmethod
    def of(cls, way: str, run: Run, bench: Bench) -> _Point:
        steps = run.history[-1]["step"]
        return cls(way, steps, steps * run.step_seconds(_level(run)), _in_images(run, bench))

    def __str__(self) -> str:
        return f"{self.steps} steps and {self.seconds:.0f} s to {self.measure:.4f}"


@torch.no_grad()
def _in_images(run: Run, bench: Bench) -> float:
    """What the head measures of test images once the frozen stage maps it to pixels, per pixel: alike for every way."""
    learner = HeadLearner(run.stack, "pixels").eval()
    shown = bench.test(run.stack).subset(slice(0, 500))
    with seeded(0, run.stack.device):
        total: float = sum(learner(x).total.item() * len(x) for x in batches(shown))
    return total / len(shown)


def _measures(ways: Mapping[str, Run], folder: Path) -> Path:
    plots = []
    for name in ("M", "k"):
        found = {way: [(line["step"], line["measures"][name]) for line in run.history
                       if line["level"] == _level(run) and name in line.get("measures", {})]
                 for way, run in ways.items()}  # fmt: skip
        plots.append(Plot("steps", name, found))
    return lines(plots, folder / "measures.png", title="Balance in training")
