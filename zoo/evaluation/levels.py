"""One level after the other, bottom up, each on the codes of the one below."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from zoo.errors import EvaluationError
from zoo.evaluation import compression, pca, prior, representation
from zoo.evaluation.protocol import stream
from zoo.evaluation.reconstruction import batches, score

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from zoo.data import Images
    from zoo.level import Level
    from zoo.stack import Stack

    Source = Callable[[slice], Tensor]
    """From a run of places to the inputs there, (B, *input)."""

Found = TypeVar("Found")


class Climb:
    """A stack that is measured level by level; the codes of one level are kept in memory, as the inputs of the next.

    Args:
        stack: in eval mode.
        test: the images that are measured on.
        train: those that components and classifiers are fitted on, in random order.
        batch_size: images at once.
        seed: of everything drawn.
    """

    def __init__(self, stack: Stack, test: Images, train: Images, *, batch_size: int, seed: int) -> None:
        self.stack, self.test, self.train = stack, test, train
        self.batch_size, self.seed = batch_size, seed
        self.pixels = train.batch(slice(0, len(train)))
        self.below: Source = test.batch  # what the next level encodes
        self.below_train = self.pixels

    def measure(self, number: int) -> dict[str, Any]:
        """The report of level ``number``; levels are measured in order, 1 first."""
        level = self.stack.level(number)
        means, draws = self._encode(level, self.below, len(self.test))
        train, _ = self._encode(level, self.below_train.__getitem__, len(self.train))
        components = _attempt(lambda: pca.fit(self.pixels, level.code_shape, seed=self.seed))
        found = {
            "level": number,
            "spec": str(self.stack.spec.levels[number - 1]),
            "code_shape": list(level.code_shape),
            "numbers_in": prod(self.stack.input_shape),
            "numbers_out": prod(level.code_shape),
            "reconstruction": self._score(means, number),
            "pca": components if isinstance(components, dict) else self._score_components(components),
            "codes": self._own_error(level, means) if number > 1 else None,
            "representation": _attempt(lambda: self._classify(train, means)),
            "pca_representation": _attempt(lambda: self._classify_components(components)),
            "compression": self._compress(means, number),
            "prior": prior.distance(means, draws, level.prior, seed=self.seed),
        }
        self.below, self.below_train = means.__getitem__, train
        return found

    def _encode(self, level: Level, inputs: Source, count: int) -> tuple[Tensor, Tensor | None]:
        """The posteriors' means and a draw from each, (count, *code) on the CPU; no draws where they are points."""
        device = self.stack.device
        generator = stream(self.seed, "draws", device)
        means, draws = [], []
        for part in batches(count, self.batch_size):
            posterior = level.encode(inputs(part).to(device))
            means.append(posterior.mode.float().cpu())
            if posterior.logvar is not None:
                draws.append(posterior.sample(generator).float().cpu())
        return torch.cat(means), torch.cat(draws) if draws else None

    def _score(self, codes: Tensor, number: int) -> dict[str, Any]:
        """How well the test images come back from these codes of level ``number``."""
        device = self.stack.device
        return score(
            self.test, lambda part: self.stack.to_pixels(codes[part].to(device), number), batch_size=self.batch_size
        )

    def _score_components(self, components: pca.Pca) -> dict[str, Any]:
        """The same of principal components, clamped to [0, 1] as a stack is; and their error before that."""

        def linear(part: slice) -> Tensor:
            return components.decode(components.encode(self.test.batch(part)))

        return {
            **components.describe(),
            **score(self.test, linear, batch_size=self.batch_size),
            "mse_unclamped": self._mean_square(self.test.batch, linear),
        }

    def _own_error(self, level: Level, codes: Tensor) -> dict[str, Any]:
        """How well the unit-scale codes below come back from these, and from principal components of them."""
        device = self.stack.device

        def linear() -> dict[str, Any]:
            components = pca.fit(self.below_train, level.code_shape, seed=self.seed)
            error = self._mean_square(self.below, lambda part: components.decode(components.encode(self.below(part))))
            return {**components.describe(), "mse": error}

        inputs = self.below(slice(0, len(self.test)))
        return {
            "mse": self._mean_square(self.below, lambda part: level.decode(codes[part].to(device))),
            "variance": prior.by_number(inputs, prior.variance).mean().item(),
            "pca": _attempt(linear),
        }

    def _classify(self, train: Tensor, test: Tensor, *, own_scale: bool = True) -> dict[str, Any]:
        """What these codes of the training and test images know of the labels."""
        if self.train.labels is None or self.test.labels is None:
            raise EvaluationError("the images have no labels")
        if self.train.classes != self.test.classes:
            raise EvaluationError("the training images have other classes than those that are measured")
        pairs = (train, self.train.labels), (test, self.test.labels)
        return representation.classify(*pairs, seed=self.seed, own_scale=own_scale)

    def _classify_components(self, components: pca.Pca | dict[str, str]) -> dict[str, Any]:
        """The same of principal components."""
        if isinstance(components, dict):
            raise EvaluationError(components["skipped"])
        if self.train.labels is None:
            raise EvaluationError("the images have no labels")
        test = [components.encode(self.test.batch(part)) for part in batches(len(self.test), self.batch_size)]
        return self._classify(components.encode(self.pixels), torch.cat(test), own_scale=False)

    def _compress(self, codes: Tensor, number: int) -> dict[str, Any]:
        """Bytes of one image's code, what they cost in quality, and JPEG at the bytes of the smaller."""
        numbers = codes[0].numel()
        half = {"bytes": 2 * numbers, **self._score(compression.as_float16(codes), number)}
        byte = {"bytes": numbers, **self._score(compression.as_uint8(codes), number)}
        jpeg = _attempt(lambda: compression.jpeg_below(self.test, numbers, batch_size=self.batch_size, seed=self.seed))
        return {"image_bytes": prod(self.stack.input_shape), "float16": half, "uint8": byte, "jpeg": jpeg}

    def _mean_square(self, inputs: Source, came_back: Source) -> float:
        """The mean squared error over all test images."""
        total = torch.zeros((), dtype=torch.float64)
        for part in batches(len(self.test), self.batch_size):
            error = (came_back(part).cpu().double() - inputs(part).double()).square()
            total += error.flatten(1).mean(1).sum()
        return total.item() / len(self.test)


def _attempt(measure: Callable[[], Found]) -> Found | dict[str, str]:
    """What was measured, or the reason why it could not be."""
    try:
        return measure()
    except EvaluationError as error:
        return {"skipped": str(error)}
