"""What the terms of a learner weigh at present."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from zoo.interfaces import Term
from zoo.phases import END

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from zoo.phases import Moment


class Weights(nn.Module):
    """What each term of a learner is multiplied by now.

    Those that change lie in one buffer: a compiled objective reads them where they are, and setting them waits for no
    device. They follow from the moment and from the terms' own buffers, so they are not saved.

    Args:
        terms: by name.
        all_change: keep in the buffer what never changes, too.
    """

    now: Tensor

    def __init__(self, terms: Mapping[str, Term], *, all_change: bool = False) -> None:
        super().__init__()
        self.terms = dict(terms)
        self.changing = {name: term for name, term in terms.items() if all_change or _changes(term)}
        self.fixed = {name: term.weight for name, term in terms.items() if name not in self.changing}
        whole = [float(term.weight_at(END)) for term in self.changing.values()]
        self.register_buffer("now", torch.tensor(whole, device="cpu"), persistent=False)

    def set(self, moment: Moment) -> None:
        """Let the terms weigh what they do at this moment."""
        if not self.changing:
            return
        with torch.no_grad():
            for place, term in enumerate(self.changing.values()):
                self.now[place] = term.weight_at(moment)

    def forward(self) -> Mapping[str, float | Tensor]:
        """All of them, by name."""
        if not self.changing:
            return self.fixed
        return {**self.fixed, **dict(zip(self.changing, self.now.unbind(), strict=True))}

    def read(self) -> dict[str, float]:
        """Those that change, by name; waits for the device."""
        return dict(zip(self.changing, self.now.tolist(), strict=True))


def _changes(term: Term) -> bool:
    return type(term).weight_at is not Term.weight_at or term.weighing.changes
