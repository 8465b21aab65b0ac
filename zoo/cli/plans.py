"""The phases in which a level is trained: who learns at which rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.cli.columns import columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zoo.level import Level
    from zoo.phases import Phase


def of_level(level: Level) -> list[dict[str, Any]]:
    """The stage's phases as it is trained first, ready for JSON; none where it is one phase, all of it at one rate."""
    phases = level.stage.phases()
    if all(phase.rates is None for phase in phases) and not level.stage.settled:
        return []
    names = [name for name, _ in level.stage.named_parameters()]
    whole = sum(phase.share for phase in phases)
    return [
        {
            "name": phase.name,
            "share": phase.share / whole,
            "epochs": phase.epochs,
            "patience": phase.patience,
            "rates": _rates(phase, level.stage.settled, names),
        }
        for phase in phases
    ]


def in_words(levels: Sequence[Mapping[str, Any]]) -> str:
    """The same for a terminal; nothing where no level has any."""
    rows: list[tuple[object, ...]] = [
        (number, phase["name"], f"{phase['share']:.3g}", f"{rate:.3g}", ", ".join(group))
        for number, level in enumerate(levels, 1)
        for phase in level["phases"]
        for rate, group in phase["rates"]
    ]
    return columns([("level", "phase", "share", "rate", "of"), *rows]) if rows else ""


def _rates(phase: Phase, settled: Mapping[str, float], names: Sequence[str]) -> list[tuple[float, list[str]]]:
    """The factors on the learning rate, the highest first, each with the parameters' beginnings that have it."""
    groups: dict[float, list[str]] = {}
    slower = {begin: factor * phase.rate(begin) for begin, factor in settled.items()}
    for begin, rate in {**(phase.rates or {"": 1.0}), **slower}.items():
        if any(name == begin or name.startswith(f"{begin}." if begin else "") for name in names):
            groups.setdefault(rate, []).append(begin or "everything")
    return sorted(groups.items(), reverse=True)
