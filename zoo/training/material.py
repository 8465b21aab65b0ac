"""The images of a run: those that are learned from, and those that choose the best weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data import Images

HELD_OUT = 0.05
MOST_HELD_OUT = 1000
"""Training images kept aside to choose the best weights: 5 %, and no more than this."""


@dataclass(frozen=True)
class Material:
    """The images of a run.

    Args:
        train: all training images.
        kept: those of them that are learned from.
        held: what the weights are chosen by.
        places: (N,), where ``kept`` are in ``train``; None for all of them.
    """

    train: Images
    kept: Images
    held: Images
    places: Tensor | None = None

    @classmethod
    def of(cls, train: Images, val: Images | None, *, seed: int, fold: tuple[int, int] | None = None) -> Material:
        """Training images, with a seeded part of them held out unless there are images to validate on.

        Args:
            train: all training images.
            val: images to validate on; None: some of those.
            seed: of the choice.
            fold: which of how many stratified parts is held out, from 1; None: a small part.

        Raises:
            TrainingError: there are images to validate on, and a fold is asked for as well.
        """
        if fold is not None:
            if val is not None:
                raise TrainingError(
                    "--val and --fold (val=, fold=) both name the images that weights are chosen by: give one of them"
                )
            kept, held = train.fold(*fold, seed=seed)
            return cls(train, train.subset(kept), train.subset(held), kept)
        count = min(MOST_HELD_OUT, max(1, round(HELD_OUT * len(train))))
        if val is not None or len(train) <= count:
            return cls(train, train, train if val is None else val)
        kept, held = train.divided(count, seed)
        return cls(train, train.subset(kept), train.subset(held), kept)
