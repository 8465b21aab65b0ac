"""What a training step computes: floating-point operations, forwards and backwards, of all players."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch.utils.flop_counter import FlopCounterMode

from zoo.training.heads import HeadLearner

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.stack import Stack
    from zoo.training.options import LossIn


def of_head(stack: Stack, images: Tensor, loss_in: LossIn) -> int:
    """The operations of one step of the head of a stack, counted by torch: a multiplication and an addition are two.

    Args:
        stack: it is left with gradients and without changed weights.
        images: a batch, (B, C, H, W); encoding it counts only where the loss is in pixels.
        loss_in: where the loss lives.
    """
    learner = HeadLearner(stack, loss_in)
    batch = images if loss_in == "pixels" else stack.encode(images).detach()
    critics = {id(weight) for owner in learner.critics().values() for weight in _weights(owner.critic)}
    own = {id(weight) for weight in learner.learns.parameters()}
    learner.train()
    with FlopCounterMode(display=False) as counter:
        _learning(stack, own - critics)
        losses = learner(batch)
        losses.total.backward()
        _learning(stack, critics)
        for name in learner.critics():
            learner.critic_loss(name, losses).backward()
    _learning(stack, {id(weight) for weight in stack.parameters()})
    stack.eval().zero_grad()
    return cast("int", counter.get_total_flops())


def _weights(module: object) -> list[Tensor]:
    return [*module.parameters()] if hasattr(module, "parameters") else []


def _learning(stack: Stack, chosen: set[int]) -> None:
    for weight in stack.parameters():
        weight.requires_grad_(id(weight) in chosen)
