"""The same code size by one, two and three levels: the error of what comes back, and the time of a step, by level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.experiments.bench import at
from zoo.experiments.strips import strips
from zoo.pictures.lines import Plot, lines

if TYPE_CHECKING:
    from zoo.experiments.bench import Bench
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe
    from zoo.experiments.runs import Run

STACKS = "one", "two"
SCALE = 4  # an error of images in [-1, 1] over that of the same images in [0, 1]


def run(recipe: Recipe, bench: Bench) -> Page:
    """Train the stacks, then level 2 of two levels in codes, in pixels, and in both; and refine the two together."""
    page, settings = bench.page(), recipe.settings
    runs = {name: bench.train(name, spec) for name, spec in recipe.stacks.items()}
    two = runs["two"]
    top = recipe.stacks["two"].rpartition("/")[2]
    pixels = bench.train("two-in-pixels", f"{at(two.folder, 1)}/{top}", loss_in="pixels", steps=settings["pixel_steps"])
    both = bench.train(
        "two-in-codes-then-pixels", two, level=2, loss_in="pixels",
        steps=settings["refine_steps"], lr=settings["refine_rate"],
    )  # fmt: skip
    refined = bench.train("two-refined", at(two.folder), refine=True, steps=settings["refine_steps"])
    longer = bench.train("one-longer", runs["one"], level=1, steps=settings["refine_steps"])  # who has as many steps
    errors = {name: [bench.error(run.stack, level) for level in _levels(run)] for name, run in runs.items()}
    page.table("Error and time, level by level", [row for name in runs for row in _rows(recipe, name, runs, errors)])
    page.say(
        "The error is cumulative, from the pixels up to this level and back, over the whole test set. The source's is "
        f"in [-1, 1], where the same error is {SCALE} times as large. Its table has two errors in two different "
        "stacks, and one batch behind each: take it as a hint."
    )
    ways = {"in codes": two, "in pixels": pixels, "in codes, then in pixels": both, "both levels refined": refined}
    on = {"in codes, then in pixels": two, "both levels refined": two, "one level, as much longer": runs["one"]}
    encoding = bench.encoding_seconds(two.stack, 1)
    page.table("The second of two levels", [
        _way(name, run, bench, on.get(name)) for name, run in (ways | {"one level, as much longer": longer}).items()
    ])  # fmt: skip
    page.say(
        "Seconds are those of the steps, without looks at held-out images. To train in codes, all images that are "
        f"learned from have to be encoded once, which takes {encoding:.0f} s here and then is kept."
    )
    page.picture(_curves(two, pixels, both, bench), "Level 2 in codes and in pixels: held-out error in pixels")
    shown = strips({**runs, "two, refined": refined}, bench, "images.png", f"{bench.data}, test")
    page.picture(shown, "Test images, and what comes back")
    _judge_times(page, runs, recipe)
    _judge_errors(page, errors, bench.error(refined.stack), bench.error(longer.stack), recipe)
    _judge_codes(page, ways, encoding)
    return page


def _levels(run: Run) -> range:
    return range(1, len(run.stack.levels) + 1)


def _rows(recipe: Recipe, name: str, runs: dict[str, Run], errors: dict[str, list[float]]) -> list[dict[str, Any]]:
    run, first = runs[name], runs[name].step_seconds(1)
    rows = []
    for level in _levels(run):
        seconds = run.step_seconds(level)
        rows.append({
            "stack, level": f"{name}, {level}: `{run.stack.spec.levels[level - 1]}`",
            "MSE": errors[name][level - 1],
            "MSE in [-1, 1]": SCALE * errors[name][level - 1],
            "the source's": recipe.told("error", name, level - 1),
            "ms a batch": 1000 * seconds,
            "of level 1": seconds / first,
            "the source's share": _told_share(recipe, name, level),
        })  # fmt: skip
    return rows


def _told_share(recipe: Recipe, name: str, level: int) -> float | None:
    """What a step of a level takes of one of level 1, as the source has it."""
    first, own = (recipe.told("seconds", name, number - 1) for number in (1, level))
    return None if first is None or own is None else own / first


def _way(name: str, run: Run, bench: Bench, before: Run | None) -> dict[str, Any]:
    """A row; ``before`` is the run that this one went on from, which has taken steps and time as well."""
    parts = [(part.history[-1]["step"], part.history[-1]["level"], part) for part in (before, run) if part is not None]
    seconds = sum(steps * part.step_seconds(level) for steps, level, part in parts)
    return {"trained": name, "steps": sum(steps for steps, _, _ in parts), "seconds": seconds,
            "MSE": bench.error(run.stack)}  # fmt: skip


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


def _judge_times(page: Page, runs: dict[str, Run], recipe: Recipe) -> None:
    for name, run in runs.items():
        for level in _levels(run)[1:]:
            share, told = run.step_seconds(level) / run.step_seconds(1), _told_share(recipe, name, level)
            if told is not None:
                page.claim(f"`{name}`: level {level} takes at most the source's {told:.3f} of level 1's time",
                           share <= told, f"{share:.3f}")  # fmt: skip
    two, alone, slower = runs["two"], runs["one"].step_seconds(1), recipe.settings["slower"]
    share = two.step_seconds(2) / two.step_seconds(1)
    page.claim(f"ours: level 2 takes at most {slower:g} of level 1's time", share <= slower, f"{share:.3f}")
    page.claim("level 1 of a stack is not faster than one level alone", two.step_seconds(1) >= 0.9 * alone,
               f"{two.step_seconds(1) / alone:.2f} of its time")  # fmt: skip


def _judge_errors(page: Page, errors: dict[str, list[float]], refined: float, longer: float, recipe: Recipe) -> None:
    settings, one = recipe.settings, errors["one"][-1]
    penalty = errors["two"][-1] / one
    page.claim(f"two levels lose some accuracy to one (at most {settings['penalty']:g} times its error)",
               penalty <= settings["penalty"], f"{penalty:.3f} times")  # fmt: skip
    page.claim(
        f"refined together they lose nothing (at most {settings['refined']:g} times)",
        refined <= settings["refined"] * one,
        f"{refined / one:.3f} times; {refined / longer:.3f} times one level that was trained as much longer",
    )


def _judge_codes(page: Page, ways: dict[str, Run], encoding: float) -> None:
    codes, pixels = ways["in codes"].curve(2), ways["in pixels"].curve(2)
    goal = pixels[-1][2]
    there = next((point for point in codes if point[2] <= goal), None)
    claim, last = "a loss in codes takes more iterations, each far cheaper", pixels[-1]
    if there is None:
        page.claim(
            claim, None, f"{codes[-1][0]} steps in codes reach {codes[-1][2]:.5f}, {last[0]} in pixels {goal:.5f}"
        )
        return
    evidence = (
        f"{there[0]} steps and {there[1]:.1f} s in codes, {last[0]} steps and {last[1]:.0f} s in pixels; to encode "
        f"everything once takes {encoding:.0f} s"
    )
    page.claim(claim, there[0] > last[0] and there[1] < last[1], f"to the same {goal:.5f}: {evidence}")
