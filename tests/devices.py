"""GPUs for machines without one: a device that has no float64, and one that draws from a random state of its own."""

from __future__ import annotations

import torch
from torch.overrides import TorchFunctionMode

GENERATOR = torch.Generator


class WithoutFloat64(TorchFunctionMode):
    """While it lasts ``meta`` is a device that has no float64, as Apple's; what comes from it to the CPU are draws."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        remote = bool(args) and isinstance(args[0], torch.Tensor) and args[0].is_meta
        if remote and func is torch.Tensor.cpu:
            return torch.rand(args[0].shape, dtype=args[0].dtype)
        if remote and func is torch.Tensor.item:
            return 1.0
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.is_meta and out.dtype == torch.float64:
            raise TypeError("this device has no float64")
        return out


class Drawing:
    """What ``torch.cuda`` or ``torch.mps`` is for its devices; the states are of generators on the CPU."""

    def __init__(self, monkeypatch) -> None:
        self.generators = {}
        monkeypatch.setattr(torch, "get_device_module", lambda device=None: self)
        monkeypatch.setattr(torch, "Generator", lambda device="cpu": GENERATOR())

    def get_rng_state(self, device):
        return self.generator(device).get_state()

    def set_rng_state(self, state, device):
        self.generator(device).set_state(state)

    def generator(self, device):
        return self.generators.setdefault(str(device), GENERATOR())

    def draw(self, device):
        return torch.rand(1, generator=self.generator(device)).item()
