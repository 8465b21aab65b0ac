"""A recipe carried out: `zoo reproduce`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import RecipeError, nearest
from zoo.experiments.bench import Bench
from zoo.experiments.recipes import Recipe, check_files, check_form, lasting, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zoo.experiments.page import Page

EXPERIMENTS = (
    "decoders",
    "denoising",
    "depth",
    "embedding",
    "heads",
    "ladder",
    "losses",
    "modern",
    "modes",
    "noise",
    "progressive",
    "rates",
    "sweep",
    "transfer",
    "unusual",
)
"""Modules beside this one, each with ``run(recipe, bench) -> Page``, and some with ``STACKS``: names that a recipe has
to have stacks of."""


def reproduce(
    name: str | Path | Recipe,
    *,
    data: str | None = None,
    quick: bool = False,
    out: str | Path | None = None,
    brought: Mapping[str, str | Path] | None = None,
    only: Sequence[str] = (),
    epochs: int | None = None,
    progress: bool = True,
) -> Page:
    """Carry out a recipe: train what it names, measure, and write a page with the source's numbers beside ours.

    What is finished is kept in ``out``, so the same call goes on where one was interrupted.

    Args:
        name: a recipe that comes with the zoo, or a TOML file of one's own.
        data: other images than the recipe's.
        quick: a cut-down form that only shows that it runs; its numbers mean nothing.
        out: a folder for runs, pictures, ``report.md`` and ``report.json``; ``runs/reproduce-NAME`` where None.
        brought: files that the recipe asks for (``Recipe.files``), by name. What needs one that is not given is left
            out.
        only: stacks of the recipe to train, by name; what is finished is measured as well. For recipes whose
            experiment is a table of stacks: ``modern-practice``.
        epochs: of every run, instead of the recipe's own; for recipes whose budget is epochs.
        progress: show bars.

    Raises:
        RecipeError: there is no such recipe, file or stack, its budget is not in epochs, or ``out`` holds another one's
            runs.
        DataError: the images are not there.
    """
    recipe = name if isinstance(name, Recipe) else read(name, quick=quick)
    if quick and not recipe.quick:
        raise RecipeError(f"{recipe.name} has been read in full: a quick run takes read({recipe.file!r}, quick=True)")
    if recipe.experiment not in EXPERIMENTS:
        raise RecipeError(
            f"{recipe.name}: there is no experiment {recipe.experiment!r}; {nearest(recipe.experiment, EXPERIMENTS)}"
        )
    folder = Path(out) if out is not None else Path("runs") / f"reproduce-{recipe.name}{'-quick' * recipe.quick}"
    experiment, given = import_module(f"zoo.experiments.{recipe.experiment}"), _paths(brought or {})
    check_form(recipe)
    for stack in getattr(experiment, "STACKS", ()):
        if stack not in recipe.stacks:
            raise RecipeError(f"{recipe.name}: the experiment {recipe.experiment!r} asks for a stack called {stack!r}")
    check_files(recipe, given)
    if only and not getattr(experiment, "BY_STACK", False):
        raise RecipeError(f"{recipe.name}: its stacks are compared with each other, so none can be left out")
    for stack in only:
        if stack not in recipe.stacks:
            raise RecipeError(f"{recipe.name} has no stack {stack!r}; {nearest(stack, recipe.stacks)}")
    changed = None if epochs == recipe.training.get("epochs") else epochs
    recipe = recipe if changed is None else lasting(recipe, changed)
    bench = Bench(recipe, data, folder, progress=progress, brought=given, only=only, epochs=changed)
    try:
        page: Page = experiment.run(recipe, bench)
    except KeyError as error:
        if recipe.file == recipe.name:
            raise
        raise RecipeError(
            f"{recipe.file}: the experiment {recipe.experiment!r} asks for {error}, which the recipe has not; the "
            "zoo's own recipe of that experiment has all of it. What is finished is kept: add it, and go on"
        ) from error
    bench.finish(page)
    return page


def _paths(brought: Mapping[str, str | Path]) -> dict[str, Path]:
    return {name: Path(path).expanduser().resolve() for name, path in brought.items()}
