"""What a report's numbers were measured on and with."""

from __future__ import annotations

import hashlib
import platform
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from zoo import files
from zoo.arithmetic import in_full

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.data import Images
    from zoo.stack import Stack

VERSION = 1  # of the protocol of docs/evaluation.md: goes up when a number would come out otherwise
FITTED_ON = 10_000  # training images for components, neighbours and probes, at most
RESIZE = "bicubic, antialiased, to cover the size; the rest is cropped evenly"  # what zoo.data does
NUMBERS = 125_000_000  # that any one array of training inputs or codes holds, at most


def describe(stack: Stack, test: Images, train: Images, fitted_on: int, *, seed: int) -> dict[str, Any]:
    """The protocol of one report, JSON-ready."""
    channels, height, width = stack.input_shape
    return {
        "version": VERSION,
        "stack": str(stack.spec),
        "data": _named(test),
        "train": {**_named(train), "fitted_on": fitted_on},
        "preprocessing": {
            "size": [height, width, channels],
            "resize": RESIZE,
            "range": [0, 1],
        },
        "seed": seed,
        "device": _device(stack.device),
        "precision": precision(stack),
        "versions": {
            "zoo": files.zoo_version(),
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "torchvision", "torchmetrics", "scikit-learn", "pillow")},
        },
    }


def stream(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Random numbers for one purpose: two that shared a seed would draw the same numbers, and so be alike."""
    digest = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:6], "big"))


def precision(stack: Stack) -> str:
    """The types of the weights, as in "float32"."""
    weights = [weight for weight in stack.state_dict().values() if weight.is_floating_point()]
    return " and ".join(sorted({str(weight.dtype).removeprefix("torch.") for weight in weights}))


def overlap(train: Images, test: Images) -> int:
    """How many of the test images are training images too, byte by byte."""
    known = {digest.tobytes() for digest in train.digests.numpy()}
    return sum(digest.tobytes() in known for digest in test.digests.numpy())


@contextmanager
def measuring(stack: Stack) -> Iterator[None]:
    """No gradients, eval mode, no autocast, full precision; modes and precision are put back afterwards."""
    modes = [(module, module.training) for module in stack.modules()]
    stack.eval()
    try:
        with torch.inference_mode(), torch.autocast(stack.device.type, enabled=False), in_full():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _named(images: Images) -> dict[str, Any]:
    return {
        "name": images.name,
        "split": images.split,
        "count": len(images),
        "skipped": len(images.skipped),
        "fingerprint": images.fingerprint,
    }


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({platform.machine()})"
