"""What a course minimises: the terms of a level in codes, in pixels, of the whole stack end to end, or of a head."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn

from zoo.interfaces import HeadBatch, RoundTrip

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zoo.interfaces import Term
    from zoo.stack import Level, Stack
    from zoo.training.options import LossIn


PROBED = 128
"""Codes at which the pixels' sensitivity to them is measured."""


@dataclass(frozen=True)
class Losses:
    """One step's numbers.

    Args:
        total: what is minimised, a scalar: the weighted sum of the terms over the number of elements of one input.
        terms: every term by name, in nats per image and not weighted.
        seen: what the critics read once it is detached.
    """

    total: Tensor
    terms: dict[str, Tensor]
    seen: RoundTrip | HeadBatch


class Learner(nn.Module):
    """What is trained, with its objective. Only what learns is registered in it."""

    labelled: ClassVar[bool] = False
    """``forward`` reads the labels; others are not given any, as gathering them takes a part of a small step."""

    @abstractmethod
    def forward(self, batch: Tensor, labels: Tensor | None = None) -> Losses:
        """The losses of a batch from the course's source."""

    @abstractmethod
    def from_images(self, images: Tensor) -> Tensor:
        """Raw images to what ``forward`` takes: validation always starts from raw images."""

    @abstractmethod
    def reconstruct(self, images: Tensor) -> Tensor | None:
        """Raw images there and back through everything trained so far; None where nothing comes back."""

    @abstractmethod
    def critics(self) -> dict[str, nn.Module]:
        """The critics that learn against this, by name."""

    @abstractmethod
    def critic_loss(self, name: str, losses: Losses) -> Tensor:
        """The loss of one critic after a step of ``forward``."""

    @abstractmethod
    def prepare(self, sample: Tensor) -> None:
        """Look at a sample of what ``forward`` takes, before the first step."""


