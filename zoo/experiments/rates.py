"""Learning rates that a sweep suggests, beside a grid of rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo import builder, files, training
from zoo.pictures.sweeps import sweeps
from zoo.training.options import AUTO
from zoo.training.records import RATES

if TYPE_CHECKING:
    from zoo.experiments.bench import Bench
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe


def run(recipe: Recipe, bench: Bench) -> Page:
    """Train every stack at every rate of the grid, and at the one that is found."""
    page, grid, bar = bench.page(), recipe.settings["grid"], recipe.settings["bar"]
    how = {"steps": recipe.settings["sweep"]} if "sweep" in recipe.settings else {}
    rows: list[dict[str, Any]] = []
    suggested: list[dict[str, Any]] = []
    found = {}
    for name, spec in recipe.stacks.items():
        stack = builder.build(spec)
        options = {key: value for key, value in recipe.training.items() if key != "steps"}
        found[name] = training.find_lr(stack, bench.data, progress=bench.progress, **how, **options)
        errors = {f"{rate:g}": _error(bench, f"{name}-{rate:g}", spec, rate) for rate in grid}
        own = _error(bench, f"{name}-{AUTO}", spec, AUTO)
        taken = files.read_json(bench.place(f"{name}-{AUTO}") / files.RUN)[RATES]
        rate = taken[str(found[name].level)][AUTO]
        rows.append({"stack": name, "level": f"`{stack.spec.levels[found[name].level - 1]}`",
                     **errors, "auto": own, "at": rate})  # fmt: skip
        suggested.append({"stack": name, **found[name].suggestions, "batches differ by": found[name].spread})
        best = min((error for error in errors.values() if error is not None), default=None)
        if best is None:
            page.claim(f"a rate of the grid trains {name}", holds=False, evidence="every one of them exploded")
        elif own is None:
            page.claim(
                f"the rate that is found for {name} trains it", holds=False, evidence=f"it exploded at {rate:.2g}"
            )
        else:
            page.claim(
                f"the rate that is found for {name} ends within {bar - 1:.0%} of the best of the grid",
                own <= bar * best,
                f"{own / best:.3f} times {best:.4g}, at {rate:.2g}",
            )
    page.table("Test error by the learning rate", rows)
    page.say("The mean squared error in [0, 1] of what comes back, over the whole test set; nothing where it exploded.")
    page.table("What a sweep suggests", suggested)
    page.picture(sweeps(found, bench.folder / "sweeps.png", title="What learning changes as the rate rises"), "Sweeps")
    return page


def _error(bench: Bench, name: str, spec: str, rate: float | str) -> float | None:
    try:
        return bench.error(bench.train(name, spec, lr=rate).stack)
    except training.ExplodedTrainingError:
        return None
