"""A stage that learned from one set of images brings back another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.experiments.bench import as_file
from zoo.experiments.strips import strips

if TYPE_CHECKING:
    from zoo.experiments.bench import Bench
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe


def run(recipe: Recipe, bench: Bench) -> Page:
    """Each stack trained on the experiment's data and on the set of images that the first word of its name says."""
    page = bench.page()
    bench.look(*(name.partition(" ")[0] for name in recipe.stacks))
    rows, bar = [], recipe.settings["bar"]
    for name, spec in recipe.stacks.items():
        target = name.partition(" ")[0]
        if target == bench.data:
            page.say(f"{name}: left out, as its images are those that the other stage would learn from.")
            continue
        away = bench.train(f"{name}-from-elsewhere", spec)
        home = bench.train(f"{name}-from-itself", spec, data=target)
        errors = [bench.error(run.stack, data=target) for run in (away, home)]
        test = bench.test(home.stack, target)
        rows.append({
            "stack": f"`{home.stack.spec}`",
            "from": bench.data,
            "to": target,
            "test images": len(test),
            "MSE, trained elsewhere": errors[0],
            "MSE, trained there": errors[1],
            "ratio": errors[0] / errors[1],
        })  # fmt: skip
        shown = strips({f"from {bench.data}": away, f"from {target}": home}, bench, f"{as_file(name)}.png",
                       f"{home.stack.spec} on {target}, test", data=target)  # fmt: skip
        page.picture(shown, f"{name}, test images, and what comes back")
        page.claim(
            f"a stage trained on {bench.data} reconstructs {name} quite well (at most {bar:g} times the error)",
            errors[0] <= bar * errors[1], f"{errors[0] / errors[1]:.3f} times",
        )  # fmt: skip
    page.table("Test error", rows)
    page.say("Both stages of a row took as many steps of the same size; the source gives no numbers.")
    return page
