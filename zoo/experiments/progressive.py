"""Stages that grow with their images, beside the same ones that learn from whole images throughout."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING, Any

from torch.nn.functional import interpolate

from zoo.data import images
from zoo.evaluation.protocol import measuring
from zoo.experiments.bench import as_file, batches, spread
from zoo.pictures.grids import labelled

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data import Images
    from zoo.experiments.bench import Bench
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe
    from zoo.experiments.runs import Run
    from zoo.stack import Stack

WAYS = ("plain", "progressive")
SHOWN = 10


def run(recipe: Recipe, bench: Bench) -> Page:
    """Train every stack both ways with several seeds, and evaluate it at several sizes."""
    page, settings = bench.page(), recipe.settings
    bench.look(settings["elsewhere"])
    rows: list[dict[str, Any]] = []
    sizes: list[dict[str, Any]] = []
    for name, spec in recipe.stacks.items():
        runs: dict[str, list[Run]] = {way: [] for way in WAYS}
        for seed in range(settings["seeds"]):  # in turn, as times are compared
            for way in WAYS if seed % 2 == 0 else reversed(WAYS):
                runs[way].append(_trained(bench, name, spec, way, seed))
        errors = {way: [bench.error(one.stack) for one in runs[way]] for way in WAYS}
        seconds = {way: [_seconds(one) for one in runs[way]] for way in WAYS}
        rows += [
            {"stack": name, "seed": seed, **{f"MSE, {way}": errors[way][seed] for way in WAYS},
             **{f"seconds, {way}": seconds[way][seed] for way in WAYS}}
            for seed in range(settings["seeds"])
        ]  # fmt: skip
        time, error = (mean(of["progressive"]) / mean(of["plain"]) for of in (seconds, errors))
        page.claim(
            f"{name}: progressive resizing takes less than {settings['faster']:g} times as long for as many epochs, at "
            f"an error within {settings['worse'] - 1:.0%}",
            time < settings["faster"] and error <= settings["worse"],
            f"{time:.3f} times the time, {error:.3f} times the error, means over {settings['seeds']} seeds",
        )
        sizes += [{"stack": name, "trained": way, **_at_sizes(bench, runs[way][0].stack)} for way in WAYS]
        path = bench.folder / f"{as_file(name)}.png"
        page.picture(_picture(bench, runs, path), f"{name}: what comes back at {settings['sizes'][-1]} pixels")
    page.table("Error and time", rows)
    if beside := _beside(recipe):
        page.say(beside)
    page.table(f"Trained at {_side(runs['plain'][0].stack)}, evaluated at other sizes: MSE", sizes)
    page.say(
        f"Test images of {settings['elsewhere']}, brought to each size; of the first seed. A stack whose code is a map "
        "takes them as they are. Others are made for one size: images are brought to it, and what comes back is "
        "brought to the size again."
    )
    return page


def _trained(bench: Bench, name: str, spec: str, way: str, seed: int) -> Run:
    how: dict[str, Any] = {"progressive": tuple(bench.recipe.settings["heights"])} if way == "progressive" else {}
    return bench.train(f"{name}-{way}-{seed}", spec, seed=seed, **how)


def _seconds(one: Run) -> float:
    """The time of all phases, validation included."""
    last: dict[str, float] = {line["phase"]: line["seconds"] for line in one.history}
    return sum(last.values())


def _beside(recipe: Recipe) -> str:
    told = [recipe.told(column, way) for way in ("plain", "progressive") for column in ("mse", "minutes")]
    if None in told:
        return ""
    return "The source has an error of {:g} after {:g} minutes, and progressively {:g} after {:g}.".format(*told)


def _at_sizes(bench: Bench, stack: Stack) -> dict[str, float]:
    """The error at every size, over all test images."""
    return {str(side): _error(stack, _shown(bench, stack, side)) for side in bench.recipe.settings["sizes"]}


def _shown(bench: Bench, stack: Stack, side: int) -> Images:
    return images(bench.recipe.settings["elsewhere"], (stack.input_shape[0], side, side), split="test")


def _error(stack: Stack, shown: Images) -> float:
    with measuring(stack):
        total = sum((_back(stack, x) - x).square().mean().item() * len(x) for x in batches(shown))
    return total / len(shown)


def _back(stack: Stack, x: Tensor) -> Tensor:
    """Images there and back, at their own size."""
    if len(stack.code_shape) > 1:
        x_hat: Tensor = stack(x)
        return x_hat
    return _resized(stack(_resized(x, stack.input_shape[1:])), x.shape[2:]).clamp(0, 1)


def _resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    same = tuple(x.shape[2:]) == tuple(size)
    return x if same else interpolate(x, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)


def _side(stack: Stack) -> int:
    return stack.input_shape[1]


def _picture(bench: Bench, runs: dict[str, list[Run]], path: Any) -> Any:
    stacks = {way: found[0].stack for way, found in runs.items()}
    shown = _shown(bench, stacks["plain"], bench.recipe.settings["sizes"][-1])
    x = shown.batch(spread(shown, SHOWN))
    rows = [x]
    for stack in stacks.values():
        with measuring(stack):
            rows.append(_back(stack, x))
    return labelled(rows, path, title=f"{stacks['plain'].spec}, test images", beside=["original", *stacks])
