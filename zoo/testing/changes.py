"""The contract of what changes over training: weights, what a part is told, and phases."""

from __future__ import annotations

from math import inf, isclose, isfinite
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.growth import View
from zoo.interfaces import Stage
from zoo.phases import END, Moment, Phase, factor_of
from zoo.testing.requirements import (
    ConformanceError,
    check_saving,
    during,
    require,
    require_scalar,
    require_tensor,
)
from zoo.weighing import Numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.interfaces import Part, Term

STEPS = (1, 2, 3, 10, 100, 1000, 2000)
"""Those after which the numbers are told: multiples of usual intervals among them."""
MOMENTS = (Moment(), *(Moment(step / 2000, step, within=step / 2000) for step in STEPS[:-1]), END)


def check_told(part: Part) -> None:
    """``advance`` can be called at any moment, and changes no more than buffers."""
    names, before = list(part.state_dict()), [parameter.clone() for parameter in part.parameters()]
    with during(type(part), "advance"):
        for moment in MOMENTS:
            part.advance(moment)
    same = all(map(torch.equal, before, part.parameters())) and names == list(part.state_dict())
    require(same, type(part), "advance changes more than buffers, which are made when it is built")


def check_weights(build: Callable[[], Term]) -> None:
    """What a term weighs at every moment: a finite number, in the end that of the spec; all it knows is saved."""
    term = build()
    part, weight = type(term), term.weight
    require(isclose(_weight(term, END), weight, rel_tol=1e-6), part, "in the end weight_at is not the weight")
    before = {name: value.clone() for name, value in term.state_dict().items()}
    first, again = ([_weight(term, moment) for moment in MOMENTS] for _ in range(2))
    require(first == again, part, "weight_at gives two answers at one moment")
    after = term.state_dict()
    require(all(torch.equal(after[name], value) for name, value in before.items()), part, "weight_at changes the state")
    _adapt(term)
    still = all(torch.equal(value, before[name]) for name, value in term.named_parameters())
    require(still, part, "adapt moves a parameter")
    check_saving(term, build, lambda fresh: [torch.tensor(_weights(fresh) + _adapt(fresh))])


def check_phases(owner: Stage | Term, codes: Callable[[int], Tensor]) -> None:
    """Each is a ``Phase`` that can be trained in; a loss on codes, (B, *code), is a finite scalar with a gradient; what
    a stage calls settled is there."""
    part, of_stage = type(owner), isinstance(owner, Stage)
    with during(part, "phases"):
        phases = owner.phases()
    require(phases or not of_stage, part, "phases is empty, so it would not be trained: (Phase(),) trains all of it")
    learning = [name for name, parameter in owner.named_parameters() if parameter.requires_grad]
    settled = owner.settled if isinstance(owner, Stage) else {}
    for begin, factor in settled.items():
        there = any(factor_of(name, {begin: 1.0}, other=0.0) for name, _ in owner.named_parameters())
        require(there, part, f"settled: no parameter's name begins with {begin!r}")
        require(0 <= factor < inf, part, f"settled: the factor of {begin!r} is {factor:g}, and is 0 or more")
    for phase in phases:
        require(isinstance(phase, Phase), part, f"phases holds a {type(phase).__name__}, not a Phase")
        require(phase.share > 0, part, f"phase {phase.name!r} has a share of {phase.share:g}: it would not be trained")
        named = phase.name or of_stage
        require(named, part, "a term's phase has a name, as the level's own are called by where their loss lives")
        idle = of_stage and phase.idle(learning)
        require(not idle, part, f"phase {phase.name!r} trains nothing: no parameter begins as its rates do")
        if phase.code_loss is None:
            continue
        for count in (8, 1):  # the last batch of a validation
            z = codes(count).requires_grad_()
            with during(part, f"code_loss of phase {phase.name!r} on {count}"):
                loss = require_scalar(part, "code_loss(z)", phase.code_loss(z))
                torch.autograd.backward(loss)
            finite = z.grad is not None and z.grad.isfinite().all()
            require(finite, part, f"code_loss of phase {phase.name!r} gives the codes no finite gradient")


@torch.no_grad()
def check_growing(stage: Stage, x: Tensor) -> None:
    """It learns from images half as high first, or refuses to in words; afterwards it is what it was.

    Args:
        stage: on images.
        x: (B, C, H, W), H and W even.
    """
    part, kept, (height, width) = type(stage), list(stage.state_dict()), x.shape[-2:]
    sizes = [(height // 2, width // 2), (height, width)]
    try:
        with during(part, f"start_growing({sizes})"):
            new = [tuple(names) for names in stage.start_growing(sizes)]
    except ConformanceError as error:
        if isinstance(error.__cause__, ZooError):
            return
        raise
    require(len(new) == len(sizes), part, f"start_growing says what is new at {len(new)} sizes, not at {len(sizes)}")
    learning = [name for name, parameter in stage.named_parameters() if parameter.requires_grad]
    for names, view in zip(new, (View(sizes[0]), View(sizes[1], sizes[0])), strict=True):
        idle = names and Phase(rates=dict.fromkeys(names, 1.0)).idle(learning)
        require(not idle, part, f"start_growing says that {', '.join(names)} is new: no parameter begins so")
        with during(part, f"encode and decode of images of {view.size} while it grows"):
            stage.see(view)
            x_hat = stage.decode(stage.encode(view(x)).mean)
        require_tensor(part, f"decode(z) at {view.size} while it grows", x_hat, (*x.shape[:2], *view.size))
    with during(part, "stop_growing"):
        stage.see(None)
        stage.stop_growing()
    require(list(stage.state_dict()) == kept, part, "stop_growing leaves state that was not there before")


def _weight(term: Term, moment: Moment) -> float:
    with during(type(term), f"weight_at({moment})"):
        weight = term.weight_at(moment)
    attached = isinstance(weight, Tensor) and weight.requires_grad
    require(not attached, type(term), "weight_at gives a tensor with a gradient: a scale that learns is forward's")
    number = float(weight)
    require(isfinite(number) and number >= 0, type(term), f"weight_at({moment}) is {number}")
    return number


def _weights(term: Term) -> list[float]:
    return [_weight(term, moment) for moment in MOMENTS]


def _adapt(term: Term) -> list[float]:
    """Have a term adapt to some numbers; what it weighs after each."""
    weights = []
    for step in STEPS:
        own, reconstruction, regularization = (torch.tensor(value / step) for value in (0.5, 3.0, 2.0))
        with during(type(term), "adapt"):
            term.adapt(Numbers(own, reconstruction, regularization, step))
        weights.append(_weight(term, END))
    return weights
