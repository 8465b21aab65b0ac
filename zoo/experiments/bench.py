"""Where an experiment is carried out: runs are trained once and kept, and measured on whole test sets."""

from __future__ import annotations

import json
import re
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from zoo import builder, codes, files, training
from zoo.data import images
from zoo.errors import EvaluationError, RecipeError
from zoo.evaluation import classifier, pca
from zoo.evaluation.protocol import measuring
from zoo.experiments.facts import facts
from zoo.experiments.page import Page
from zoo.experiments.parts import SAME, mingled
from zoo.experiments.runs import Run, Took, finished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from zoo.data import Images
    from zoo.experiments.recipes import Recipe
    from zoo.stack import Stack

AT_ONCE = 250
SMALL = 1, 8, 8
"""The shape in which images are looked at to see that they are there."""
TIMED = 4
"""Batches that encoding is timed on."""
COMPONENTS_FROM = 20_000
"""Images that principal components are found from, at most."""
RECIPE = "recipe.json"  # which recipe a folder is of


class Bench:
    """Trains and measures for one experiment, in a folder of its own.

    Args:
        recipe: what is carried out.
        data: images to train and measure on; the recipe's where None.
        folder: for runs and the page.
        progress: show bars.
        brought: files that the recipe asks for, by name.
        only: names of stacks to train; all where there are none.
        epochs: how long every run takes, where the recipe's own number has been replaced by this one.

    Raises:
        RecipeError: the folder holds the runs of another recipe, of other data or of other epochs, or other files.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: str | None,
        folder: Path,
        *,
        progress: bool,
        brought: Mapping[str, Path] | None = None,
        only: Sequence[str] = (),
        epochs: int | None = None,
    ) -> None:
        self.recipe, self.data, self.folder, self.progress = recipe, data or recipe.data, folder, progress
        self.chosen = data is not None
        """The images are not simply those of the recipe."""
        self.brought, self.only, self.epochs = dict(brought or {}), tuple(only), epochs
        self.mingled: dict[str, str] = {}
        """What has to be said of test images that are training images, by the name of what was measured on."""
        files.write_json(folder / RECIPE, self._checked_folder())

    def _checked_folder(self) -> dict[str, Any]:
        """What is told of a folder: that it is this recipe's. Another's is left alone, and one with other files."""
        recipe, path = self.recipe, self.folder / RECIPE
        told = {"recipe": recipe.name, "experiment": recipe.experiment, "data": self.data, "quick": recipe.quick}
        told |= {} if self.epochs is None else {"epochs": self.epochs}
        if path.is_file() and files.read_json(path) != told:
            raise RecipeError(
                f"{self.folder} holds the runs of another recipe, of other data or of other epochs: choose another "
                "folder (--out), or remove it"
            )
        if not path.is_file() and self.folder.is_dir() and any(self.folder.iterdir()):
            raise RecipeError(
                f"{self.folder} holds other files, which might be replaced: choose a folder (--out) that is empty or "
                "not there yet"
            )
        return told

    def train(
        self,
        name: str,
        stack: str | Run,
        *,
        data: str | Images | None = None,
        change: Callable[[Stack], None] | None = None,
        **options: Any,
    ) -> Run:
        """Train a stack, or take it as it was trained before under this name.

        Args:
            name: of the run; its folder is ``runs/NAME``, less what no path should have.
            stack: its spec, with files by their names in braces; or a run whose stack is trained on.
            data: other images than the experiment's.
            change: done to the stack before it is trained.
            **options: of ``zoo.fit``, over those of the recipe.

        Raises:
            RecipeError: the run of this name is of another stack or of other data, files or options.
        """
        folder = self.place(name)
        budgets = ("epochs", "steps", "minutes")
        chosen = {key: value for key, value in self.recipe.training.items()
                  if key not in budgets or not any(budget in options for budget in budgets)}  # fmt: skip
        chosen |= options
        took = Took(folder, self._asked(stack, data, chosen, changed=change is not None))
        if not took.finished:
            with took.part():
                made = (
                    builder.load(stack.folder)
                    if isinstance(stack, Run)
                    else builder.build(self.filled(stack), seed=chosen.get("seed", 0))
                )
                if change is not None:
                    change(made)
                kept, held = self._divided(made, data)
                begun = (folder / training.RUN).is_file()
                training.fit(made, kept, val=held, out=folder, resume=begun, progress=self.progress, **chosen)
        return Run(builder.load(folder), folder, chosen.get("batch_size", 64), took.seconds)

    def place(self, name: str) -> Path:
        """The folder of a run by its name.

        Raises:
            RecipeError: nothing of the name can be part of a path.
        """
        if not as_file(name):
            raise RecipeError(f"{self.recipe.name}: a run called {name!r} has no letter or digit to be kept under")
        return self.folder / "runs" / as_file(name)

    def _asked(
        self, stack: str | Run, data: str | Images | None, options: Mapping[str, Any], *, changed: bool
    ) -> dict[str, Any]:
        """What decides about a run, wherever its folder lies."""
        spec = at(stack.folder) if isinstance(stack, Run) else stack
        below = [Path(json.loads(path)) for path in re.findall(r'(?<=folder\()"(?:[^"\\]|\\.)*"', spec)]
        for number, path in enumerate(below):
            spec = spec.replace(json.dumps(str(path)), f"({number})")
        return {
            "stack": spec,
            "levels below": [[level["sha256"] for level in files.read_config(path)["levels"]] for path in below],
            "data": (data or self.data) if isinstance(data, str | None) else data.fingerprint,
            "choice of images": [self.recipe.settings.get(name) for name in ("images", "held_out")],
            "options": dict(options) | ({"changed": True} if changed else {}),
            "files": {name: files.sha256(path) for name, path in self.brought.items() if f"{{{name}}}" in spec},
        }

    def missing(self, text: str) -> list[str]:
        """The files that a spec, or the name of a classifier, asks for and that are not here."""
        return [name for name in self.recipe.files if f"{{{name}}}" in text and name not in self.brought]

    def filled(self, text: str) -> str:
        """A spec, or the name of a classifier, with the paths of its files."""
        for name, path in self.brought.items():
            text = text.replace(f'"{{{name}}}"', json.dumps(str(path))).replace(f"{{{name}}}", str(path))
        return text

    def finished(self, name: str) -> bool:
        """Whether a run of this name is over."""
        return finished(self.place(name))

    def encode(self, stage: str) -> None:
        """Have the codes of the images in the cache, so that the time of no run includes them."""
        stack = builder.build(stage)
        kept, _ = self._divided(stack, None)
        codes.encode(stack, images(kept, stack.input_shape), levels=len(stack.levels), coding=codes.Coding())

    def encoding_seconds(self, stack: Stack, levels: int) -> float:
        """How long it takes to encode all images that the experiment learns from, once, by the first levels."""
        kept, _ = self._divided(stack, None)
        shown = images(kept, stack.input_shape, split="train")
        x = shown.batch(spread(shown, AT_ONCE)).to(stack.device)
        with measuring(stack):
            stack.encode(x, levels)
            start = perf_counter()
            for _ in range(TIMED):
                stack.encode(x, levels).sum().item()
        return (perf_counter() - start) / TIMED / len(x) * len(shown)

    def _divided(self, stack: Stack, data: str | Images | None) -> tuple[Any, Images | None]:
        """What is learned from, and what the best weights are chosen by, as many as the recipe says of each."""
        most, held = (self.recipe.settings.get(name) for name in ("images", "held_out"))
        shown = data or self.data
        if most is not None:
            found = images(shown, stack.input_shape, split="train")
            shown = found.subset(spread(found, most))
        if held is None:
            return shown, None
        return images(shown, stack.input_shape, split="train").held_out(held, seed=0)

    def look(self, *names: str, labelled: bool = False) -> None:
        """Find out now, rather than when everything is trained, that images of these names cannot be measured on.

        Raises:
            DataError: they are not there.
            EvaluationError: they have no labels, and are to be ``labelled``.
        """
        for name in names:
            if images(name, SMALL, split="test").labels is None and labelled:
                raise EvaluationError(f"{name} has no labels, which a classifier judges by: take other images (--data)")

    def test(self, stack: Stack, data: str | None = None) -> Images:
        """The test set as a stack takes it: whole, or as many images of it as the recipe says."""
        name, most = data or self.data, self.recipe.settings.get("tested")
        whole = images(name, stack.input_shape, split="test")
        if name not in self.mingled:
            self.mingled[name] = mingled(images(name, stack.input_shape, split="train"), whole)
        return whole if most is None else whole.subset(spread(whole, most))

    def error(self, stack: Stack, levels: int | None = None, *, data: str | None = None) -> float:
        """The mean squared error of what comes back through the first levels, in [0, 1], over the whole test set."""
        shown = self.test(stack, data)
        total = 0.0
        with measuring(stack):
            for x in batches(shown):
                total += (stack.decode(stack.encode(x, levels), levels) - x).square().mean().item() * len(x)
        return total / len(shown)

    def components(self, stack: Stack, widths: Sequence[int], data: str | None = None) -> list[pca.Pca]:
        """Principal components of the images that a stack learns from, so many of each."""
        learned, _ = self._divided(stack, data)
        found = images(learned, stack.input_shape, split="train")
        some = found.batch(spread(found, COMPONENTS_FROM))
        return [pca.fit(some, (width,), seed=0) for width in widths]

    def judge(self, stack: Stack) -> classifier.Classifier:
        """A classifier of the experiment's images, trained once; before any run, as images without labels have none.

        Args:
            stack: takes images of the shape that it judges.

        Raises:
            EvaluationError: the images have no labels, or there are too few.
        """
        path = self.folder / "judge.safetensors"
        if not path.is_file():
            train = images(self.data, stack.input_shape, split="train")
            classifier.train(train, self.test(stack), progress=self.progress).save(path)
        return classifier.load(path)

    def page(self) -> Page:
        """An empty page that says what its numbers rest on."""
        counts = not self.recipe.quick or self.recipe.settings.get("quick_counts", False)
        data = self.data if self.chosen else None
        told = facts(self.recipe, data, epochs=self.epochs, brought=self.brought, only=self.only)
        page = Page(self.recipe.title, self.folder, told, judging=counts)
        if not counts:
            page.say("**A quick run, which only shows that everything works. Its numbers mean nothing.**")
        page.say(f"{self.recipe.about}\n\nSource: {self.recipe.source}")
        return page

    def finish(self, page: Page) -> None:
        """Write the page, with what has to be said of test images that are training images."""
        for name, said in self.mingled.items():
            if said == SAME:
                page.doubt(f"The training and test images of {name} are {said}. So no claim is judged.")
            elif said:
                page.facts["data"] += f"; {name}: **{said}**"
        page.write()


def spread(shown: Images, most: int) -> Tensor:
    """The places of so many images, evenly from first to last, and so of all classes where they lie class by class."""
    return torch.linspace(0, len(shown) - 1, min(most, len(shown))).long()


def batches(shown: Images) -> Iterator[Tensor]:
    """All images in order, some at a time."""
    return (shown.batch(slice(start, start + AT_ONCE)) for start in range(0, len(shown), AT_ONCE))


def as_file(name: str) -> str:
    """A name as a part of a path: letters of any script, digits, points within, and single dashes.

    >>> as_file("feature loss + progressive"), as_file("../fc32-0.001"), as_file("β=4")
    ('feature-loss-progressive', 'fc32-0.001', 'β-4')
    """
    return "-".join(re.findall(r"\w(?:[\w.]*\w)?", name))


def at(folder: Path, levels: int | None = None) -> str:
    """The part of a spec that stands for the levels of a saved stack."""
    return f"folder({json.dumps(str(folder))}{'' if levels is None else f', levels={levels}'})"
