"""Learners of one shape that learn as one: their tensors stacked, one pass over all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from zoo import seeding
from zoo.errors import TrainingError
from zoo.training.draws import Given, Recorded
from zoo.training.objectives import Learner, Losses
from zoo.training.weights import Weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zoo.phases import Moment
    from zoo.training.objectives import LevelLearner


class Together(Learner):
    """Several learners of one shape as one, each on batches, random numbers and weights of its own.

    A step stacks nothing: every tensor of a member is a row of a stacked one from the first step on, so what an
    optimiser does to the members is done to the stack, and a gradient of the stack falls to the members row by row.
    One pass under ``torch.vmap`` then computes what a pass for each would have.

    Args:
        members: the learners. Their terms' weights may differ, nothing else.
    """

    def __init__(self, members: Sequence[LevelLearner]) -> None:
        super().__init__()
        for member in members:
            member.weights = Weights(member.weights.terms, all_change=True)  # weights are rows as well
        self.learners = nn.ModuleList(members)
        self.generators: dict[int, torch.Generator] = {}
        self.calls: dict[torch.Size, list[tuple[Callable[..., Tensor], torch.Size, torch.dtype]]] = {}
        self.stacked: dict[str, Tensor] = {}

    @property
    def members(self) -> Sequence[LevelLearner]:
        return cast("Sequence[LevelLearner]", self.learners)

    def forward(self, batch: Tensor, labels: Tensor | None = None) -> Losses:
        """The losses of (M * B, ...): one batch after the other, a batch for each member.

        Raises:
            TrainingError: they do something that cannot be done for several at once.
        """
        if not self.stacked:
            self._stack()
        x = batch.unflatten(0, (len(self.members), -1))
        draws = self._drawn(x)
        try:
            totals, terms = torch.vmap(self._one, randomness="different")(self.stacked, x, draws)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # what vmap cannot do, a number read from a tensor say
            raise TrainingError(
                f"stacks such as {self.members[0].stack[0].spec} cannot learn together: train one after the other "
                f"({' '.join(str(error).split())})"
            ) from error
        return Losses(totals.sum(), terms, each=totals.detach())

    def _one(self, state: dict[str, Tensor], x: Tensor, draws: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """What one member minimises, and its terms."""
        with Given(draws):
            losses: Losses = functional_call(self.members[0], state, (x,))
        return losses.total, losses.terms

    @torch.no_grad()
    def _stack(self) -> None:
        own = [_tensors(member) for member in self.members]
        for name, tensor in own[0].items():
            rows = torch.stack([tensors[name].detach() for tensors in own])
            for row, tensors in zip(rows, own, strict=True):
                tensors[name].data = row
            if tensor.requires_grad:
                rows.requires_grad_().register_post_accumulate_grad_hook(_handing([each[name] for each in own]))
            self.stacked[name] = rows

    def release(self) -> None:
        """Give every member tensors of its own again."""
        self.stacked.clear()
        for tensor in (tensor for member in self.members for tensor in _tensors(member).values()):
            tensor.data = tensor.data.clone()

    def _drawn(self, x: Tensor) -> tuple[Tensor, ...]:
        """What the members draw in this pass: each from its own generator, as it would have alone."""
        if x.shape not in self.calls:
            state = {name: rows[0].detach().clone() for name, rows in self.stacked.items()}
            with seeding.forked(x.device), torch.no_grad(), Recorded() as recorded:
                functional_call(self.members[0], state, (x[0],))
            self.calls[x.shape] = recorded.calls
        drawn = [
            [kind(size, dtype=dtype, device=x.device, generator=generator) for kind, size, dtype in self.calls[x.shape]]
            for generator in self.generators.values()
        ]
        return tuple(torch.stack(draws) for draws in zip(*drawn, strict=True))

    def begin(self, place: int, device: torch.device) -> None:
        self.generators[place] = torch.Generator(device).set_state(seeding.state(device))

    def random(self) -> dict[str, Tensor]:
        return {f"member.{place}": generator.get_state() for place, generator in self.generators.items()}

    def put_random(self, states: dict[str, Tensor]) -> None:
        for place, generator in self.generators.items():
            state = states[f"member.{place}"]
            if state.shape == generator.get_state().shape:  # or it is of a run that began on another kind of device
                generator.set_state(state)

    def advance(self, moment: Moment) -> None:
        for member in self.members:
            member.advance(moment)

    def weigh(self, moment: Moment) -> dict[str, float]:
        return _numbered([member.weigh(moment) for member in self.members])

    def weights_now(self) -> dict[str, float]:
        return _numbered([member.weights_now() for member in self.members])

    def adapt(self, losses: Losses, step: int) -> None:
        for place, member in enumerate(self.members):
            if member.adapting:
                own = {name: values[place] for name, values in losses.terms.items()}
                member.adapt(replace(losses, terms=own), step)

    def prepare(self, sample: Tensor, labels: Tensor | None = None) -> None:
        for member in self.members:
            member.prepare(sample, labels)

    def from_images(self, images: Tensor) -> Tensor:
        return self.members[0].from_images(images)

    def reconstruct(self, batch: Tensor) -> None:
        return None

    def critics(self) -> dict[str, Any]:
        return {}

    def critic_loss(self, name: str, losses: Losses) -> Tensor:
        raise TypeError(f"{name}: there are no critics here, a term that has one is refused before")


def _numbered(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """The members' weights in one, by the member's number and their names."""
    return {f"{place}.{name}": weight for place, weights in enumerate(found) for name, weight in weights.items()}


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _handing(rows: list[Tensor]) -> Callable[[Tensor], None]:
    """Hands the gradient of a stack to the parameters that are its rows."""

    def hand(stack: Tensor) -> None:
        if stack.grad is not None:
            for row, gradient in zip(rows, stack.grad, strict=True):
                row.grad = gradient
            stack.grad = None

    return hand
