"""A table of stacks on several sets of images: errors, whether classifiers recognise what came back, and times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from zoo.data import images
from zoo.evaluation import pca, recognition
from zoo.evaluation.protocol import measuring
from zoo.evaluation.reconstruction import compare
from zoo.experiments.bench import AT_ONCE, as_file, batches
from zoo.pictures.grids import labelled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from zoo.data import Images
    from zoo.experiments.bench import Bench, Run
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe
    from zoo.stack import Stack

    Rows = dict[str, dict[str, Any]]

BY_STACK = True
"""Every stack is a row, and any can be left out."""
SHOWN = 10
PCA = "principal components"
COMBINED = ("feature loss + pixel shuffle", "feature loss + progressive", "all", "ours + feature loss")
MISSING = "not all of it was trained, or there was no classifier"


def run(recipe: Recipe, bench: Bench) -> Page:
    """Train every stack on every set of images, and measure what comes back of the test images."""
    page, sets = bench.page(), recipe.settings["sets"]
    if bench.data != recipe.data:
        sets = {bench.data: sets.get(bench.data, {})}
    rows = {name: _table(bench, page, name, about) for name, about in sets.items()}[bench.data]
    judge = next(iter(_judges(bench, sets[bench.data])), "")
    _claims(page, rows, f"accuracy, {judge}", recipe.settings["bars"])
    return page


def _table(bench: Bench, page: Page, name: str, about: Mapping[str, Any]) -> Rows:
    """All stacks on one set of images, with the source's numbers where it has any."""
    told = bench.recipe.reference.get(about.get("reference", ""), {})
    why = {stack: _left_out(bench, name, stack, about) for stack in bench.recipe.stacks}
    runs = {stack: bench.train(_run(name, stack), bench.filled(bench.recipe.stacks[stack]), data=name,
                               **bench.recipe.settings.get("options", {}).get(stack, {}))
            for stack, reason in why.items() if not reason}  # fmt: skip
    rows: Rows = {}
    if runs:
        first = next(iter(runs.values())).stack
        shown = bench.test(first, name)
        said = {stack: _recognised(bench, done.stack, name, about) for stack, done in runs.items()}
        originals = {column: found["originals"] for column, found in next(iter(said.values())).items()}
        rows["the images themselves"] = originals | _beside(told.get("originals", {}))
        for stack, done in runs.items():
            accuracies = {column: found["reconstructions"] for column, found in said[stack].items()}
            errors = _errors(shown, done.stack)
            rows[stack] = {**errors, **accuracies, "minutes": done.seconds / 60, **_beside(told.get(stack, {}))}
        rows[PCA] = _components(bench, first, name)
        page.table(f"{shown.name}, test images", [{"stack": stack, **row} for stack, row in rows.items()])
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
    return f"{as_file(name)}-{as_file(stack)}"


def _judges(bench: Bench, about: Mapping[str, Any]) -> list[str]:
    """The classifiers that are here; by the first the claims are judged."""
    asked: list[str] = about.get("classifiers", [recognition.OWN])
    return [judge for judge in asked if not bench.missing(judge)]


def _recognised(bench: Bench, stack: Stack, name: str, about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What each classifier says of test images and of what came back, by the column that it has."""
    test, train = bench.test(stack, name), images(name, stack.input_shape, split="train")
    found = {}
    for judge in _judges(bench, about):
        own = f"{recognition.OWN}={bench.folder / f'judge-{as_file(name)}.safetensors'}"
        with measuring(stack):
            found[f"accuracy, {judge}"] = recognition.recognise(
                stack, test, classifier=own if judge == recognition.OWN else bench.filled(judge), train=train,
                batch_size=AT_ONCE, progress=bench.progress,
            )  # fmt: skip
    return found


def _errors(shown: Images, back: Stack | Callable[[Tensor], Tensor]) -> dict[str, float]:
    """MAE and MSE over all images."""
    with torch.inference_mode():
        parts = [compare(x, back(x), ssim=False) for x in batches(shown)]
    return {name.upper(): torch.cat([part[name] for part in parts]).mean().item() for name in ("mae", "mse")}


def _components(bench: Bench, stack: Stack, name: str) -> dict[str, float]:
    """The errors of as many principal components as a code has numbers."""
    train, settings = images(name, stack.input_shape, split="train"), bench.recipe.settings
    some = train.batch(torch.arange(len(train))[:: max(1, len(train) // settings["components_from"])])
    model = pca.fit(some, (settings["code"],), seed=0)
    return _errors(bench.test(stack, name), lambda x: model.decode(model.encode(x)).clamp(0, 1))


def _beside(told: Mapping[str, float]) -> dict[str, float]:
    """The source's numbers, as columns of their own."""
    return {f"the source's {name}": value for name, value in told.items()}


def _picture(bench: Bench, page: Page, shown: Images, runs: Mapping[str, Run]) -> None:
    rows = [shown.batch(slice(0, SHOWN))]
    for done in runs.values():
        with measuring(done.stack):
            rows.append(done.stack(rows[0]))
    path = bench.folder / f"{as_file(shown.name)}.png"
    page.picture(labelled(rows, path, title=f"{shown.name}, test", beside=["images", *runs]), "What comes back")


def _claims(page: Page, rows: Rows, accuracy: str, bars: Mapping[str, float]) -> None:
    """What the source says, and what it only wished for."""

    def times(text: str, one: str, other: str, bar: float, *, below: bool = False) -> None:
        found, base = (rows.get(name, {}).get(accuracy) for name in (one, other))
        if found is None or not base:
            page.claim(text, None, MISSING)
            return
        ratio = found / base
        page.claim(text, ratio < bar if below else ratio >= bar, f"{found:.4f} and {base:.4f}: {ratio:.3f} times")

    def number(text: str, stack: str, column: str, holds: Callable[[float], bool]) -> None:
        value = rows.get(stack, {}).get(column)
        page.claim(text, None if value is None else holds(value), MISSING if value is None else f"{value:.4g}")

    often, mse = "what comes back is recognised", bars["feature_mse"]
    times(f"feature loss: {often} at least {bars['feature_accuracy']:g} times as often as with the baseline",
          "feature loss", "baseline", bars["feature_accuracy"])  # fmt: skip
    number(f"feature loss: an MSE of at most {mse:g}", "feature loss", "MSE", lambda value: value <= mse)
    times(f"pixel shuffle: {often} at least as often as with the baseline", "pixel shuffle", "baseline", 1.0)
    times(f"a pretrained encoder with a map of one pixel gains little: {often} less than {bars['no_gain']:g} times as "
          "often as with a fresh one", "pretrained", "fresh ResNet", bars["no_gain"], below=True)  # fmt: skip
    times(f"a pretrained encoder with a larger map: {often} at least as often as with the baseline",
          "pretrained, larger map", "baseline", 1.0)  # fmt: skip
    best = max(COMBINED, key=lambda name: rows.get(name, {}).get(accuracy, 0.0))
    times(f"the best combination, here {best}: {often} more often than with feature loss alone",
          best, "feature loss", bars["combined"])  # fmt: skip
    number(f"the zoo's own network: at least {bars['ours_accuracy']:g} of what comes back is recognised",
           "ours", accuracy, lambda value: value >= bars["ours_accuracy"])  # fmt: skip
    linear = rows.get(PCA, {}).get("MSE", 0.0)
    number(f"the zoo's own network: an MSE of at most that of as many principal components, {linear:.3g}",
           "ours", "MSE", lambda value: value <= linear)  # fmt: skip
