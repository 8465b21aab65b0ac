"""Embeddings of the same images beside each other: what their vectors know, and how they lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, partial
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from zoo.data import images
from zoo.errors import EvaluationError
from zoo.evaluation import embeddings, neighbours, protocol, representation, structure
from zoo.evaluation.search import coded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from zoo.data import Images
    from zoo.stack import Stack

    Vectors = tuple[Tensor, Tensor]
    """Of training and of test images, (N, ...) and (M, ...)."""
    Made = tuple[str, int, Callable[[], Vectors]]
    """A name, how many numbers its vectors have, and what makes them."""

UMAP_WIDEST = 10  # numbers; it is meant for few, and slow with many
WIDEST = 1024  # numbers of a vector that are measured; wider ones are narrowed, as in zoo.evaluation.representation


@dataclass(frozen=True)
class Row:
    """One embedding, measured.

    Args:
        name: what made it.
        numbers: of one vector.
        found: ``validated`` and ``knn`` (zoo.evaluation.neighbours), ``probe``, ``nmi``, ``ari``, ``trust`` and
            ``silhouette``; without those that take labels where there are none.
        test: the vectors of the test images, (M, d); None where they could not be had.
        note: why they could not, what was done to them, or what could not be measured of them.
    """

    name: str
    numbers: int
    found: dict[str, Any] = field(default_factory=dict)
    test: Tensor | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """What was compared, on what.

    Args:
        rows: the yardsticks, then the stacks.
        train: the images that everything was fitted on.
        test: the images that it was measured on.
    """

    rows: list[Row]
    train: Images
    test: Images


def compare(
    stacks: Mapping[str, Stack], data: Any, *, most: int = protocol.FITTED_ON, seed: int = 0, progress: bool = False
) -> Comparison:
    """Compare the codes of stacks with raw pixels, random projections, principal components and UMAP.

    An embedding that cannot be had, as UMAP where it is not installed, is a row that says why.

    Projections and components are as wide as the code of each stack, UMAP as the narrowest, 10 at most. The pixels are
    those that the first stack is given.

    Args:
        stacks: at least one, by name, in eval mode.
        data: as ``zoo.fit`` takes it; everything is fitted on its training part and measured on its test part.
        most: training images, and test images; where there are more, as many are drawn, the training images evenly
            from all classes.
        seed: of everything drawn: same seed, same numbers.
        progress: show bars.

    Raises:
        EvaluationError: there is no stack, or there are too few images.
        DataError: the data cannot be read.
    """
    if not stacks:
        raise EvaluationError("no stack to compare")
    read = cache(lambda shape: (images(data, shape, split="train"), images(data, shape, split="test")))
    first = next(iter(stacks.values()))
    places = _drawn(*read(first.input_shape), min(most, protocol.NUMBERS // prod(first.input_shape)), seed)
    train, test = (shown.subset(index) for shown, index in zip(read(first.input_shape), places, strict=True))
    if len(test) <= 2 * structure.NEAR:
        raise EvaluationError(f"{test.name}: {len(test)} test images are too few to compare embeddings on")
    x, x_test = (shown.batch(slice(0, len(shown))) for shown in (train, test))
    made: list[Made] = [("pixels", x[0].numel(), lambda: (x, x_test))]
    widths = sorted({prod(stack.code_shape) for stack in stacks.values()})
    made += _yardsticks(x.flatten(1), x_test.flatten(1), widths, seed)
    for name, stack in stacks.items():
        parts = [shown.subset(index) for shown, index in zip(read(stack.input_shape), places, strict=True)]
        made.append((name, prod(stack.code_shape), partial(_codes, stack, parts, progress=progress)))
    judge = _Judge(train, test, x_test.flatten(1), seed)
    bar = tqdm(made, desc="compare", unit="embedding", disable=not progress)
    return Comparison([judge.measure(*one) for one in bar], train, test)


def _yardsticks(x: Tensor, x_test: Tensor, widths: list[int], seed: int) -> Iterator[Made]:
    for width in widths:
        yield f"random projection to {width:,}", width, partial(embeddings.projected, x, x_test, width, seed=seed)
        yield f"PCA to {width:,}", width, partial(embeddings.components, x, x_test, width, seed=seed)
    width = min(widths[0], UMAP_WIDEST)
    yield f"UMAP to {width}", width, partial(embeddings.umap, x, x_test, width, seed=seed)


def _codes(stack: Stack, parts: list[Images], *, progress: bool) -> Vectors:
    with protocol.measuring(stack):
        found = [coded(stack, part, progress=progress) for part in parts]
        train, test = (codes.batch(torch.arange(len(codes))) for codes in found)
    return train, test


def _drawn(train: Images, test: Images, most: int, seed: int) -> tuple[Tensor, Tensor]:
    """The places of the training and of the test images that are taken, ascending."""
    few = torch.randperm(len(test), generator=protocol.stream(seed, "test images"))[:most].sort().values
    if train.labels is None:
        return torch.randperm(len(train), generator=protocol.stream(seed, "training images"))[:most].sort().values, few
    classes = len(train.labels.unique())
    return neighbours.balanced(train.labels, max(1, most // classes), seed=seed), few


@dataclass(frozen=True)
class _Judge:
    """Measures vectors of the same images, every embedding in the same way."""

    train: Images
    test: Images
    x_test: Tensor
    seed: int

    def measure(self, name: str, numbers: int, make: Callable[[], Vectors]) -> Row:
        try:
            train, test = make()
        except EvaluationError as error:
            return Row(name, numbers, note=str(error))
        train, test = (representation.narrow(z, seed=self.seed, widest=WIDEST) for z in (train, test))
        notes = [] if train.shape[1] == numbers else [f"measured on {train.shape[1]:,} numbers made of them"]
        found: dict[str, Any] = {"trust": structure.trust(self.x_test, test, seed=self.seed)}
        try:
            found |= self._labelled(train, test)
        except EvaluationError as error:
            notes.append(f"{error}; where there are more images, --most (most=) takes them")
        return Row(name, numbers, found, test, "; ".join(notes))

    def _labelled(self, train: Tensor, test: Tensor) -> dict[str, Any]:
        """What takes labels."""
        if self.train.labels is None or self.test.labels is None or self.train.classes != self.test.classes:
            return {}
        known, asked = (train, self.train.labels), (test, self.test.labels)
        validated = neighbours.cross_validated(*known, seed=self.seed)
        return {
            "validated": validated,
            "knn": neighbours.tested(known, asked, validated, seed=self.seed),
            "probe": representation.probe(known, asked)["probe"],
            **structure.clusters(*asked, seed=self.seed),
            "silhouette": structure.silhouette(*asked, seed=self.seed),
        }
