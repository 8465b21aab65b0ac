"""Flow matching: a network learns the velocity that carries noise to codes."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from zoo.errors import SpecError, TrainingError
from zoo.interfaces import Head, HeadBatch, Place
from zoo_heads.labels import check_label
from zoo_heads.velocity import BITS, Gaussian, Network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

LARGEST_LINEAR = 4096  # numbers per code: the axes of 4096^2 are 64 MiB in the saved file
NONE = -1  # what stands for no label


class Flow(Head):
    """Noise x_0 goes to codes x_1 on straight lines, x_t = (1 - t) x_0 + t x_1, by a velocity that is learned.

    A network learns E[x_1 - x_0 | x_t], by least squares at random t: convolutions on maps, dense layers on all else.
    A sample follows it from t = 0 to 1 by Heun's method.

    Args:
        place: where it stands.
        width: features of the network; 64 on a map, else 256, or twice as many as the code has where that is more.
        blocks: of the network, two layers each.
        linear: the network learns only what is missing from the velocity of a Gaussian with the mean and covariance of
            the codes, which is known. For codes of up to 4096 numbers unless given.
        steps: of sampling, each with two evaluations of the network.
        classes: learn by class, so that ``sample(n, label=3)`` gives codes of one.
        drop: the part of the labels that is left out while learning, for ``guidance`` to have something to compare to.
        guidance: how much more than without a label the network's velocity is followed: 1 gives the codes of a label
            as they are distributed, more gives those that are typical of it, with less variety. Ho and Salimans
            (2022), arXiv:2207.12598.

    Raises:
        SpecError: a shape behind the name, or an option out of its range.
        TrainingError: ``prepare`` got fewer than two codes or some that are not finite, no labels where they are
            learned, or one above 1,023.

    Source: Lipman et al. (2023), section 4.1, example II, with sigma_min = 0.
    """

    source = (
        "Lipman, Y., Chen, R. T. Q., Ben-Hamu, H., Nickel, M. and Le, M. (2023). Flow Matching for Generative "
        "Modeling. ICLR. arXiv:2210.02747"
    )

    counts: Tensor | None

    def __init__(
        self,
        place: Place,
        *,
        width: int | None = None,
        blocks: int = 4,
        linear: bool | None = None,
        steps: int = 24,
        classes: bool = False,
        drop: float = 0.1,
        guidance: float = 2.0,
    ) -> None:
        super().__init__(place)
        shape, size = place.input_shape, math.prod(place.input_shape)
        if place.code_shape is not None:
            raise SpecError("flow has the shape of the code below it and takes none of its own: write 'flow'")
        self.width = width or (max(64, 2 * shape[0]) if len(shape) == 3 else max(256, 2 * size))
        self.linear = size <= LARGEST_LINEAR if linear is None else linear
        if self.linear and size > LARGEST_LINEAR:
            raise SpecError(
                f"flow(linear=true) keeps principal axes, {size:,} times {size:,} numbers; the most it takes is "
                f"{LARGEST_LINEAR:,} times as many: put it on a level with a smaller code, or leave linear=true out"
            )
        for name, value in (("width", width), ("blocks", blocks), ("steps", steps)):
            if value is not None and value < 1:
                raise SpecError(f"flow({name}={value}): at least 1")
        if not 0 <= drop < 1:
            raise SpecError(f"flow(drop={drop}): a part of the labels, at least 0 and below 1")
        if classes and drop == 0 and guidance != 1:
            raise SpecError("flow(drop=0) never learns without labels, which guidance steers away from: add guidance=1")
        self.steps, self.drop, self.guidance, self.labelled = steps, drop, guidance, classes
        self.gaussian = Gaussian(size) if self.linear else None
        self.network = Network(shape, width=self.width, blocks=blocks, classes=classes)
        self.register_buffer("counts", torch.zeros(2**BITS, dtype=torch.int32) if classes else None)

    def check_labels(self, labels: Sequence[int]) -> None:
        """A label is a place in a table.

        Raises:
            TrainingError: there is a label that is not.
        """
        most = len(self.counts) if self.counts is not None else 0
        if wrong := [label for label in labels if not 0 <= label < most]:
            raise TrainingError(
                f"flow tells {most:,} classes apart, and there is a label {wrong[-1]}: number them from 0 to {most - 1}"
            )

    def prepare(self, codes: Tensor, labels: Tensor | None = None) -> None:
        """Fit the Gaussian to codes, (N, *code), the first time, and see which labels there are."""
        if len(codes) < 2:
            raise TrainingError(f"flow fits a covariance and got {len(codes)} code: give it at least 2")
        if not codes.isfinite().all():
            raise TrainingError("flow got codes that are not finite: the level below it has diverged")
        if self.gaussian is not None and not self.gaussian.fitted:  # the network has learned beside the one it has
            self.gaussian.fit(codes)
        if self.counts is not None:
            labels = self._checked(labels)
            self.check_labels(labels.unique().tolist())
            self.counts.copy_(labels.bincount(minlength=len(self.counts)))

    def loss(self, batch: HeadBatch) -> Tensor:
        """Squared error of the velocity, summed over a code and averaged over the batch: a scalar."""
        x, t = batch.codes.float(), torch.rand(len(batch.codes), device=batch.codes.device)
        labels = None
        if self.labelled:
            labels = self._checked(batch.labels)
            labels = torch.where(torch.rand_like(t) < self.drop, NONE, labels)
        noise = torch.randn(x.shape, device=x.device)  # not like x, whose order in memory would order the draws
        part = t.reshape(-1, *(1,) * (x.ndim - 1))
        error = self._velocity((1 - part) * noise + part * x, t, labels) - (x - noise)
        number: Tensor = error.square().flatten(1).sum(1).mean()
        return number

    @torch.no_grad()
    def sample(self, n: int, *, label: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Draw n codes, (n, *code); randomness comes from where the generator lives, the CPU without one.

        Without a label, one that learns by class draws labels as often as they occur, and is not guided.
        """
        where = next(self.network.parameters()).device
        device = torch.device("cpu") if generator is None else generator.device
        labels, guidance = None, 1.0
        if label is not None:
            check_label("flow", label, self.labels())
            labels, guidance = torch.full((n,), label, device=where), self.guidance
        elif self.counts is not None and self.counts.any():
            of = self.counts.to(device, torch.float)
            labels = torch.multinomial(of, n, replacement=True, generator=generator).to(where)
        x = torch.randn((n, *self.place.input_shape), generator=generator, device=device).to(where)
        times = torch.linspace(0, 1, self.steps + 1, device="cpu").tolist()
        velocity = self._velocity_of(labels, guidance)
        for t, after in pairwise(times):
            first = velocity(x, t)
            second = velocity(x + (after - t) * first, after)
            x = x + (after - t) / 2 * (first + second)
        return x

    def labels(self) -> list[int]:
        """Those of the codes that it was prepared with."""
        return [] if self.counts is None else self.counts.nonzero().flatten().tolist()

    def _velocity_of(self, labels: Tensor | None, guidance: float) -> Callable[[Tensor, float], Tensor]:
        """The velocity at codes x and one time t that codes of these labels follow."""

        def velocity(x: Tensor, t: float) -> Tensor:
            at = torch.full((len(x),), t, device=x.device)
            given = self._velocity(x, at, labels)
            if guidance == 1:
                return given
            free = self._velocity(x, at, None)
            return free + guidance * (given - free)

        return velocity

    def _velocity(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        y: Tensor = self.network(x, t, labels).float()
        return y if self.gaussian is None else y + self.gaussian(x, t)

    def _checked(self, labels: Tensor | None) -> Tensor:
        if labels is None:
            raise TrainingError("flow(classes=true) learns by class and got no labels: take data that has them")
        return labels
