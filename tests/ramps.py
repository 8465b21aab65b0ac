"""Images whose labels are plain to see, and stacks of which it is known what they measure."""

from __future__ import annotations

import math
from typing import Any

import torch

from zoo.data import Images
from zoo.evaluation import pca
from zoo.interfaces import Head, HeadBatch, Place, Regularizer, RoundTrip, Stage
from zoo.level import Level
from zoo.posterior import Posterior
from zoo.stack import Stack

SIZE = 12


def some_images(count: int, *, channels: int = 1, size: int = SIZE, seed: int = 0, labelled: bool = True) -> Images:
    """Smooth images of two kinds, bright to the left and bright at the top, as uint8."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    ramp = torch.linspace(0, 1, size)
    kinds = torch.stack([ramp.flip(0).expand(size, size), ramp.flip(0)[:, None].expand(size, size)])
    coarse = torch.rand(count, channels, 3, 3, generator=generator)
    clouds = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    pixels = ((0.6 * kinds[labels][:, None] + 0.4 * clouds) * 255).round().byte()
    return Images(
        pixels, labels=labels if labelled else None, classes=("left", "top"), name="ramps", split="test",
        files=None, skipped=(),
    )  # fmt: skip


class Components(Stage):
    """Principal components as a stage: what it should measure is known, it is the yardstick itself."""

    def __init__(self, place: Place, model: pca.Pca, *, logvar: bool = False, broken: bool = False) -> None:
        super().__init__(place, model.code_shape)
        self.model, self.logvar, self.broken = model, logvar, broken
        self.encoder, self.decoder = torch.nn.Dropout(), torch.nn.Identity()

    def encode(self, x: torch.Tensor) -> Posterior:
        mean = self.model.encode(x)
        return Posterior(mean, torch.full_like(mean, -30.0) if self.logvar else None)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        x = self.model.decode(z)
        return x * math.nan if self.broken else x


class Elsewhere(torch.Tensor):
    """A tensor as on a device that has no float64 and is not joined with the CPU's."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.cpu:
            with torch._C.DisableTorchFunctionSubclass():
                return args[0].as_subclass(torch.Tensor)
        if func is torch.cat and {type(part) for part in args[0]} != {cls}:
            raise RuntimeError("Expected all tensors to be on the same device")
        found = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(found, torch.Tensor) and found.dtype == torch.float64:
            raise TypeError("there is no float64 on this device")
        return found


class Pull(Regularizer):
    """A prior that costs nothing."""

    def __init__(self, place: Place) -> None:
        super().__init__(place, 1.0)

    def forward(self, trip: RoundTrip) -> torch.Tensor:
        return trip.z.sum() * 0


class Grey(Head):
    """A head that stands on the images themselves."""

    def loss(self, batch: HeadBatch) -> torch.Tensor:
        return batch.codes.sum() * 0

    def sample(self, n: int, *, label: int | None = None, generator: torch.Generator | None = None) -> torch.Tensor:
        return torch.rand(n, *self.place.input_shape, generator=generator)


class Spec:
    """As much of a spec as a stack of parts made here has."""

    def __init__(self, *levels: str) -> None:
        self.levels = levels

    def __str__(self) -> str:
        return "/".join(self.levels)


def linear_stack(train: Images, *, logvar: bool = False, broken: bool = False, with_prior: bool = True) -> Stack:
    """Patches of 4x4 to 5 numbers, and the map of these to 3: each by principal components."""
    x = train.batch(slice(0, len(train)))
    patches = pca.fit(x, (5, 3, 3), seed=0)
    codes = patches.encode(x)
    first = Components(Place(tuple(x.shape[1:])), patches, broken=broken)
    second = Components(Place((5, 3, 3), pixels=False), pca.fit(codes, (3,), seed=0), logvar=logvar)
    terms = {"pull": Pull(Place((5, 3, 3), (3,), pixels=False))} if with_prior else {}
    return Stack(Spec("patches", "top"), tuple(x.shape[1:]), [Level(first, {}), Level(second, terms)]).eval()
