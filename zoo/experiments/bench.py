"""Where an experiment is carried out: runs are trained once and kept, and measured on whole test sets."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from zoo import builder, codes, files, training
from zoo.data import images
from zoo.errors import RecipeError
from zoo.evaluation import classifier, pca
from zoo.evaluation.protocol import measuring
from zoo.experiments.page import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from zoo.data import Images
    from zoo.experiments.recipes import Recipe
    from zoo.stack import Stack

AT_ONCE = 250
SMALL = 1, 8, 8
"""The shape in which images are looked at to see that they are there."""
COMPONENTS_FROM = 20_000
"""Images that principal components are found from, at most."""
TOOK = "took.json"  # beside a finished run: how long it took


@dataclass(frozen=True)
class Run:
    """A finished training.

    Args:
        name: in its experiment.
        stack: as it was saved.
        folder: where.
        batch_size: images a step.
        seconds: from the beginning to the saved stack; where it was interrupted, what came after.
    """

    name: str
    stack: Stack
    folder: Path
    batch_size: int
    seconds: float

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The lines of its history, in order."""
        text = (self.folder / training.HISTORY).read_text("utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def curve(self, level: int) -> list[tuple[int, float, float]]:
        """Steps, seconds and the squared error in pixels on held-out images, as one level learned."""
        found = [line for line in self.history if line["level"] == level and "mse" in line.get("val", {})]
        return [(line["step"], line["seconds"], line["val"]["mse"]) for line in found]

    def step_seconds(self, level: int) -> float:
        """The median time of one step of a level; NaN where the run was too short to tell."""
        rates = [line["images_per_second"] for line in self.history if line["level"] == level and "loss" in line]
        return self.batch_size / median(rates) if rates else float("nan")


class Bench:
    """Trains and measures for one experiment, in a folder of its own.

    Args:
        recipe: what is carried out.
        data: images to train and measure on.
        folder: for runs and the page.
        progress: show bars.
        brought: files that the recipe asks for, by name.
        only: names of stacks to train; all where there are none.

    Raises:
        RecipeError: the folder holds the runs of another recipe or of other data.
    """

    def __init__(
        self, recipe: Recipe, data: str, folder: Path, *, progress: bool, brought: Mapping[str, Path] | None = None,
        only: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.recipe, self.data, self.folder, self.progress = recipe, data, folder, progress
        self.brought, self.only = dict(brought or {}), tuple(only)
        wanted = {key: value for key, value in asdict(recipe).items() if key != "files" or value}
        told = json.loads(json.dumps({"recipe": wanted, "data": data}))
        path = folder / "recipe.json"
        if path.is_file() and files.read_json(path) != told:
            raise RecipeError(
                f"{folder} holds the runs of another recipe, of other data or of an earlier state of {recipe.name}: "
                "choose another folder (--out), or remove it"
            )
        files.write_json(path, told)

    def train(
        self, name: str, stack: str | Callable[[], Stack], *, data: str | Images | None = None, **options: Any
    ) -> Run:
        """Train a stack, or take it as it was trained before under this name.

        Args:
            name: of the run; its folder is ``runs/NAME``.
            stack: its spec, or what gives the stack to be trained on.
            data: other images than the experiment's.
            **options: of ``zoo.fit``, over those of the recipe.
        """
        folder = self.folder / "runs" / name
        budgets = ("epochs", "steps", "minutes")
        chosen = {key: value for key, value in self.recipe.training.items()
                  if key not in budgets or not any(budget in options for budget in budgets)}  # fmt: skip
        chosen |= options
        if not self.finished(name):
            began = perf_counter()
            fresh = builder.build(stack, seed=chosen.get("seed", 0)) if isinstance(stack, str) else stack()
            kept, held = self._divided(fresh, data)
            begun = (folder / training.RUN).is_file()
            training.fit(fresh, kept, val=held, out=folder, resume=begun, progress=self.progress, **chosen)
            files.write_json(folder / TOOK, {"seconds": perf_counter() - began})
        seconds = files.read_json(folder / TOOK)["seconds"]
        return Run(name, builder.load(folder), folder, chosen.get("batch_size", 64), seconds)

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
        return (self.folder / "runs" / name / TOOK).is_file()

    def encode(self, stage: str) -> None:
        """Have the codes of the images in the cache, so that the time of no run includes them."""
        stack = builder.build(stage)
        kept, _ = self._divided(stack, None)
        codes.encode(stack, images(kept, stack.input_shape), levels=len(stack.levels), coding=codes.Coding())

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

    def look(self, *names: str) -> None:
        """Find out now, rather than when everything is trained, that images of these names are not there.

        Raises:
            DataError: so it is.
        """
        for name in names:
            images(name, SMALL, split="test")

    def test(self, stack: Stack, data: str | None = None) -> Images:
        """The test set as a stack takes it: whole, or as many images of it as the recipe says."""
        whole, most = images(data or self.data, stack.input_shape, split="test"), self.recipe.settings.get("tested")
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
        """A classifier of the experiment's images, trained once."""
        path = self.folder / "judge.safetensors"
        if not path.is_file():
            train = images(self.data, stack.input_shape, split="train")
            classifier.train(train, self.test(stack), progress=self.progress).save(path)
        return classifier.load(path)

    def page(self) -> Page:
        """An empty page that says what its numbers rest on."""
        counts = not self.recipe.quick or self.recipe.settings.get("quick_counts", False)
        page = Page(self.recipe.title, self.folder, self._facts(), judging=counts)
        if not counts:
            page.say("**A quick run, which only shows that everything works. Its numbers mean nothing.**")
        page.say(f"{self.recipe.about}\n\nSource: {self.recipe.source}")
        return page

    def _facts(self) -> dict[str, Any]:
        options = ", ".join(f"{key}={value}" for key, value in self.recipe.training.items())
        return {
            "command": f"zoo reproduce {self.recipe.name} --data {self.data}{' --quick' * self.recipe.quick}",
            "data": self.data,
            "options": options or "the defaults",
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads"
            + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""),
            "versions": f"stackzoo {files.zoo_version()}, torch {version('torch')}, Python {platform.python_version()}",
        }


def spread(shown: Images, most: int) -> Tensor:
    """The places of so many images, evenly from first to last, and so of all classes where they lie class by class."""
    return torch.linspace(0, len(shown) - 1, min(most, len(shown))).long()


def batches(shown: Images) -> Iterator[Tensor]:
    """All images in order, some at a time."""
    return (shown.batch(slice(start, start + AT_ONCE)) for start in range(0, len(shown), AT_ONCE))


def as_file(name: str) -> str:
    """A name of a run as a part of a path: letters, digits and single dashes."""
    return "-".join(re.findall(r"[A-Za-z0-9_]+", name))


def at(folder: Path, levels: int | None = None) -> str:
    """The part of a spec that stands for the levels of a saved stack."""
    return f"folder({json.dumps(str(folder))}{'' if levels is None else f', levels={levels}'})"
