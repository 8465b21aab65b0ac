"""The phases of a level's training, and where in them it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor


@dataclass(frozen=True)
class Phase:
    """A part of a level's training: ``Stage.phases`` divides it, and ``Term.phases`` puts something before it.

    Args:
        name: what it is called in the progress and the history; the space of its loss where empty.
        share: its part of the level's budget; the shares of a level's phases are in proportion to each other, and what
            a phase leaves is for those behind it.
        steps: it takes so many at the most.
        epochs: it takes so many passes over what it learns from at the most.
        until: it ends early, after the first step whose batch has a loss below this, as the history counts it.
        patience: it ends early, when so many validations in a row have brought next to nothing (a hundredth of what
            those before them have).
        batch_size: inputs a step; None: as the run says.
        rates: factors on the learning rate by parameter, as ``{"decoder": 1.0, "encoder.trunk": 0.1}``: the longest
            beginning of a parameter's name counts, and what no entry names stays as it is. None: all learn, at 1. A
            phase in which nothing learns that could is refused.
        terms: names of the terms that count, which the level has to have; None: all.
        code_loss: what is minimised instead of terms: a scalar of the codes that were drawn, (B, *code). Nothing is
            decoded for it, no critic steps, and it is not divided by the size of an input.
        loss_in: where the loss of an upper level lives; None: as the run says.
        size: height and width of the images that it learns from, smaller than the stack's; None: as they are.
        before: a smaller size, which it comes from: what the images have more is faded in over the phase.
    """

    name: str = ""
    share: float = 1.0
    steps: int | None = None
    epochs: int | None = None
    until: float | None = None
    patience: int | None = None
    batch_size: int | None = None
    rates: Mapping[str, float] | None = None
    terms: tuple[str, ...] | None = None
    code_loss: Callable[[Tensor], Tensor] | None = None
    loss_in: Literal["codes", "pixels"] | None = None
    size: tuple[int, int] | None = None
    before: tuple[int, int] | None = None

    def rate(self, parameter: str) -> float:
        """The factor on the learning rate of the stage's parameter of this name.

        >>> phase = Phase(rates={"decoder": 1.0, "encoder.trunk": 0.1})
        >>> phase.rate("encoder.trunk.0.weight"), phase.rate("encoder.mean.weight"), phase.rate("decoder.bias")
        (0.1, 0.0, 1.0)
        """
        if self.rates is None:
            return 1.0
        return factor_of(parameter, self.rates, other=0.0)

    def idle(self, parameters: Iterable[str]) -> bool:
        """Whether a stage whose parameters of these names could learn learns none of them: a slip in ``rates``.

        >>> Phase(rates={"decodr": 1.0}).idle(["encoder.weight", "decoder.weight"])
        True
        """
        factors = [self.rate(parameter) for parameter in parameters]
        return bool(factors) and not any(factor > 0 for factor in factors)


@dataclass(frozen=True)
class Moment:
    """Where the training of a level stands.

    Args:
        progress: the part of the level's budget that is behind it, 0 to 1, over all its phases. It is 1 throughout
            for a level that was trained before and trains on, and while a whole stack is refined.
        step: optimiser steps taken so far, over all its phases.
        phase: the name of the phase it is in.
        within: the part of this phase's budget that is behind it, 0 to 1.
    """

    progress: float = 0.0
    step: int = 0
    phase: str = ""
    within: float = 0.0


def factor_of(parameter: str, factors: Mapping[str, float], *, other: float) -> float:
    """A parameter's factor among those of beginnings of names: that of the longest which it has, else ``other``.

    >>> factor_of("encoder.linear.bias", {"encoder": 1.0, "encoder.linear": 0.1, "encoder.lin": 0.5}, other=0.0)
    0.1
    """
    named = [begin for begin in factors if parameter == begin or parameter.startswith(f"{begin}.")]
    return factors[max(named, key=len)] if named else other


END = Moment(progress=1.0, within=1.0)
"""When all is over."""
