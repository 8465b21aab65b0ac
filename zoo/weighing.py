"""How much a term weighs on the way: a warm-up, and a weight that follows the reconstruction."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING

import torch
from torch import nn

from zoo.errors import SpecError, TrainingError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.phases import Moment


@dataclass(frozen=True)
class Numbers:
    """What one step came to, as a term is told: scalars, detached, on the device of the stack.

    Args:
        own: the term's own number, not weighted.
        reconstruction: the sum of the level's reconstructions, each times the weight that the spec gives it.
        regularization: that of its regularizers.
        step: optimiser steps taken in the level, this one included.
    """

    own: Tensor
    reconstruction: Tensor
    regularization: Tensor
    step: int


class Weighing(nn.Module):
    """What a term's number is multiplied by, from the first step of its level to the last.

    Args:
        weight: of the term.
        warmup: the weight rises from 0 in a straight line over this part of the level's budget; 0: it does not.
        tau: the weight rises as 1 - exp(-t / tau), t in steps; 0: it does not.
        adaptive: after every so many steps the weight goes half of the way to the one at which the term would have
            counted as much as the reconstruction: to (weight + rec / match) / 2, where rec and match are the
            means of the reconstruction and of the term's size over these steps; 0: never. The weight is then a buffer,
            ``value``.
        balance: the weight is multiplied by the running mean of the reconstruction over that of the term, so that
            both count as much at any time; this is the decay of the means, as 0.9; 0: it is not.

    Raises:
        SpecError: numbers that mean nothing, two warm-ups, or two ways to follow the reconstruction.

    Source: the warm-ups are those of Bowman et al. (2016), arXiv:1511.06349, and of the code of Zhao, Song and Ermon
    (2017), arXiv:1702.08396, where tau is 2000; ``adaptive`` is that of the code of Tolstikhin et al. (2018),
    arXiv:1711.01558, with 1000 steps, which takes rec and match of the last batch alone; ``balance`` has the ratio of
    the code of the Fashion-MNIST VAE (2018), with 0.9, which multiplies the two terms by shares that sum to 1.
    """

    value: Tensor
    sums: Tensor
    running: Tensor

    def __init__(
        self, weight: float, *, warmup: float = 0.0, tau: float = 0.0, adaptive: int = 0, balance: float = 0.0
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise SpecError(f"a weight of {weight:g}: at least 0, as terms are minimised")
        if not 0 <= warmup <= 1:
            raise SpecError(f"warmup={warmup:g}: a part of the level's budget, from 0 to 1; tau counts in steps")
        if min(tau, adaptive) < 0:
            raise SpecError(f"tau={tau:g}, adaptive={adaptive}: each is a number of steps, or 0 for none")
        if warmup and tau:
            raise SpecError(f"warmup={warmup:g} and tau={tau:g} are two warm-ups: keep one")
        if not 0 <= balance < 1:
            raise SpecError(f"balance={balance:g}: the decay of a running mean, at least 0 and below 1")
        if adaptive and balance:
            raise SpecError(f"adaptive={adaptive} and balance={balance:g} both follow the reconstruction: keep one")
        self.warmup, self.tau, self.adaptive, self.balance = warmup, tau, adaptive, balance
        if balance:
            self.register_buffer("running", torch.zeros(2))
        if adaptive:
            self.register_buffer("value", torch.tensor(float(weight)))
            self.register_buffer("sums", torch.zeros(2))

    @property
    def changes(self) -> bool:
        """Whether the weight is another one at times."""
        return bool(self.warmup or self.tau or self.adapts)

    @property
    def adapts(self) -> bool:
        """Whether it follows the numbers of the steps."""
        return bool(self.adaptive or self.balance)

    def at(self, weight: float, moment: Moment) -> float | Tensor:
        """What a term of this weight is multiplied by; changes nothing."""
        full, risen = self._full(weight), self._risen(moment)
        return full if risen == 1 else full * risen

    def _full(self, weight: float) -> float | Tensor:
        if self.balance:
            rec, own = self.running.unbind()
            return weight * torch.where(own > 0, rec / own, 1.0)
        return self.value if self.adaptive else weight

    def _risen(self, moment: Moment) -> float:
        if moment.progress >= 1:
            return 1.0
        if self.warmup:
            return min(1.0, moment.progress / self.warmup)
        return 1 - exp(-moment.step / self.tau) if self.tau else 1.0

    @torch.no_grad()
    def adapt(self, numbers: Numbers) -> None:
        """Take in a step's numbers.

        Raises:
            TrainingError: the reconstruction is not above 0, so no weight makes the term as large.
        """
        if not self.adapts:
            return
        told = torch.stack((numbers.reconstruction, numbers.own.abs()))
        if self.balance:
            # The means start at 0 and are not corrected for it: in their ratio that cancels.
            self.running.lerp_(told, 1 - self.balance)
            if numbers.reconstruction <= 0:
                raise _not_an_error(f"balance={self.balance:g}")
            return
        if numbers.step == 1:  # the rest of a course before it, which may have counted other numbers
            self.sums.zero_()
        self.sums += told
        due = numbers.step % self.adaptive == 0
        if not due and numbers.step > 1:  # reading them waits for the device; the first time to fail early
            return
        rec, match = self.sums.tolist()
        if rec <= 0:
            raise _not_an_error(f"adaptive={self.adaptive}")
        if due:
            if match > 0:
                self.value.add_(rec / match).mul_(0.5)
            self.sums.zero_()


def _not_an_error(option: str) -> TrainingError:
    return TrainingError(
        f"{option} weighs a term against an error, and the reconstruction is not above 0, as a log density may be: "
        "name one that is an error, as in '+mse(0.05)'"
    )
