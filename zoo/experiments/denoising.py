"""Clean images from corrupted ones: stacks trained on clean images beside the same trained on what they will meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.data.corruption import Corruption
from zoo.evaluation.protocol import measuring, stream
from zoo.evaluation.restoration import restore
from zoo.experiments.bench import as_file
from zoo.pictures.grids import labelled

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.experiments.bench import Bench
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe
    from zoo.experiments.runs import Run

    Runs = dict[str, Run]

SHOWN = 16
CLEAN = "trained on clean images"


def run(recipe: Recipe, bench: Bench) -> Page:
    """For every corruption train every stack on it, and measure on test images that nobody has seen."""
    page = bench.page()
    clean = {name: bench.train(f"{name}-clean", spec) for name, spec in recipe.stacks.items()}
    rows: list[dict[str, Any]] = []
    for words in recipe.settings["corruptions"]:
        corruption = Corruption.parse(words)
        trained = {name: bench.train(f"{name}-{words}", spec, corrupt=words)
                   for name, spec in recipe.stacks.items()}  # fmt: skip
        rows += [_row(name, corruption, clean[name], trained[name], bench) for name in recipe.stacks]
        page.picture(_strips(corruption, clean, trained, bench), f"Test images with {words}, and what comes back")
    page.table("Restored", rows)
    page.say("PSNR against the clean test images, all of them, in dB; each stack is as large and learns as long.")
    gains = [row["trained on it"] - row["corrupted"] for row in rows]
    page.claim(
        "what comes back is nearer to the clean image than what went in",
        min(gains) > 0,
        ", ".join(
            f"{row['stack']}, {row['images with']}: {gain:+.1f} dB" for row, gain in zip(rows, gains, strict=True)
        ),
    )
    over = [row["trained on it"] - row[CLEAN] for row in rows]
    page.claim(
        "a stack that has learned from such images restores better than one that has seen clean ones only",
        min(over) > 0,
        ", ".join(
            f"{row['stack']}, {row['images with']}: {gain:+.1f} dB" for row, gain in zip(rows, over, strict=True)
        ),
    )
    return page


def _row(name: str, corruption: Corruption, clean: Run, trained: Run, bench: Bench) -> dict[str, Any]:
    found = {}
    for which, run in ((CLEAN, clean), ("trained on it", trained)):
        with measuring(run.stack):
            found[which] = restore(run.stack, bench.test(run.stack), corruption)
    return {
        "stack": name,
        "images with": str(corruption),
        "corrupted": found[CLEAN]["psnr_corrupted"],
        **{which: numbers["psnr"] for which, numbers in found.items()},
        "MSE": found["trained on it"]["mse"],
    }


def _strips(corruption: Corruption, clean: Runs, trained: Runs, bench: Bench) -> Path:
    first = next(iter(clean.values())).stack
    x = bench.test(first).batch(slice(0, SHOWN))
    seen = corruption.apply(x, stream(0, "shown"))
    rows, beside = [x, seen], ["original", str(corruption)]
    for name, run in trained.items():
        for which, one in (("clean only", clean[name]), ("trained on it", run)):
            with measuring(one.stack):
                rows.append(one.stack(seen))
            beside.append(f"{name}\n{which}")
    path = bench.folder / f"{as_file(str(corruption))}.png"
    return labelled(rows, path, title=f"Test images with {corruption}", beside=beside)
