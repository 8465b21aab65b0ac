"""What a course minimises: the terms of a level in codes, in pixels, or of the whole stack end to end."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn

from zoo.errors import RegistryError
from zoo.growth import View, enlarge
from zoo.interfaces import Head, HeadBatch, Part, Reconstruction, Regularizer, RoundTrip, Stage, Term
from zoo.phases import Phase
from zoo.posterior import Posterior
from zoo.training.weights import Weights
from zoo.weighing import Numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zoo.data.corruption import Corruption
    from zoo.level import Level
    from zoo.phases import Moment
    from zoo.stack import Stack


PROBED = 128
"""Codes at which the pixels' sensitivity to them is measured."""
ENCODED = 256
"""Images of a sample that are encoded at once."""


@dataclass(frozen=True)
class Losses:
    """One step's numbers.

    Args:
        total: what is minimised, a scalar: the weighted sum of the terms over the number of elements of one input.
        terms: every term by name, in nats per image and not weighted.
        seen: what a critic reads once it is detached, by the name of its owner.
        each: (M,), where several learners learn at once: what each minimises. The total is their sum then, and a term
            has a number for each.
    """

    total: Tensor
    terms: dict[str, Tensor]
    seen: Mapping[str, RoundTrip | HeadBatch] = field(default_factory=dict)
    each: Tensor | None = None


class Learner(nn.Module):
    """What is trained, with its objective. Only what learns is registered in it."""

    momentum: float | None = None
    """Of the optimisers of all players; None: the optimiser's own."""

    labelled: ClassVar[bool] = False
    """``forward`` reads the labels; others are not given any, as gathering them takes a part of a small step."""

    @property
    def members(self) -> Sequence[Learner]:
        """Those that learn at once and know nothing of each other: itself alone, unless it is a ``Together``."""
        return (self,)

    @abstractmethod
    def forward(self, batch: Tensor, labels: Tensor | None = None) -> Losses:
        """The losses of a batch from the course's source."""

    @abstractmethod
    def from_images(self, images: Tensor) -> Tensor:
        """Raw images to what ``forward`` takes: validation always starts from raw images."""

    @abstractmethod
    def reconstruct(self, batch: Tensor) -> Tensor | None:
        """What ``forward`` takes to images, there and back through everything trained so far; None where none come."""

    @abstractmethod
    def critics(self) -> Mapping[str, Term | Head]:
        """What owns a critic that learns against this, by name."""

    @abstractmethod
    def critic_loss(self, name: str, losses: Losses) -> Tensor:
        """The loss of one critic after a step of ``forward``."""

    @abstractmethod
    def prepare(self, sample: Tensor, labels: Tensor | None = None) -> None:
        """Look at a sample of what ``forward`` takes, before the first step."""

    @abstractmethod
    def advance(self, moment: Moment) -> None:
        """Tell what learns where the training stands, before each step and at the end of the course."""

    def weigh(self, moment: Moment) -> dict[str, float]:
        """Weigh the terms as at this moment from now on.

        Returns:
            The weights that change over training, by name.
        """
        return {}

    def weights_now(self) -> dict[str, float]:
        """The weights that change over training, by name, as they are."""
        return {}

    def adapt(self, losses: Losses, step: int) -> None:
        """Tell what learns what step number ``step`` of the level came to."""

    def measures(self) -> dict[str, Tensor]:
        """Scalars that the history tells beside the terms, by name, as they are after a step."""
        return {}

    def begin(self, place: int, device: torch.device) -> None:
        """Member number ``place`` begins: what is random from here on is its own."""

    def random(self) -> dict[str, Tensor]:
        """Random states beside torch's own that a checkpoint has to keep, by name."""
        return {}

    def put_random(self, states: dict[str, Tensor]) -> None:
        """Put ``random``'s states back."""


