"""Stacks whose top levels learn at once: what differs between them, and what may not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from zoo.errors import TrainingError
from zoo.stack import Stack
from zoo.training.options import AUTO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.interfaces import Stage, Term
    from zoo.level import Level
    from zoo.spec import LevelSpec
    from zoo.training.options import Options


@dataclass(frozen=True)
class Members:
    """What stacks that learn at once are given each.

    Args:
        seeds: of order and draws.
        rates: highest learning rates.
        factors: these over the run's.
    """

    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    factors: tuple[float, ...]

    @classmethod
    def of(cls, count: int, options: Options, seeds: Sequence[int] | None, rates: Sequence[float] | None) -> Members:
        """What was asked for, or a seed after the other at the run's rate.

        Raises:
            TrainingError: too many or too few, or a rate that is not above 0.
        """
        seeds = tuple(range(options.seed, options.seed + count)) if seeds is None else tuple(seeds)
        rates = (options.rate,) * count if rates is None else tuple(rates)
        if not len(seeds) == len(rates) == count:
            raise TrainingError(
                f"{count} stacks, {len(seeds)} seeds and {len(rates)} rates: one of each for every stack"
            )
        if min(rates) <= 0:
            raise TrainingError(f"rates={list(rates)}: a learning rate is above 0")
        return cls(seeds, rates, tuple(rate / options.rate for rate in rates))


class Stacks(nn.Module):
    """Several stacks as one module, to be moved and kept together."""

    def __init__(self, stacks: Sequence[Stack]) -> None:
        super().__init__()
        self.stacks = nn.ModuleList(stacks)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((tensor.device for tensor in self.state_dict().values()), torch.device("cpu"))


def check_together(stacks: Sequence[Stack], options: Options) -> Options:
    """The options for the top levels of stacks that are to learn at once.

    Raises:
        TrainingError: they cannot.
    """
    if isinstance(stacks, Stack):
        raise TrainingError("fit_together takes several stacks, in a list; fit trains one")
    if not stacks:
        raise TrainingError("fit_together wants at least one stack")
    for stack in stacks:
        if not isinstance(stack, Stack):
            raise TrainingError(
                f"fit_together takes stacks, of zoo.build(spec) or zoo.load(folder), not a {type(stack).__name__}"
            )
    first, top = stacks[0], len(stacks[0].levels)
    if len({id(stack) for stack in stacks}) < len(stacks):
        raise TrainingError("fit_together was given one stack twice: build one for each")
    if options.lr == AUTO:
        raise TrainingError("stacks that learn together take their rates as rates=, one each: find_lr finds one")
    if options.level not in (None, top) or options.refine or options.compile or options.progressive:
        raise TrainingError("only top levels learn together: leave out level, refine, progressive and compile")
    for number, stack in enumerate(stacks, 1):
        if stack.head is not None:
            raise TrainingError(f"stack {number} ends in a head ({stack.spec}); only levels learn together")
        if stack.input_shape != first.input_shape or _alike(stack) != _alike(first):
            raise TrainingError(
                f"stack {number} is {stack.spec}, the first {first.spec}: stacks that learn together differ in nothing "
                "but the weights of the top level's terms"
            )
        _check_below(stack, first, number)
        _check_top(stack.level(top), number)
        own, others = (_been(it.level(top)) for it in (stack, first))
        if own != others:
            raise TrainingError(
                f"the top level of stack {number} {own}, that of the first {others}: those that are trained for the "
                "first time and those that train on learn apart"
            )
    return replace(options, level=top)


def _been(level: Level) -> str:
    return "was trained before" if level.trained else "was not trained yet"


def _alike(stack: Stack) -> list[str]:
    """The spec written out, without the weights of the top level's terms."""
    levels = [level.written_out for level in stack.lower()]
    return [str(level) for level in levels[:-1]] + [_unweighted(levels[-1])]


def _unweighted(level: LevelSpec | None) -> str:
    if level is None:
        return ""
    terms = [replace(item, args=tuple(arg for arg in item.args if arg[0] != "weight")) for item in level.items[1:]]
    return str(replace(level, items=(level.items[0], *terms)))


def _check_below(stack: Stack, first: Stack, number: int) -> None:
    for below, (level, other) in enumerate(zip(stack.lower(), first.lower(), strict=True), 1):
        if below == len(stack.levels):
            return
        if not level.trained:
            raise TrainingError(f"level {below} of stack {number} is not trained: train it first, once, and load it")
        mine, theirs = level.state_dict(), other.state_dict()
        if any(not torch.equal(mine[name], theirs[name]) for name in theirs):
            raise TrainingError(f"level {below} of stack {number} has other weights than that of the first stack")


def _check_top(level: Level, number: int) -> None:
    for name, term in level.terms.items():
        if getattr(term, "critic", None) is not None:
            raise TrainingError(f"stack {number}: {name} has a critic, which does not learn together with others")
    parts = cast("list[Term | Stage]", [*level.terms.values(), level.stage])
    phases = [phase for part in parts for phase in part.phases()]
    if any((phase.until, phase.patience) != (None, None) for phase in phases):
        raise TrainingError(
            f"stack {number} has a phase that ends when it is good enough, which each does at another step"
        )
