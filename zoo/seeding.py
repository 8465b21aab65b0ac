"""Random numbers that are the same every time, and leave those of everybody else alone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


@contextmanager
def seeded(seed: int = 0, device: torch.device | None = None) -> Iterator[None]:
    """What torch draws on the CPU and on a device follows from the seed while this lasts; then it goes on as before."""
    with forked(device):
        reseed(seed, device)
        yield


@contextmanager
def forked(device: torch.device | None = None) -> Iterator[None]:
    """What torch draws on the CPU and on a device while this lasts changes nothing of what is drawn afterwards."""
    own = accelerators(device)
    with torch.random.fork_rng(own, device_type=own[0].type if own else "cpu"):
        yield


def reseed(seed: int, device: torch.device | None = None) -> None:
    """What torch draws on the CPU and on a device follows from the seed from here on.

    ``torch.manual_seed`` would seed every GPU as well, and nobody puts back what the others were in.
    """
    torch.default_generator.manual_seed(seed)
    for own in accelerators(device):
        put_state(torch.Generator(own).manual_seed(seed).get_state(), own)


def state(device: torch.device) -> Tensor:
    """The random state that a device draws from."""
    if not accelerators(device):
        return torch.get_rng_state()
    found: Tensor = torch.get_device_module(device).get_rng_state(device)
    return found


def put_state(state: Tensor, device: torch.device) -> None:
    """Have an accelerator draw from this state."""
    torch.get_device_module(device).set_rng_state(state, device)


def accelerators(device: torch.device | None) -> list[torch.device]:
    """The device, if it draws from a state of its own: a GPU of any make, but not the CPU, nor ``meta``."""
    return [] if device is None or device.type in ("cpu", "meta") else [device]
