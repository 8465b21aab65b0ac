"""A running average of the weights, which is smoother than the weights and is what gets evaluated and kept."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from zoo.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


YOUNG = 100
"""Steps after each of which the weights are taken in."""
EVERY = 4
"""Later they are taken in after so many: it is all the same to an average over hundreds of steps, and to a small level,
whose weights are many beside what a step computes, a pass over all of them is a good part of a step."""


class Average:
    """Exponential moving average of a module's parameters, and of the statistics of its batch norms.

    The decay starts low, (1 + t) / (10 + t), so that the average of a young run is not held back by its first weights.
    Statistics are averages already, but of the weights as they are: with those of the average, which lag behind, go
    statistics that lag as far.

    Args:
        module: whose parameters are averaged.
        decay: of one step; 0 follows the weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        learned = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        found = {**learned, **_statistics(module)}
        self.names: list[str] = [*found]
        self.live: list[Tensor] = [*found.values()]
        self.averages = [tensor.detach().clone() for tensor in self.live]

    def update(self, step: int) -> None:
        """Take in the weights after step number ``step``, from 0; in an old run those of every fourth step alone."""
        steps = 1 if step < YOUNG or self.decay == 0 else EVERY
        if not self.averages or step % steps:
            return
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, self.live, 1 - min(self.decay, (1 + step) / (10 + step)) ** steps)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The module holds the average while this lasts."""
        own = {name: live.detach().clone() for name, live in zip(self.names, self.live, strict=True)}
        self.put(self.state())
        try:
            yield
        finally:
            self.put(own)

    @torch.no_grad()
    def put(self, state: dict[str, Tensor]) -> None:
        """Put these values in place of the weights and the statistics."""
        if self.live:
            torch._foreach_copy_(self.live, [state[name] for name in self.names])

    def state(self, part: nn.Module | None = None) -> dict[str, Tensor]:
        """The averages by their names in the module, of all of it or of a part."""
        found = zip(self.names, self.live, self.averages, strict=True)
        own = None if part is None else {id(tensor) for tensor in (*part.parameters(), *part.buffers())}
        return {name: average for name, live, average in found if own is None or id(live) in own}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from a saved ``state``.

        Raises:
            TrainingError: it is of other parameters.
        """
        if other := sorted(state.keys() ^ set(self.names)):
            raise TrainingError(
                f"the checkpoint was written by another version, which trained other parameters ({other[0]}): train "
                "anew, in another folder (--out, out=)"
            )
        self.averages = [
            torch.empty_like(live).copy_(state[name]) for name, live in zip(self.names, self.live, strict=True)
        ]


def _statistics(module: nn.Module) -> dict[str, Tensor]:
    """The running means and variances of all batch norms, by their names."""
    return {
        f"{name}.{key}" if name else key: buffer
        for name, part in module.named_modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm)
        for key, buffer in part.named_buffers()
        if buffer.is_floating_point()
    }
