"""A table of stacks on several sets of images: errors, whether classifiers recognise what came back, and times.

What is claimed of it stands in the recipe (``zoo.experiments.claims``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from zoo.data import Images, images
from zoo.errors import RecipeError
from zoo.evaluation import recognition
from zoo.evaluation.protocol import measuring
from zoo.evaluation.reconstruction import compare
from zoo.experiments import claims
from zoo.experiments.bench import as_file, batches, spread
from zoo.experiments.claims import ACCURACY, Rows
from zoo.pictures.grids import labelled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from zoo.evaluation.recognition import Judge
    from zoo.experiments.bench import Bench
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe
    from zoo.experiments.runs import Run
    from zoo.stack import Stack

BY_STACK = True
"""Every stack is a row, and any can be left out."""
SHOWN = 10
ITSELF, PCA = "the images themselves", "principal components"
COLUMNS = ACCURACY, "MAE", "MSE", "minutes"


def run(recipe: Recipe, bench: Bench) -> Page:
    """Train every stack on every set of images, and measure what comes back of the test images."""
    page, sets = bench.page(), recipe.settings["sets"]
    claims.check(recipe, COLUMNS, (ITSELF, PCA))
    if bench.chosen:
        sets = {bench.data: sets.get(bench.data, {})}
    for name, about in sets.items():
        bench.look(name, labelled=bool(_judges(bench, about)))
    rows = {name: _table(bench, page, name, about) for name, about in sets.items()}[bench.data]
    judge = next(iter(_judges(bench, sets[bench.data])), "")
    claims.judge(page, rows, recognition.called(judge), bench)
    return page


def _table(bench: Bench, page: Page, name: str, about: Mapping[str, Any]) -> Rows:
    """All stacks on one set of images, with the source's numbers where it has any."""
    told = bench.recipe.reference.get(about.get("reference", ""), {})
    why = {stack: _left_out(bench, name, stack, about) for stack in bench.recipe.stacks}
    runs = {stack: bench.train(_run(name, stack), bench.recipe.stacks[stack], data=name,
                               **bench.recipe.settings.get("options", {}).get(stack, {}))
            for stack, reason in why.items() if not reason}  # fmt: skip
    rows: Rows = {}
    if runs:
        first = next(iter(runs.values())).stack
        shown, judges = bench.test(first, name), _taught(bench, first, name, about)
        of = about.get("reference", name)
        with measuring(first):
            rows[ITSELF] = _recognised(shown, judges) | _beside(told.get("originals", {}), of)
        for stack, done in runs.items():
            with measuring(done.stack):
                errors, came = _back(shown, done.stack)
                said, source = _recognised(came, judges), _beside(told.get(stack, {}), of)
            rows[stack] = {**errors, **said, "minutes": done.seconds / 60, **source}
        if "code" in bench.recipe.settings:
            (components,) = bench.components(first, [bench.recipe.settings["code"]], name)
            rows[PCA], _ = _back(shown, lambda x: components.decode(components.encode(x)).clamp(0, 1))
        page.table(f"{shown.name}, test images", [{"stack": stack, **row} for stack, row in rows.items()])
        if PCA in rows:
            page.say(f"The principal components are of {components.inputs:,} of the images that are learned from.")
        _picture(bench, page, shown, runs)
    left = [f"{stack} ({reason})" for stack, reason in why.items() if reason]
    if left:
        page.say(f"Left out on {name}: {'; '.join(left)}.")
    return rows


def _left_out(bench: Bench, name: str, stack: str, about: Mapping[str, Any]) -> str:
    """Why a stack is not trained on a set of images; nothing where it is."""
    if bench.finished(_run(name, stack)):
        return ""
    if missing := bench.missing(bench.recipe.stacks[stack]):
        return "; ".join(f"it takes --file {file}=FILE, {bench.recipe.files[file]}" for file in missing)
    asked = stack in about.get("stacks", [stack]) and (stack in bench.only or not bench.only)
    return "" if asked else "not asked for"


def _run(name: str, stack: str) -> str:
    return f"{name}-{stack}"


def _judges(bench: Bench, about: Mapping[str, Any]) -> list[str]:
    """The classifiers that are here; by the first the claims are judged."""
    asked: list[str] = about.get("classifiers", [recognition.OWN])
    if len({recognition.called(judge) for judge in asked}) < len(asked):
        raise RecipeError(f"{bench.recipe.name}: two of the classifiers {asked} are called the same in a table")
    return [judge for judge in asked if not bench.missing(judge)]


def _taught(bench: Bench, first: Stack, name: str, about: Mapping[str, Any]) -> dict[str, Judge]:
    """The classifiers by their columns; those of our own learn now, and are kept beside the runs."""
    shown, train = bench.test(first, name), images(name, first.input_shape, split="train")
    found = {}
    for asked in _judges(bench, about):
        called, judge = recognition.called(asked), bench.filled(asked)
        ours = recognition.OURS.fullmatch(judge)
        if ours and not ours[2]:
            kept = as_file(f"judge {name} {called.removeprefix(recognition.OWN)}")
            judge += f"={bench.folder / f'{kept}.safetensors'}"
        found[f"{ACCURACY}, {called}"] = recognition.judge_of(
            judge, shown, train=train, device=first.device, progress=bench.progress
        )
    return found


def _recognised(shown: Images, judges: Mapping[str, Judge]) -> dict[str, float]:
    """How many of these images each classifier recognises, by its column."""
    return {column: judge.accuracy(shown, lambda x: x) for column, judge in judges.items()}


def _back(shown: Images, back: Callable[[Tensor], Tensor]) -> tuple[dict[str, float], Images]:
    """MAE and MSE over all images, and what came back of them."""
    errors, came = [], []
    with torch.inference_mode():
        for x in batches(shown):
            x_hat = back(x)
            errors.append(compare(x, x_hat, ssim=False))
            came.append((x_hat.clamp(0, 1) * 255).round().byte().cpu())
    found = {name.upper(): torch.cat([part[name] for part in errors]).mean().item() for name in ("mae", "mse")}
    return found, Images(torch.cat(came), labels=shown.labels, classes=shown.classes, name=shown.name)


def _beside(told: Mapping[str, float], of: str) -> dict[str, float]:
    """The source's numbers of a set of images, as columns of their own."""
    return {f"the source's {name} ({of})": value for name, value in told.items()}


def _picture(bench: Bench, page: Page, shown: Images, runs: Mapping[str, Run]) -> None:
    rows = [shown.batch(spread(shown, SHOWN))]
    for done in runs.values():
        with measuring(done.stack):
            rows.append(done.stack(rows[0]))
    path = bench.folder / f"{as_file(shown.name)}.png"
    page.picture(labelled(rows, path, title=f"{shown.name}, test", beside=["images", *runs]), "What comes back")
