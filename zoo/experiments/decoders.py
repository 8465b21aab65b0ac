"""Kinds of steps up: the checkerboards that they leave at the start and after training, errors and times."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING, Any

import torch

from zoo import builder
from zoo.evaluation.checkerboard import checkerboard
from zoo.evaluation.protocol import measuring
from zoo.experiments.bench import spread
from zoo.pictures.grids import labelled

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.experiments.bench import Bench
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe
    from zoo.stack import Stack

SHOWN = 12


def run(recipe: Recipe, bench: Bench) -> Page:
    """Look at every decoder as it starts, train it, and look again."""
    page, settings = bench.page(), recipe.settings
    factor = (settings["factor"], settings["factor"])
    rows: list[dict[str, Any]] = []
    starts, backs = {}, {}
    for name, spec in recipe.stacks.items():
        fresh = [builder.build(spec, seed=seed) for seed in range(settings["seeds"])]
        test = bench.test(fresh[0])
        x = test.batch(spread(test, settings["shown"]))
        starts[name] = mean(checkerboard(_back(stack, x), factor) for stack in fresh)
        trained = bench.train(name, spec)
        backs[name] = _back(trained.stack, x)
        rows.append({"steps up": name, "at the start": starts[name], "trained": checkerboard(backs[name], factor),
                     "MSE": bench.error(trained.stack), "seconds a step": trained.step_seconds(1)})  # fmt: skip
    page.table("Checkerboards", rows)
    page.say(
        "The part of the energy of what comes back that lies at the frequency of the steps up and its multiples; at "
        f"the start the mean over {settings['seeds']} seeds. The images themselves have {checkerboard(x, factor):.2g}."
    )
    some = torch.linspace(0, len(x) - 1, min(SHOWN, len(x))).long()
    path = labelled(
        [x[some], *(back[some].clamp(0, 1) for back in backs.values())],
        bench.folder / "decoders.png", title="What comes back", beside=["images", *backs],
    )  # fmt: skip
    page.picture(path, "What comes back of test images")
    for name in settings["worse"]:
        ratio = starts[name] / starts[settings["blurred"]]
        page.claim(
            f"at its start {name} has at least {settings['ratio']:g} times the checkerboard of {settings['blurred']}",
            ratio >= settings["ratio"],
            f"{ratio:.0f} times",
        )
    for uneven, even in settings["controls"].items():
        ratio = starts[uneven] / starts[even]
        page.claim(f"and it is the uneven kernel that makes it: {uneven} has at least {settings['ratio']:g} times that "
                   f"of {even}", ratio >= settings["ratio"], f"{ratio:.2f} times")  # fmt: skip
    return page


def _back(stack: Stack, x: Tensor) -> Tensor:
    with measuring(stack):
        return stack.decode(stack.encode(x))