class LevelLearner(Learner):
    """A learner whose losses are terms of round trips."""

    corruption: Corruption | None = None
    """What images suffer before they are encoded; what comes back is compared with the clean ones."""

    def __init__(self, stack: Stack, number: int, phase: Phase | None = None) -> None:
        super().__init__()
        self.number = number
        self.phase = phase or Phase()
        # in tuples, so that the levels that stay frozen are not registered
        self.stack, self._level = (stack,), (stack.level(number),)
        counted = self.phase.terms
        self.terms = [(name, term) for name, term in _terms(self.level) if counted is None or name in counted]
        """The level's terms that count, by name."""
        if not self.terms:
            raise RegistryError(f"phase {self.phase.name!r} counts {self.phase.terms}, and the level has none of them")
        self.weights = Weights(self.weighed if self.phase.code_loss is None else {})
        parts: list[Part] = [*self.stages, *self.weighed.values()]
        self.told = [part for part in parts if type(part).advance is not Part.advance]
        whole = self.phase.terms is None and self.phase.code_loss is None
        self.adapting = [name for name, term in self.terms if whole and _adapts(term)]
        self.wanting = [name for name, term in self.terms if isinstance(term, Reconstruction) and term.wants_gradient]
        self.trains_on = bool(self.level.trained)
        self.view = None if self.phase.size is None else View(self.phase.size, self.phase.before)

    @property
    def level(self) -> Level:
        """The level whose terms count."""
        return self._level[0]

    @property
    def stages(self) -> list[Stage]:
        """Those that learn."""
        return [self.level.stage]

    @property
    def weighed(self) -> dict[str, Term]:
        """All terms that the losses hold, by the names that they have there."""
        return dict(self.terms)

    def begin(self, place: int, device: torch.device) -> None:
        if self.view is not None:
            self.level.stage.see(self.view)

    def advance(self, moment: Moment) -> None:
        moment = replace(moment, progress=1.0) if self.trains_on else moment
        for part in self.told:
            part.advance(moment)
        self._weigh(moment)

    def weigh(self, moment: Moment) -> dict[str, float]:
        self._weigh(moment)
        return self.weights.read()

    def _weigh(self, moment: Moment) -> None:
        """The terms, and what is faded in."""
        self.weights.set(moment)
        if self.view is not None:
            self.view.share.fill_(moment.within)

    def weights_now(self) -> dict[str, float]:
        return self.weights.read()

    def adapt(self, losses: Losses, step: int) -> None:
        if not self.adapting:
            return
        values = {name: losses.terms[name].detach() for name, _ in self.terms}
        rec = reg = torch.zeros_like(losses.total, requires_grad=False)
        for name, term in self.terms:
            if isinstance(term, Regularizer):
                reg = reg + term.weight * values[name]
            else:
                rec = rec + term.weight * values[name]
        for name in self.adapting:
            self.weighed[name].adapt(Numbers(values[name], rec, reg, step))

    def _of_codes(self, posterior: Posterior) -> Losses:
        """The loss on codes that the phase brings."""
        if self.phase.code_loss is None:
            raise TypeError("this phase has no loss on codes")
        loss = self.phase.code_loss(self.level.draw(posterior).float())
        return Losses(loss, {self.phase.name or "codes": loss})

    def _of_trip(self, trip: RoundTrip) -> Losses:
        """The weighted sum of the terms."""
        weights = self.weights()
        values = {name: term(trip) for name, term in self.terms if name not in self.wanting}
        if self.wanting:
            told = replace(trip, gradient=self._gradient(trip, weights, values))
            values = {name: values[name] if name in values else term(told) for name, term in self.terms}
        total = reduce(add, (weights[name] * value for name, value in values.items())) / elements(trip.x)
        return Losses(total, values, dict.fromkeys(values, trip))

    def _gradient(
        self, trip: RoundTrip, weights: Mapping[str, float | Tensor], values: Mapping[str, Tensor]
    ) -> Tensor | None:
        """Of the weighted sum of these reconstructions, with respect to x_hat; None where nothing learns.

        It is taken now, in the pass forward, as a compiled objective has no x_hat to look at on the way back.
        """
        pulls = [weights[name] * values[name] for name, term in self.terms
                 if name in values and isinstance(term, Reconstruction)]  # fmt: skip
        if not pulls or not torch.is_grad_enabled() or not trip.x_hat.requires_grad:
            return None
        return torch.autograd.grad(reduce(add, pulls), trip.x_hat, retain_graph=True)[0]

    def _seen(self, batch: Tensor) -> Tensor:
        """What is encoded of a batch."""
        return batch if self.corruption is None else self.corruption.apply(batch)

    def from_images(self, images: Tensor) -> Tensor:
        return images

    def _shown(self, images: Tensor) -> Tensor:
        """Images as the phase has them: of another size, while a stage grows."""
        return images if self.view is None else self.view(images)

    def reconstruct(self, batch: Tensor) -> Tensor:
        x_hat = self.stack[0].decode(self._encoded(self._shown(batch)), self.number)
        return enlarge(x_hat, (batch.shape[-2], batch.shape[-1])) if self.view is not None else x_hat

    def _encoded(self, batch: Tensor) -> Tensor:
        """The level's codes of what ``forward`` takes."""
        return self.stack[0].encode(batch, self.number)

    def critics(self) -> dict[str, Term]:
        terms = self.weighed if self.phase.code_loss is None else {}
        return {name: term for name, term in terms.items() if term.critic is not None}

    def critic_loss(self, name: str, losses: Losses) -> Tensor:
        trip = cast("RoundTrip", losses.seen[name]).detach()
        return self.weighed[name].critic_loss(trip) / elements(trip.x)

    def prepare(self, sample: Tensor, labels: Tensor | None = None) -> None:
        if self.level.trained:
            return
        below, stack = self.number - 1, self.stack[0]
        self.level.prepare(sample, stack.sensitivity(few(sample), below) if below else None)


