"""Who steps: the stage first, then every critic on a detached round trip.

Each player owns parameters, a loss and an optimiser. Neither turn touches the other's weights or gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zoo.errors import TrainingError
from zoo.training.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from zoo.training.courses import Course
    from zoo.training.options import Options

ADAMW_BETAS = (0.9, 0.95)
"""A trunk that starts at zero beside its linear path has gradients that grow a hundredfold in the first steps. With the
usual 0.999 their second moment lags behind, and at three times the default rate the steps killed the trunk for good
(31.9 dB on Tiny ImageNet, its linear path alone; with 0.95 33.0 dB after 250 steps)."""


class Player:
    """Parameters that learn together, and the optimiser that moves them.

    Args:
        name: "stage", or the name of the term or head that owns the critic.
        rates: what learns, by name, each with its factor on the learning rate.
        options: names the optimiser, its rate, its weight decay and the clipping.
        members: modules whose gradients are clipped each for itself, where several learn at once.
        processes: that have a gradient each, of which all take the mean.
    """

    def __init__(
        self,
        name: str,
        rates: Mapping[str, tuple[nn.Parameter, float]],
        options: Options,
        members: Sequence[nn.Module] = (),
        processes: Processes | None = None,
    ) -> None:
        self.name, self.processes = name, processes or Processes()
        self.parameters = [parameter for parameter, _ in rates.values()]
        self.clip = options.clip
        learn = {id(parameter) for parameter in self.parameters}
        self.clipped = [
            [parameter for parameter in member.parameters() if id(parameter) in learn] for member in members
        ] or [self.parameters]
        self.optimizer = _optimizer([*rates.values()], options)
        for group in self.optimizer.param_groups:
            group["highest"] = group["lr"]
        names = {id(parameter): name for name, (parameter, _) in rates.items()}
        self.names = [names[id(parameter)] for group in self.optimizer.param_groups for parameter in group["params"]]
        """In the optimiser's own order, by which it numbers its states."""

    def step(self, loss: Tensor, factor: float, momentum: float | None = None) -> Tensor:
        """Go one step down the loss, at ``factor`` times the highest rate.

        Returns:
            The gradient's norm; of several members, the mean of theirs.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = group["highest"] * factor
            if momentum is not None and "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            elif momentum is not None and "momentum" in group:
                group["momentum"] = momentum
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.processes.average(parameter.grad for parameter in self.parameters)
        norms = [self._clip(parameters) for parameters in self.clipped]
        self.optimizer.step()
        return norms[0] if len(norms) == 1 else torch.stack(norms).mean()

    def _clip(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Bound the norm of these parameters' gradients, and return what it was."""
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        # to ask waits for a device; on a CPU it spares a pass
        if self.clip and (norm.device.type != "cpu" or norm > self.clip):
            nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
        return norm

    def state(self) -> dict[str, Tensor]:
        """The optimiser's tensors, by the parameter's name and their own."""
        state = self.optimizer.state_dict()["state"]
        return {
            f"{self.names[number]}.{key}": torch.as_tensor(value, device="cpu")
            for number, own in state.items()
            for key, value in own.items()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Continue from a saved ``state``."""
        numbers = {name: number for number, name in enumerate(self.names)}
        state: dict[int, dict[str, Tensor]] = {}
        for place, tensor in tensors.items():
            name, key = place.rsplit(".", 1)
            state.setdefault(numbers[name], {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        for parameter, own in self.optimizer.state.items():
            for key, value in own.items():
                # Fused kernels walk memory: the state must lie as its parameter does, channels-last say.
                same = value.shape == parameter.shape
                own[key] = torch.empty_like(parameter).copy_(value) if same else value.clone()


def players(course: Course, options: Options, processes: Processes) -> tuple[Player | None, list[Player]]:
    """The stage (None where nothing of it learns) and the critics of what is being trained."""
    critics = {
        name: {
            own: (parameter, owner.critic_rate)
            for own, parameter in owner.critic.named_parameters()
            if parameter.requires_grad
        }
        for name, owner in course.learner.critics().items()
        if owner.critic is not None
    }
    theirs = {id(parameter) for rates in critics.values() for parameter, _ in rates.values()}
    own = {name: rate for name, rate in course.rates().items() if id(rate[0]) not in theirs}
    stage = Player("stage", own, options, course.learner.members, processes) if own else None
    return stage, [Player(name, rates, options, (), processes) for name, rates in critics.items() if rates]


def _optimizer(rates: list[tuple[nn.Parameter, float]], options: Options) -> torch.optim.Optimizer:
    by_kind: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter, factor in rates:
        decay = options.weight_decay if parameter.ndim > 1 else 0.0
        by_kind.setdefault((factor, decay), []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": parameters, "lr": factor * options.rate, "weight_decay": decay}
        for (factor, decay), parameters in by_kind.items()
    ]
    match options.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=options.rate, betas=ADAMW_BETAS, fused=True)
        case "adam":
            return torch.optim.Adam([{**group, "weight_decay": 0.0} for group in groups], lr=options.rate, fused=True)
        case "adamax":
            return torch.optim.Adamax([{**group, "weight_decay": 0.0} for group in groups], lr=options.rate)
        case "sgd":
            return torch.optim.SGD(groups, lr=options.rate, momentum=0.9)
    raise TrainingError(f"no optimiser {options.optimizer!r}")
