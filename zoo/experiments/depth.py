"""The same code size by one, two and three levels: the error of what comes back, and the time of a step, by level."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from zoo import builder
from zoo.experiments.bench import at
from zoo.experiments.strips import strips
from zoo.pictures.lines import Plot, lines

if TYPE_CHECKING:
    from zoo.experiments.bench import Bench, Run
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe

SCALE = 4  # an error of images in [-1, 1] over that of the same images in [0, 1]


def run(recipe: Recipe, bench: Bench) -> Page:
    """Train the stacks, then level 2 of two levels in codes, in pixels, and in both; and refine the two together."""
    page, settings = bench.page(), recipe.settings
    runs = {name: bench.train(name, spec) for name, spec in recipe.stacks.items()}
    two = runs["two"]
    top = recipe.stacks["two"].rpartition("/")[2]
    pixels = bench.train("two-in-pixels", f"{at(two.folder, 1)}/{top}", loss_in="pixels", steps=settings["pixel_steps"])
    both = bench.train(
        "two-in-codes-then-pixels", partial(builder.load, two.folder), level=2, loss_in="pixels",
        steps=settings["refine_steps"], lr=settings["refine_rate"],
    )  # fmt: skip
    refined = bench.train("two-refined", at(two.folder), refine=True, steps=settings["refine_steps"])
    errors = {name: [bench.error(run.stack, level) for level in _levels(run)] for name, run in runs.items()}
    page.table("Error and time, level by level", [row for name in runs for row in _rows(recipe, name, runs, errors)])
    page.say(
        "The error is cumulative, from the pixels up to this level and back, over the whole test set. The source's is "
        f"in [-1, 1], where the same error is {SCALE} times as large. Its table has two errors in two different "
        "stacks, and one batch behind each: take it as a hint."
    )
    ways = {"in codes": two, "in pixels": pixels, "in codes, then in pixels": both, "both levels refined": refined}
    on = {"in codes, then in pixels": two, "both levels refined": two}
    page.table("The second of two levels", [_way(name, run, bench, on.get(name)) for name, run in ways.items()])
    page.picture(_curves(two, pixels, both, bench), "Level 2 in codes and in pixels: held-out error in pixels")
    shown = strips({**runs, "two, refined": refined}, bench, "images.png", f"{bench.data}, test")
    page.picture(shown, "Test images, and what comes back")
    _judge(page, runs, errors, ways, bench)
    return page


def _levels(run: Run) -> range:
    return range(1, len(run.stack.levels) + 1)


def _rows(recipe: Recipe, name: str, runs: dict[str, Run], errors: dict[str, list[float]]) -> list[dict[str, Any]]:
    run, told = runs[name], recipe.reference
    first, told_first = run.step_seconds(1), told["seconds"][name][0]
    rows = []
    for level in _levels(run):
        seconds, told_seconds = run.step_seconds(level), told["seconds"][name][level - 1]
        rows.append({
            "stack, level": f"{name}, {level}: `{run.stack.spec.levels[level - 1]}`",
            "MSE": errors[name][level - 1],
            "MSE in [-1, 1]": SCALE * errors[name][level - 1],
            "the source's": told["error"][name][level - 1],
            "ms a batch": 1000 * seconds,
            "of level 1": seconds / first,
            "the source's share": told_seconds / told_first,
        })  # fmt: skip
    return rows


def _way(name: str, run: Run, bench: Bench, before: Run | None) -> dict[str, Any]:
    """A row; ``before`` is the run that this one went on from, which has taken steps and time as well."""
    ends = [part.history[-1] for part in (before, run) if part is not None]
    steps, seconds = (sum(end[what] for end in ends) for what in ("step", "seconds"))
    return {"trained": name, "steps": steps, "seconds": seconds, "MSE": bench.error(run.stack)}


def _curves(two: Run, pixels: Run, both: Run, bench: Bench) -> Any:
    codes = two.curve(2)
    end = codes[-1]
    after = [(end[0] + step, end[1] + seconds, error) for step, seconds, error in both.curve(2)]
    ways = {"in codes": codes, "in pixels": pixels.curve(2), "then in pixels": after}
    plots = []
    for axis, across in enumerate(("steps", "seconds")):
        found = {name: [(point[axis], point[2]) for point in curve] for name, curve in ways.items()}
        plots.append(Plot(across, "held-out MSE", found, logarithmic=True))
    return lines(plots, bench.folder / "level-2.png", title=f"Level 2 of {two.stack.spec}"[:90])


def _judge(
    page: Page, runs: dict[str, Run], errors: dict[str, list[float]], ways: dict[str, Run], bench: Bench
) -> None:
    settings = bench.recipe.settings
    two = runs["two"]
    share = two.step_seconds(2) / two.step_seconds(1)
    page.claim(
        f"deeper levels are significantly faster (here: at most {settings['slower']:g} of level 1)",
        share <= settings["slower"], f"level 2 takes {share:.3f} of level 1's time",
    )  # fmt: skip
    alone = runs["one"].step_seconds(1)
    page.claim("level 1 of a stack is not faster than one level alone", two.step_seconds(1) >= 0.9 * alone,
               f"{two.step_seconds(1) / alone:.2f} of its time")  # fmt: skip
    penalty = errors["two"][-1] / errors["one"][-1]
    page.claim(f"two levels lose some accuracy to one (at most {settings['penalty']:g} times its error)",
               penalty <= settings["penalty"], f"{penalty:.3f} times")  # fmt: skip
    refined = bench.error(ways["both levels refined"].stack) / errors["one"][-1]
    page.claim(f"refined together they lose nothing (at most {settings['refined']:g} times)",
               refined <= settings["refined"], f"{refined:.3f} times")  # fmt: skip
    _judge_codes(page, ways)


def _judge_codes(page: Page, ways: dict[str, Run]) -> None:
    codes, pixels = ways["in codes"].curve(2), ways["in pixels"].curve(2)
    goal = pixels[-1][2]
    there = next((point for point in codes if point[2] <= goal), None)
    claim, last = "a loss in codes takes more iterations, each far cheaper", pixels[-1]
    if there is None:
        page.claim(
            claim, None, f"{codes[-1][0]} steps in codes reach {codes[-1][2]:.5f}, {last[0]} in pixels {goal:.5f}"
        )
        return
    evidence = f"{there[0]} steps and {there[1]:.0f} s in codes, {last[0]} steps and {last[1]:.0f} s in pixels"
    page.claim(claim, there[0] > last[0] and there[1] < last[1], f"to the same {goal:.5f}: {evidence}")
