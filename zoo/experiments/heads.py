"""Heads on plain codes beside a prior in the level: samples, also by class, at equal minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from zoo import builder
from zoo.experiments.bench import at
from zoo.experiments.judging import kid
from zoo.pictures.grids import labelled
from zoo.spec import parse

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.evaluation.classifier import Classifier
    from zoo.experiments.bench import Bench
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe
    from zoo.experiments.runs import Run

SHOWN = 16


def run(recipe: Recipe, bench: Bench) -> Page:
    """Train every way on the stage, sample, and let a classifier of the images judge."""
    page, settings = bench.page(), recipe.settings
    judge = bench.judge(builder.build(settings["stage"]))
    bench.encode(settings["stage"])
    runs = {name: _train(name, spec, bench) for name, spec in recipe.stacks.items()}
    rows: list[dict[str, Any]] = []
    samples = []
    for name, found in runs.items():
        drawn = _drawn(found, settings["samples"])
        samples.append(drawn[:SHOWN])
        rows.append({"way": name, "levels": f"`{recipe.stacks[name]}`", "MSE": bench.error(found.stack),
                     **kid(judge, bench.test(found.stack), drawn)})  # fmt: skip
    page.table("Equal minutes", rows)
    page.say(
        f"{settings['minutes']:g} minutes for each way, halved between its levels; a head that is fitted in closed "
        "form leaves its half. KID is on the features of a classifier that was trained on the data, with a test "
        f"accuracy of {judge.accuracy:.3f}."
    )
    path = labelled(samples, bench.folder / "samples.png", title="Samples", beside=[*runs])
    page.picture(path, "Samples of every way")
    kids: dict[str, float] = {row["way"]: row["KID"] for row in rows}
    factor = kids[settings["prior"]] / kids[settings["flow"]]
    page.claim(
        f"samples of a flow on plain codes have a KID at least {settings['factor']:g} times lower than the prior's",
        factor >= settings["factor"],
        f"{factor:.1f} times",
    )
    _by_class(page, runs[settings["conditional"]], judge, bench)
    return page


def _train(name: str, spec: str, bench: Bench) -> Run:
    """All levels of one way, each with an equal share of the minutes; the last is the run that counts."""
    levels = parse(spec).levels
    below, share = bench.recipe.settings["stage"], bench.recipe.settings["minutes"] / len(levels)
    for number, level in enumerate(levels, 1):
        found = bench.train(f"{name}-{number}", f"{below}/{level}", minutes=share)
        below = at(found.folder)
    return found


def _drawn(run: Run, count: int, label: int | None = None) -> Tensor:
    return run.stack.sample(count, seed=0 if label is None else label, label=label)


def _by_class(page: Page, run: Run, judge: Classifier, bench: Bench) -> None:
    """Samples of each class, and how many of them the classifier takes for it."""
    settings, names = bench.recipe.settings, dict(enumerate(bench.test(run.stack).classes or ()))
    rows: list[dict[str, Any]] = []
    shown = []
    for label in [] if run.stack.head is None else run.stack.head.labels():
        drawn = _drawn(run, settings["each"], label)
        shown.append(drawn[:SHOWN] if len(drawn) >= SHOWN else drawn)
        right = (judge.labels(drawn) == label).float().mean().item()
        rows.append({"class": names.get(label, f"label {label}"), "classified as it": right})
    claim = f"conditional samples are classified as their class ({settings['right']:.0%} or more)"
    if not rows:
        page.claim(claim, None, f"{settings['conditional']} has learned no classes")
        return
    page.table("Samples by class", rows)
    beside = [row["class"] for row in rows]
    path = labelled(shown, bench.folder / "classes.png", title="Samples by class", beside=beside)
    page.picture(path, "Samples by class")
    mean = torch.tensor([row["classified as it"] for row in rows]).mean().item()
    page.claim(claim, mean >= settings["right"], f"{mean:.1%}; of real test images {judge.accuracy:.1%}")
