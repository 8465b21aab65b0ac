"""Three ways to lay noise over the code of a map: what comes back, and what samples look like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from zoo import builder
from zoo.experiments.bench import at
from zoo.experiments.judging import kid
from zoo.pictures.grids import labelled
from zoo.seeding import seeded

if TYPE_CHECKING:
    from zoo.experiments.bench import Bench
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe
    from zoo.experiments.runs import Run

STACKS = "local", "shared"
SHOWN = 16


def run(recipe: Recipe, bench: Bench) -> Page:
    """Train a stack for each kind of noise, and a level of vectors on each; measure means, draws and samples."""
    page, above = bench.page(), recipe.settings["above"]
    judge = bench.judge(builder.build(next(iter(recipe.stacks.values()))))
    runs = {name: bench.train(name, spec) for name, spec in recipe.stacks.items()}
    upper = {name: bench.train(f"{name}-above", f"{at(found.folder)}/{above}") for name, found in runs.items()}
    rows: list[dict[str, Any]] = []
    for name, found in runs.items():
        maps, vectors = (
            kid(judge, bench.test(stack), stack.sample(recipe.settings["samples"], seed=0))
            for stack in (found.stack, upper[name].stack)
        )
        rows.append({"noise": name, "MSE of means": bench.error(found.stack), "MSE of draws": _drawn(found, bench),
                     "KID of maps from the prior": maps["KID"], f"KID with {above} above": vectors["KID"],
                     "± KID": vectors["± KID"], f"MSE with {above} above": bench.error(upper[name].stack)})  # fmt: skip
    page.table("Equal budgets", rows)
    page.say(
        f"KID is on the features of a classifier with a test accuracy of {judge.accuracy:.3f}, trained on the data. "
        "The prior knows nothing of how the pixels of a map hang together, whatever the noise; a level of vectors "
        "above does, and through it the source samples."
    )
    images = bench.test(next(iter(runs.values())).stack).batch(slice(0, SHOWN))
    for title, file, shown in (
        ("Maps from the prior", "maps.png", runs),
        (f"Samples through {above}", "samples.png", upper),
    ):
        drawn = [images, *(found.stack.sample(SHOWN, seed=1) for found in shown.values())]
        page.picture(labelled(drawn, bench.folder / file, title=title, beside=["images", *runs]), title)
    local, shared = (
        next(row[f"KID with {above} above"] for row in rows if row["noise"] == name) for name in ("local", "shared")
    )
    page.claim("shared noise gives better samples than local noise", shared < local,
               f"KID {shared:.3f} against {local:.3f}, through a level above")  # fmt: skip
    return page


def _drawn(run: Run, bench: Bench) -> Any:
    """The error where the code is drawn, as in training, and not its mean."""
    shown, total = bench.test(run.stack), 0.0
    with torch.inference_mode(), seeded(0, run.stack.device):
        for start in range(0, len(shown), 250):
            x = shown.batch(slice(start, start + 250))
            x_hat = run.stack.decode(run.stack.posterior(x).sample())
            total += (x_hat - x).square().mean().item() * len(x)
    return total / len(shown)