class LevelInCodes(LevelLearner):
    """A level on its own input: images for the first, the codes of the level below for the others."""

    def __init__(self, stack: Stack, number: int, phase: Phase | None = None) -> None:
        super().__init__(stack, number, phase)
        self.learns = self.level

    def forward(self, batch: Tensor, labels: Tensor | None = None) -> Losses:
        batch = self._shown(batch)
        seen = self._seen(batch)
        if self.phase.code_loss is not None:
            return self._of_codes(self.level.encode(seen))
        return self._of_trip(self.level.round_trip(batch, seen).float())

    def from_images(self, images: Tensor) -> Tensor:
        return self.stack[0].encode(images, self.number - 1)

    def _encoded(self, batch: Tensor) -> Tensor:
        return self.level.encode(batch).mode


class LevelInPixels(LevelLearner):
    """An upper level with its loss in images: gradients pass through the frozen levels below."""

    def __init__(self, stack: Stack, number: int, phase: Phase | None = None) -> None:
        super().__init__(stack, number, phase)
        self.learns = self.level

    def forward(self, batch: Tensor, labels: Tensor | None = None) -> Losses:
        stack = self.stack[0]
        with torch.no_grad():
            codes = stack.encode(self._seen(batch), self.number - 1)
        posterior = self.level.encode(codes)
        if self.phase.code_loss is not None:
            return self._of_codes(posterior)
        z = self.level.draw(posterior)
        return self._of_trip(RoundTrip(batch, posterior, z, stack.to_pixels(z, self.number)).float())

    def prepare(self, sample: Tensor, labels: Tensor | None = None) -> None:
        if not self.level.trained:
            super().prepare(encoded(self.stack[0], sample, self.number - 1))


class WholeStack(LevelLearner):
    """Every level at once, end to end in pixels, under the top level's terms and the regularizers of those below."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack, len(stack.levels))
        self.learns = stack.levels

    @property
    def stages(self) -> list[Stage]:
        return [level.stage for level in self.stack[0].lower()]

    @property
    def weighed(self) -> dict[str, Term]:
        lower = enumerate(self.stack[0].lower(self.number - 1), 1)
        return dict(self.terms) | {name: term for number, level in lower for name, term in _lower(number, level)}

    def forward(self, batch: Tensor, labels: Tensor | None = None) -> Losses:
        stack, x = self.stack[0], self._seen(batch)
        lower: list[tuple[str, Term, RoundTrip]] = []
        for number, level in enumerate(stack.lower(self.number - 1), 1):
            posterior = level.encode(x)
            trip = _codes_alone(level, x, posterior)
            lower += [(name, term, trip) for name, term in _lower(number, level)]
            x = posterior.mode
        posterior = self.level.encode(x)
        z = self.level.draw(posterior)
        losses, weights = self._of_trip(RoundTrip(batch, posterior, z, stack.to_pixels(z)).float()), self.weights()
        extra = {name: term(trip) for name, term, trip in lower}
        total = losses.total + sum(weights[name] * value for name, value in extra.items()) / elements(batch)
        return Losses(total, {**losses.terms, **extra}, {**losses.seen, **{name: trip for name, _, trip in lower}})

    def prepare(self, sample: Tensor, labels: Tensor | None = None) -> None:
        """Nothing: the levels have learned already."""


def _terms(level: Level) -> list[tuple[str, Term]]:
    return list(level.terms.items())  # type: ignore[arg-type]


def _lower(number: int, level: Level) -> list[tuple[str, Term]]:
    """The terms of a lower level that count while a whole stack is refined, by the names that they have then."""
    return [(f"{number}.{name}", term) for name, term in _terms(level) if isinstance(term, Regularizer)]


def _codes_alone(level: Level, x: Tensor, posterior: Posterior) -> RoundTrip:
    """What regularizers of a lower level read: its posterior and a draw. Its spread, which nobody decodes any more, is
    detached: pulled to the prior's by a divergence, it would be there alone."""
    spread = None if posterior.logvar is None else posterior.logvar.detach()
    posterior = Posterior(posterior.mean, spread, posterior.noise)
    return RoundTrip(x, posterior, level.draw(posterior), x).float()


def _adapts(term: Term) -> bool:
    return type(term).adapt is not Term.adapt or term.weighing.adapts


@torch.no_grad()
def encoded(stack: Stack, images: Tensor, levels: int) -> Tensor:
    """The codes of a whole sample, some images at a time: what is between pixels and codes is many times as large."""
    return torch.cat([stack.encode(part, levels) for part in images.split(ENCODED)])


def few(sample: Tensor) -> Tensor:
    """Those of a sample at which sensitivity is measured."""
    return sample[torch.linspace(0, len(sample) - 1, min(len(sample), PROBED), device="cpu").long()]


def elements(x: Tensor) -> int:
    """The numbers of one item of a batch."""
    return x[0].numel()
