"""How a pretrained encoder is trained on: its decoder first, then its own layers, the later ones faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from zoo.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

Tune = Literal["all", "frozen", "unfreeze", "gradual"]

NETWORK = "encoder.network"
NEW = ("decoder", "encoder.project", "encoder.logvar", "encoder.linear")
"""What no backbone brings along: it learns from the start, and fastest."""

STEP = 2.6
"""A group learns so many times slower than the one above it: Howard and Ruder (2018), arXiv:1801.06146, section 3.2."""
FIRST_SHARE = 0.3
"""Of the budget, for the decoder alone; what it leaves when it stands still goes to the others."""
LAST_SHARE = 0.3
"""Of the budget, at least, with everything unfrozen group by group."""
PATIENCE = 3
"""Validations, of the twenty of a phase, after which a decoder that stands still has learned enough."""


def phases(tune: Tune, groups: Sequence[Sequence[str]], slowest: float) -> tuple[Phase, ...]:
    """The phases of a stage on a backbone.

    Args:
        tune: which way.
        groups: beginnings of the names of the backbone's parameters, the input's first.
        slowest: the first group's factor on the learning rate; the new parts have 1, and between them it is geometric.
    """
    if tune == "all":
        return (Phase(),)
    new = dict.fromkeys(NEW, 1.0)
    alone = new | {NETWORK: 0.0}
    if tune == "frozen":
        return (Phase(rates=alone),)
    rates = [
        {f"{NETWORK}.{begin}": slowest ** ((len(groups) - place) / len(groups)) for begin in group}
        for place, group in enumerate(groups)
    ]
    unfrozen = [rates] if tune == "unfreeze" else [rates[-count:] for count in range(1, len(rates) + 1)]
    first = Phase("decoder", share=FIRST_SHARE, rates=alone, patience=PATIENCE)
    *steps, last = [alone | {name: rate for group in some for name, rate in group.items()} for some in unfrozen]
    share = (1 - FIRST_SHARE - LAST_SHARE) / max(1, len(steps))
    return (
        first,
        *(Phase(f"unfreeze-{count}", share=share, rates=some, epochs=1) for count, some in enumerate(steps, 1)),
        Phase("all", share=LAST_SHARE if steps else 1 - FIRST_SHARE, rates=last),
    )