class _TermsLearner(Learner):
    """A learner whose losses are terms of round trips."""

    def __init__(self, stack: Stack, number: int, terms: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self.number = number
        self.counted = terms
        self.stack = (stack,)  # in a tuple, so that the levels that stay frozen are not registered

    @property
    def level(self) -> Level:
        """The level whose terms count."""
        return self.stack[0].level(self.number)

    @property
    def terms(self) -> list[tuple[str, Term]]:
        """The level's terms that count, by name."""
        return [(name, term) for name, term in _terms(self.level) if self.counted is None or name in self.counted]

    def from_images(self, images: Tensor) -> Tensor:
        return images

    def reconstruct(self, images: Tensor) -> Tensor:
        stack = self.stack[0]
        return stack.decode(stack.encode(images, self.number), self.number)

    def critics(self) -> dict[str, nn.Module]:
        return {name: term.critic for name, term in self.terms if term.critic is not None}

    def critic_loss(self, name: str, losses: Losses) -> Tensor:
        trip = cast("RoundTrip", losses.seen).detach()
        return dict(self.terms)[name].critic_loss(trip) / _elements(trip.x)

    def prepare(self, sample: Tensor) -> None:
        if self.level.trained:
            return
        below, stack = self.number - 1, self.stack[0]
        few = sample[torch.linspace(0, len(sample) - 1, min(len(sample), PROBED)).long()]
        self.level.prepare(sample, stack.sensitivity(few, below) if below else None)


class LevelInCodes(_TermsLearner):
    """A level on its own input: images for the first, the codes of the level below for the others."""

    def __init__(self, stack: Stack, number: int, terms: tuple[str, ...] | None = None) -> None:
        super().__init__(stack, number, terms)
        self.learns = self.level

    def forward(self, batch: Tensor, labels: Tensor | None = None) -> Losses:
        return _losses(self.level.round_trip(batch).float(), self.terms)

    def from_images(self, images: Tensor) -> Tensor:
        return self.stack[0].encode(images, self.number - 1)


class LevelInPixels(_TermsLearner):
    """An upper level with its loss in images: gradients pass through the frozen levels below."""

    def __init__(self, stack: Stack, number: int, terms: tuple[str, ...] | None = None) -> None:
        super().__init__(stack, number, terms)
        self.learns = self.level

    def forward(self, batch: Tensor, labels: Tensor | None = None) -> Losses:
        stack = self.stack[0]
        with torch.no_grad():
            codes = stack.encode(batch, self.number - 1)
        posterior = self.level.encode(codes)
        z = self.level.draw(posterior)
        return _losses(RoundTrip(batch, posterior, z, stack.to_pixels(z, self.number)).float(), self.terms)

    def prepare(self, sample: Tensor) -> None:
        with torch.no_grad():
            codes = self.stack[0].encode(sample, self.number - 1)
        super().prepare(codes)


class WholeStack(_TermsLearner):
    """Every level at once, end to end in pixels, under the top level's terms and the regularizers of those below."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack, len(stack.levels))
        self.learns = stack.levels

    def forward(self, batch: Tensor, labels: Tensor | None = None) -> Losses:
        stack, x = self.stack[0], batch
        lower: list[tuple[str, Term, RoundTrip]] = []
        for number, level in enumerate(stack.lower(self.number - 1), 1):
            posterior = level.encode(x)
            trip = RoundTrip(x, posterior, posterior.mode, x).float()
            lower += [(f"{name}_{number}", term, trip) for name, term in _terms(level) if term in level.regularizers]
            x = posterior.mode
        posterior = self.level.encode(x)
        z = self.level.draw(posterior)
        losses = _losses(RoundTrip(batch, posterior, z, stack.to_pixels(z)).float(), self.terms)
        extra = {name: term(trip) for name, term, trip in lower}
        weighted = [term.weight * extra[name] for name, term, _ in lower]
        total = losses.total + sum(weighted) / _elements(batch)
        return Losses(total, {**losses.terms, **extra}, losses.seen)

    def prepare(self, sample: Tensor) -> None:
        """Nothing: the levels have learned already."""


class HeadLearner(Learner):
    """A head, on cached codes or with its loss in images."""

    labelled = True

    def __init__(self, stack: Stack, loss_in: LossIn) -> None:
        super().__init__()
        if stack.head is None:
            raise TypeError("HeadLearner wants a stack that ends in a head")
        self.learns = stack.head
        self.stack = (stack,)
        self.in_pixels = loss_in == "pixels"

    def forward(self, batch: Tensor, labels: Tensor | None = None) -> Losses:
        stack = self.stack[0]
        if self.in_pixels:
            with torch.no_grad():
                codes = stack.encode(batch)
            seen = HeadBatch(codes, labels, batch, stack.encode, stack.to_pixels)
        else:
            seen = HeadBatch(batch, labels)
        loss = self.learns.loss(seen)
        return Losses(loss / _elements(batch), {"head": loss}, seen)

    def from_images(self, images: Tensor) -> Tensor:
        return images if self.in_pixels else self.stack[0].encode(images)

    def reconstruct(self, images: Tensor) -> None:
        return None

    def critics(self) -> dict[str, nn.Module]:
        return {} if self.learns.critic is None else {"head": self.learns.critic}

    def critic_loss(self, name: str, losses: Losses) -> Tensor:
        seen = cast("HeadBatch", losses.seen)
        return self.learns.critic_loss(seen) / _elements(seen.codes)

    def prepare(self, sample: Tensor) -> None:
        self.learns.prepare(self.stack[0].encode(sample) if self.in_pixels else sample)


def _terms(level: Level) -> list[tuple[str, Term]]:
    return list(level.terms.items())  # type: ignore[arg-type]


def _losses(trip: RoundTrip, terms: Iterable[tuple[str, Term]]) -> Losses:
    terms = list(terms)
    values = {name: term(trip) for name, term in terms}
    total = reduce(add, (term.weight * values[name] for name, term in terms)) / _elements(trip.x)
    return Losses(total, values, trip)


def _elements(x: Tensor) -> int:
    return x[0].numel()
