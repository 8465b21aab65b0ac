"""Every random state that training may draw from: seeded, kept apart from the user's, saved and restored."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from zoo import seeding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

NUMPY = "MT19937"


@contextmanager
def apart(device: torch.device, seed: int) -> Iterator[None]:
    """Random numbers from a seed while this lasts; afterwards every state is what it was before."""
    before = state(device)
    reseed(seed, device)
    try:
        yield
    finally:
        restore(before, device)


def reseed(seed: int, device: torch.device) -> None:
    """Have all of them follow from a seed; of several GPUs only this one's, as the others' are not put back."""
    random.seed(seed)
    np.random.seed(seed)
    seeding.reseed(seed, device)


def state(device: torch.device) -> dict[str, Tensor]:
    """The states of torch, on the CPU and on the device, of NumPy and of Python, as tensors of numbers."""
    _, keys, place, spare, value = np.random.get_state(legacy=True)
    _, words, gauss = random.getstate()
    states = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
        "numpy.rest": torch.tensor([place, spare, value], dtype=torch.float64, device="cpu"),
        "python": torch.tensor(words, device="cpu"),
        "python.rest": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64, device="cpu"),
    }
    return states | {own.type: seeding.state(own) for own in seeding.accelerators(device)}


def restore(states: dict[str, Tensor], device: torch.device) -> None:
    """Put ``state``'s states back."""
    torch.set_rng_state(states["torch"])
    place, spare, value = states["numpy.rest"].tolist()
    keys = states["numpy"].numpy().astype(np.uint32)
    np.random.set_state((NUMPY, keys, int(place), int(spare), value))
    gauss = states["python.rest"].tolist()
    random.setstate((3, tuple(states["python"].tolist()), gauss[0] if gauss else None))
    for own in seeding.accelerators(device):
        if own.type in states:  # not in those of a run that began on another device
            seeding.put_state(states[own.type], own)
