"""The random numbers of learners that run as one: each draws what it would have drawn alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

KINDS: dict[Any, Callable[..., Tensor]] = {
    torch.randn: torch.randn,
    torch.randn_like: torch.randn,
    torch.rand: torch.rand,
    torch.rand_like: torch.rand,
}
"""Functions that draw from torch's global generator, and what draws the same numbers from a generator of one's own."""


class Recorded(TorchFunctionMode):
    """Notes what is drawn while it lasts: which kind, of which shape and type."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Tensor], torch.Size, torch.dtype]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if _is_draw(func, kwargs):
            self.calls.append((KINDS[func], out.shape, out.dtype))
        return out


class Given(TorchFunctionMode):
    """Gives these tensors, in order, to whoever draws while it lasts."""

    def __init__(self, draws: Iterable[Tensor]) -> None:
        super().__init__()
        self.draws = iter(draws)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return next(self.draws) if _is_draw(func, kwargs) else func(*args, **(kwargs or {}))


def _is_draw(func: Any, kwargs: Any) -> bool:
    return func in KINDS and (kwargs or {}).get("generator") is None
