"""Kinds of autoencoders by the size of their code, all on one shared stage: errors, samples, codes, and between."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, cast

import torch

from zoo import builder
from zoo.experiments.bench import at, batches
from zoo.experiments.judging import kid
from zoo.experiments.sweep import pictures
from zoo.experiments.sweep.claims import PLAIN, RETURNED, Found, judge_claims

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.evaluation.classifier import Classifier
    from zoo.experiments.bench import Bench
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe
    from zoo.experiments.runs import Run
    from zoo.interfaces import Term
    from zoo.stack import Stack


@dataclass(frozen=True)
class Swept:
    """All that was trained.

    Args:
        runs: by kind and size, at the default weights.
        weighed: by kind, size and weight, at others.
        doubled: by kind, the one size at twice the steps.
        seconds: that the runs took, all together.
    """

    runs: dict[tuple[str, int], Run]
    weighed: dict[tuple[str, int, float], Run]
    doubled: dict[str, Run]
    seconds: float


def run(recipe: Recipe, bench: Bench) -> Page:
    """Train every kind at every size, and put the whole comparison on one page."""
    page, judge = bench.page(), bench.judge(builder.build(recipe.settings["stage"]))
    swept = _train(recipe, bench)
    errors = {key: bench.error(run.stack) for key, run in swept.runs.items()}
    weighed = {key: bench.error(run.stack) for key, run in swept.weighed.items()}
    components = _components(recipe, bench, next(iter(swept.runs.values())).stack)
    page.table("Error", _error_rows(recipe, errors, components))
    page.say(
        "Mean squared error of test images in [0, 1], all of them; the source's on the first 1,000 of Fashion-MNIST. "
        "PCA is of whole images."
    )
    curve = pictures.error_curve(recipe, errors, components, weighed, bench.folder)
    page.picture(curve, "Error by size, kind and weight")
    doubled = {kind: bench.error(run.stack) for kind, run in swept.doubled.items()}
    kids = _kids(recipe, swept, judge, bench)
    page.table("Samples", _sample_rows(recipe, kids))
    page.say(
        "KID of samples against all test images, on the features of a classifier that was trained on the data (test "
        f"accuracy {judge.accuracy:.3f}). The plain kind has no prior: it is sampled from N(0, I) all the same, and "
        "from a Gaussian that was fitted to its codes. What comes back of real images has a KID too, as codes this "
        "small blur: for comparison, as samples may well come lower."
    )
    page.table("Other weights", _weighed_rows(swept, weighed, errors, judge, bench))
    page.picture(pictures.kid_curve(recipe, kids, bench.folder), "KID of samples by size")
    for path, caption in pictures.albums(recipe, {key: run.stack for key, run in swept.runs.items()}, bench):
        page.picture(path, caption)
    found = Found(errors, weighed, doubled, components, kids, *_efforts(swept))
    judge_claims(page, recipe, found)
    page.say(f"All {len(swept.runs)} runs took {swept.seconds / 60:.1f} minutes, without the stage and the judge.")
    return page


def _train(recipe: Recipe, bench: Bench) -> Swept:
    settings = recipe.settings
    bench.encode(settings["stage"])  # so that no run's time includes it
    runs, seconds = {}, 0.0
    for size in settings["sizes"]:
        for kind in recipe.stacks:
            runs[kind, size] = bench.train(f"{kind}-{size}", _spec(recipe, kind, size), seed=size)
            seconds += runs[kind, size].seconds
    weighed = {
        (kind, size, weight): bench.train(f"{kind}-{size}-{weight:g}", _spec(recipe, kind, size, weight), seed=size)
        for kind, weights in settings["weights"].items()
        for weight in weights
        for size in settings["weighed"]
    }
    size, steps = settings["doubled"], 2 * recipe.training["steps"]
    doubled = {
        kind: bench.train(f"{kind}-{size}-doubled", _spec(recipe, kind, size), seed=size, steps=steps)
        for kind in recipe.stacks
    }
    return Swept(runs, weighed, doubled, seconds)


def _spec(recipe: Recipe, kind: str, size: int, weight: float | None = None) -> str:
    """The stage with a level of this kind on it; the weight is over the default's."""
    level = recipe.stacks[kind].replace("N", str(size))
    if weight is None:
        return f"{recipe.settings['stage']}/{level}"
    name = level.rpartition("+")[2]
    default = cast("Term", builder.build(f"8x8x1/fc2+{name}").level(1).terms[name]).weight
    return f"{recipe.settings['stage']}/{level}({weight * default:g})"


