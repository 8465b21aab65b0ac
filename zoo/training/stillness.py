"""What does not learn stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def train(learner: nn.Module) -> None:
    """Bring what learns into training mode, and every module of which nothing learns into evaluation mode.

    A frozen batch norm then keeps its statistics as well as its weights, and computes with them.
    """
    learner.train()
    for module in learner.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
