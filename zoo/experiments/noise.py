"""Three ways to lay noise over the code of a map: what comes back, and what samples look like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from zoo.experiments.judging import kid
from zoo.pictures.grids import labelled

if TYPE_CHECKING:
    from zoo.experiments.bench import Bench, Run
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe

SHOWN = 16


def run(recipe: Recipe, bench: Bench) -> Page:
    """Train a stack for each kind of noise; measure it from the mean, from draws, and by samples from the prior."""
    page = bench.page()
    runs = {name: bench.train(name, sentence) for name, sentence in recipe.stacks.items()}
    judge = bench.judge(next(iter(runs.values())).stack)
    rows = []
    for name, found in runs.items():
        drawn = found.stack.sample(recipe.settings["samples"], seed=0)
        rows.append({"noise": name, "MSE of means": bench.error(found.stack), "MSE of draws": _drawn(found, bench),
                     **kid(judge, bench.test(found.stack), drawn)})  # fmt: skip
    page.table("Equal budgets", rows)
    page.say(
        f"KID is on the features of a classifier with a test accuracy of {judge.accuracy:.3f}, trained on the data."
    )
    samples = [found.stack.sample(SHOWN, seed=1) for found in runs.values()]
    images = [bench.test(next(iter(runs.values())).stack).batch(slice(0, SHOWN)), *samples]
    path = labelled(images, bench.folder / "samples.png", title="Samples from the prior", beside=["images", *runs])
    page.picture(path, "Samples from the prior, by kind of noise")
    by_name = {row["noise"]: row for row in rows}
    page.claim("shared noise gives better samples than local noise", by_name["shared"]["KID"] < by_name["local"]["KID"],
               f"KID {by_name['shared']['KID']:.3f} against {by_name['local']['KID']:.3f}")  # fmt: skip
    return page


def _drawn(run: Run, bench: Bench) -> Any:
    """The error where the code is drawn, as in training, and not its mean."""
    shown, total = bench.test(run.stack), 0.0
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for start in range(0, len(shown), 250):
            x = shown.batch(slice(start, start + 250))
            x_hat = run.stack.decode(run.stack.posterior(x).sample())
            total += (x_hat - x).square().mean().item() * len(x)
    return total / len(shown)
