"""How a pretrained encoder is trained on: its decoder first, then its own layers, the later ones faster."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

from zoo.errors import SpecError
from zoo.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Tune = Literal["all", "frozen", "unfreeze", "gradual"]

NETWORK = "encoder.network"
NEW = ("decoder", "encoder.project", "encoder.logvar", "encoder.linear")
"""What no backbone brings along: it learns from the start, and fastest."""

STEP = 2.6
"""A group learns so many times slower than the one above it: Howard and Ruder (2018), arXiv:1801.06146, section 3.2."""


@dataclass(frozen=True)
class Schedule:
    """How long the phases take; None for those that a way of tuning has not got.

    Args:
        decoder_share: of the budget, for the decoder alone, at most; what it leaves goes to the others.
        patience: validations, of the twenty of a phase, after which a decoder that stands still has learned enough.
        group_epochs: passes over the images before one more group is unfrozen, at most.
        last_share: of the budget, at least, with everything unfrozen group by group.
    """

    decoder_share: float | None = None
    patience: int | None = None
    group_epochs: int | None = None
    last_share: float | None = None


DEFAULTS: Mapping[Tune, Schedule] = {
    "all": Schedule(),
    "frozen": Schedule(),
    "unfreeze": Schedule(decoder_share=0.3, patience=3),
    "gradual": Schedule(decoder_share=0.3, patience=3, group_epochs=1, last_share=0.3),
}


def settled(tune: Tune, given: Schedule) -> Schedule:
    """What is given, and the defaults for the rest.

    Raises:
        SpecError: this way of tuning has no such phase, or the numbers mean nothing.
    """
    told = {name: value for name, value in asdict(given).items() if value is not None}
    for name in told:
        if getattr(DEFAULTS[tune], name) is None:
            ways = " or ".join(f"tune={way}" for way, known in DEFAULTS.items() if getattr(known, name) is not None)
            raise SpecError(f"{name} is of a phase that tune={tune} has not got: leave it out, or take {ways}")
    found = replace(DEFAULTS[tune], **told)
    shares = {name: getattr(found, name) for name in ("decoder_share", "last_share")}
    if (
        any(share is not None and not share > 0 for share in shares.values())
        or not sum(filter(None, shares.values())) < 1
    ):
        written = ", ".join(f"{name}={share:g}" for name, share in shares.items() if share is not None)
        raise SpecError(f"{written}: parts of the budget, above 0, which together leave some of it")
    for name in ("patience", "group_epochs"):
        if told.get(name, 1) < 1:
            raise SpecError(f"{name}={told[name]}: at least 1")
    return found


def phases(tune: Tune, groups: Sequence[Sequence[str]], slowest: float, schedule: Schedule) -> tuple[Phase, ...]:
    """The phases of a stage on a backbone.

    Args:
        tune: which way.
        groups: beginnings of the names of the backbone's parameters, the input's first.
        slowest: the first group's factor on the learning rate; the new parts have 1, and between them it is geometric.
        schedule: how long they take, settled.
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
    *steps, last = [alone | {name: rate for group in some for name, rate in group.items()} for some in unfrozen]
    decoder, end = cast("float", schedule.decoder_share), schedule.last_share or 0.0
    share = (1 - decoder - end) / max(1, len(steps))
    return (
        Phase("decoder", share=decoder, rates=alone, patience=schedule.patience),
        *(
            Phase(f"unfreeze-{count}", share=share, rates=some, epochs=schedule.group_epochs)
            for count, some in enumerate(steps, 1)
        ),
        Phase("all", share=end if steps else 1 - decoder, rates=last),
    )