def _efforts(swept: Swept) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int], float]]:
    """The parameters of every kind's level at every size, and the seconds of one of its steps."""
    parameters, seconds = {}, {}
    for key, run in swept.runs.items():
        top = len(run.stack.levels)
        parameters[key] = sum(weight.numel() for weight in run.stack.level(top).parameters())
        seconds[key] = run.step_seconds(top)
    return parameters, seconds


def _components(recipe: Recipe, bench: Bench, stack: Stack) -> dict[int, float]:
    """The test error of as many principal components of the images as a code has numbers, by size."""
    test = bench.test(stack)
    sizes = recipe.settings["sizes"]
    models = dict(zip(sizes, bench.components(stack, sizes), strict=True))
    count = len(test) * prod(test.shape)
    return {
        size: sum((model.decode(model.encode(x)).clamp(0, 1) - x).square().sum().item() for x in batches(test)) / count
        for size, model in models.items()
    }


def _error_rows(
    recipe: Recipe, errors: dict[tuple[str, int], float], components: dict[int, float]
) -> list[dict[str, Any]]:
    rows = []
    for place, size in enumerate(recipe.settings["sizes"]):
        row: dict[str, Any] = {"numbers": str(size)}
        for kind in recipe.stacks:
            row[kind] = errors[kind, size]
            if (told := recipe.told("error", kind, place)) is not None:
                row[f"{kind}, the source's"] = told
        rows.append(row | {"PCA": components[size]})
    return rows


def _kids(recipe: Recipe, swept: Swept, judge: Classifier, bench: Bench) -> dict[tuple[str, int], dict[str, float]]:
    found = {}
    for (kind, size), run in swept.runs.items():
        real, count = bench.test(run.stack), recipe.settings["samples"]
        found[kind, size] = _kid(run, judge, bench)
        if kind == PLAIN:
            fitted = bench.train(f"{kind}-{size}-normal", f"{at(run.folder)}/normal", steps=1)
            found[f"{kind}, own Gaussian", size] = kid(judge, real, fitted.stack.sample(count, seed=0))
            found[RETURNED, size] = kid(judge, real, _returned(run.stack, real.batch(slice(0, count))))
    return found


def _weighed_rows(
    swept: Swept,
    weighed: dict[tuple[str, int, float], float],
    errors: dict[tuple[str, int], float],
    judge: Classifier,
    bench: Bench,
) -> list[dict[str, Any]]:
    return [
        {
            "stack": f"{kind}, {weight:g} times its weight, {size} numbers",
            "MSE": error,
            "over the default's": error / errors[kind, size],
            "KID": _kid(swept.weighed[kind, size, weight], judge, bench)["KID"],
        }
        for (kind, size, weight), error in weighed.items()
    ]


def _kid(run: Run, judge: Classifier, bench: Bench) -> dict[str, float]:
    return kid(judge, bench.test(run.stack), drawn(run.stack, bench.recipe.settings["samples"]))


def _returned(stack: Stack, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([stack(part) for part in images.split(250)])


def drawn(stack: Stack, count: int, seed: int = 0) -> Tensor:
    """Images from codes of N(0, I), whether the stack has this prior or none."""
    z = torch.randn((count, *stack.code_shape), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        return torch.cat([stack.decode(part) for part in z.split(250)])


def _sample_rows(recipe: Recipe, kids: dict[tuple[str, int], dict[str, float]]) -> list[dict[str, Any]]:
    kinds = list(dict.fromkeys(kind for kind, _ in kids))
    return [
        {"numbers": str(size), **{f"{kind}, KID": kids[kind, size]["KID"] for kind in kinds}}
        for size in recipe.settings["sizes"]
    ]
