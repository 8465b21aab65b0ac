"""How maps lie in memory while a stack is trained: channels last, as convolutions like them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


def laid(batch: Tensor, device: torch.device) -> Tensor:
    """A batch on a device, maps with their channels last."""
    batch = batch.to(device, non_blocking=True)
    return batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch


def channels_last(module: nn.Module, device: torch.device) -> None:
    """Move a module to a device, with the channels of its maps' weights last.

    Of ``Module.to(memory_format=)`` this is what concerns tensors of four axes: it stops at the first of five.
    """

    def moved(tensor: Tensor) -> Tensor:
        return tensor.to(device, memory_format=torch.channels_last) if tensor.ndim == 4 else tensor.to(device)

    module._apply(moved)
