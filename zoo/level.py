"""A level of a stack: a stage, the terms of its objective, and the unit scale of its codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from zoo.interfaces import Reconstruction, Regularizer, RoundTrip, Shape, Stage, Term
from zoo.posterior import places
from zoo.spec import LevelSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zoo.interfaces import Part
    from zoo.posterior import Posterior

TINY = 1e-12
"""A feature whose variance is below this never varies."""


class Level(nn.Module):
    """A stage with the terms of its objective: what is trained, frozen, saved and stacked on.

    Args:
        stage: the two maps.
        terms: by name, in the order of the spec; at least one likelihood among them; several add up.

    The buffers ``shift`` and ``scale`` bring the codes of a level to unit scale; ``finish`` sets them from training
    codes when the level is finished. ``encode`` and ``decode`` include them. The buffer ``trained``
    says that it has been finished once: when it trains on, its stage is not prepared anew. The buffer ``emphasis``
    weighs the features of an upper level's input by what they mean in pixels (``Stack.sensitivity``): the stage, and
    the terms of a loss in codes, see the input times it, so that an error there counts as it will in the image.
    """

    shift: Tensor
    scale: Tensor
    trained: Tensor
    emphasis: Tensor

    def __init__(self, stage: Stage, terms: dict[str, Term]) -> None:
        super().__init__()
        self.stage = stage
        self.terms = nn.ModuleDict(terms)
        self.register_buffer("shift", torch.zeros(features(stage.code_shape)))
        self.register_buffer("scale", torch.ones(features(stage.code_shape)))
        self.register_buffer("emphasis", torch.ones(features(stage.input_shape)))
        self.register_buffer("trained", torch.zeros((), dtype=torch.bool))

    @property
    def input_shape(self) -> Shape:
        """What the stage was built for, without the batch."""
        return self.stage.input_shape

    @property
    def code_shape(self) -> Shape:
        """One code, without the batch."""
        return self.stage.code_shape

    @property
    def regularizers(self) -> list[Regularizer]:
        """The terms on the code."""
        return [term for term in self.terms.values() if isinstance(term, Regularizer)]

    @property
    def reconstructions(self) -> list[Reconstruction]:
        """The terms on what came back."""
        return [term for term in self.terms.values() if isinstance(term, Reconstruction)]

    @property
    def written_out(self) -> LevelSpec | None:
        """The level's part of the spec with every option, None for parts that no spec built."""
        items = [cast("Part", part).item for part in (self.stage, *self.terms.values())]
        known = tuple(item for item in items if item is not None)
        return LevelSpec(known) if len(known) == len(items) else None

    @property
    def prior(self) -> Regularizer | None:
        """The regularizer that pulls the codes to a prior, if one does."""
        return next((term for term in self.regularizers if term.prior), None)

    def encode(self, x: Tensor) -> Posterior:
        """(B, *input) to the posterior over unit-scale codes."""
        return self.stage.encode(x * self.emphasis).scaled(self.shift, self.scale)

    def decode(self, z: Tensor) -> Tensor:
        """Unit-scale codes (B, *code) to (B, *input); pixels are not clamped."""
        return self._emphasised(z) / self.emphasis

    def _emphasised(self, z: Tensor) -> Tensor:
        """What the stage decodes: the input times ``emphasis``."""
        return self.stage.decode(z * self.scale + self.shift)

    def draw(self, posterior: Posterior) -> Tensor:
        """The code for the decoder while training: drawn by the one regularizer that has its own way, or a sample."""
        for term in self.regularizers:
            if type(term).draw is not Regularizer.draw:
                return term.draw(posterior)
        return posterior.sample()

    def round_trip(self, x: Tensor, seen: Tensor | None = None) -> RoundTrip:
        """There and back, as the terms read it: x and x_hat times ``emphasis``, which is 1 for images.

        Args:
            x: what should come back, (B, *input).
            seen: what is encoded instead, as a corrupted x; x itself unless given.
        """
        posterior = self.encode(x if seen is None else seen)
        x = x * self.emphasis
        z = self.draw(posterior)
        return RoundTrip(x, posterior, z, self._emphasised(z))

    @torch.no_grad()
    def prepare(self, x: Tensor, sensitivity: Tensor | None = None) -> None:
        """Let the stage look at a sample of its inputs, (N, *input), before the level's first step.

        Args:
            x: images, or unit-scale codes.
            sensitivity: of the images to the features of the codes below: becomes ``emphasis``. Nothing for images.
        """
        if sensitivity is not None:
            self.emphasis.copy_(sensitivity)
        self.stage.prepare(x * self.emphasis)

    @torch.no_grad()
    def finish(self, posteriors: Iterable[Posterior]) -> None:
        """Mark the level as trained, and fold its features' means and deviations into shift and scale.

        Of a level with a prior they are those of draws from the posteriors, so that as a whole these have the prior's
        mean and deviation in every feature, however weakly its regularizer has pulled; else those of the posteriors'
        means. A feature that never varies keeps its own scale, and so do the codes of a regularizer with a ``draw`` of
        its own, which may live on a grid.

        Args:
            posteriors: of many training inputs, batch by batch, as ``encode`` gives them now.
        """
        self.trained.fill_(True)
        if any(type(term).draw is not Regularizer.draw for term in self.regularizers):
            return
        mean, square, noise = (torch.zeros(self.shift.shape, dtype=torch.float64, device="cpu") for _ in range(3))
        count = 0
        for posterior in posteriors:  # sums only: the codes of many inputs may not fit into memory
            z, size = posterior.mean.cpu().double(), len(posterior.mean)
            mean += size * by_feature(z)
            square += size * by_feature(z.square())
            if self.prior is not None and posterior.logvar is not None:
                noise += size * by_feature(posterior.logvar.cpu().double().exp()).reshape(noise.shape)
            count += size
        mean, variance = mean / count, (square / count - (mean / count).square()).clamp_min(0) + noise / count
        deviation = torch.where(variance > TINY, variance.sqrt(), 1.0)
        self.shift.add_(mean.to(self.shift) * self.scale)
        self.scale.mul_(deviation.to(self.scale))


def by_feature(codes: Tensor) -> Tensor:
    """The mean over a batch (B, *code) and the places of a map: (C, 1, 1) for maps, else (*code,)."""
    return codes.mean(places(codes)).reshape(features(codes.shape[1:]))


def features(shape: Shape) -> Shape:
    """A shape that holds one number a feature: (C, 1, 1) of a map, else the code's own."""
    return (shape[0], 1, 1) if len(shape) == 3 else shape
