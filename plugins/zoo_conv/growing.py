"""Layers of which the outer ones come in while a stage grows, and what stands in for them before."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from zoo.errors import TrainingError
from zoo.growth import View, enlarge, shrink
from zoo_conv.blocks import zeroed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from zoo.growth import Size
    from zoo_conv.blocks import Factor


class Step(NamedTuple):
    """One step of a half between two resolutions.

    Args:
        factor: between them.
        layers: how many there are in it.
        channels: of the smaller map.
    """

    factor: Factor
    layers: int
    channels: int


class Stairs(nn.Sequential):
    """The layers between images and a small map, either way, of which the outer steps can be missing.

    While it grows, a 1x1 convolution stands for the steps that are missing, and where ``view.before`` says so, what is
    new is faded in: Karras et al. (2018), arXiv:1710.10196, figure 2.

    Args:
        *layers: in their order.
        steps: of them, the one at the images first.
        image: channels of the images.
        rising: they lead to the images, and not from them.
        normed: the 1x1 convolutions are followed by batch normalisation.
        silent: the 1x1 convolutions start at zero.
    """

    WAYS = "ways"

    def __init__(
        self, *layers: nn.Module, steps: Sequence[Step], image: int, rising: bool, normed: bool = False,
        silent: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(*layers)
        self.steps, self.image, self.rising = tuple(steps), image, rising
        self.normed, self.silent = normed, silent
        self.missing: dict[Size, int] = {}
        self.view: View | None = None

    def start_growing(self, sizes: Sequence[Size]) -> list[tuple[str, ...]]:
        """Be ready for images of these sizes, the full one last; the names of the layers that are new at each."""
        self.missing = {size: self._missing(size, sizes[-1]) for size in sizes}
        self.ways = nn.ModuleDict({str(count): self._way(count) for count in self.missing.values() if count})
        self.view = View(sizes[-1])
        counts = [self.missing[size] for size in sizes]
        return [(), *(self._new(before, now) for before, now in pairwise(counts))]

    def stop_growing(self) -> None:
        """All layers are there for good."""
        self._modules.pop(self.WAYS, None)
        self.missing, self.view = {}, None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same with other numbers; while it grows, the images' side is of the view's size."""
        if self.view is None:
            y: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return y
        now = self.missing[self.view.size]
        before = now if self.view.before is None else self.missing[self.view.before]
        return self._up(x, self.view, now, before) if self.rising else self._down(x, self.view, now, before)

    def whole(self, x: Tensor) -> Tensor:
        """What is encoded, at the size of whole images."""
        return x if self.view is None else enlarge(x, next(size for size, count in self.missing.items() if not count))

    def shown(self, x_hat: Tensor) -> Tensor:
        """Whole images as the view shows them."""
        return x_hat if self.view is None else self.view(x_hat)

    def _down(self, x: Tensor, view: View, now: int, before: int) -> Tensor:
        layers, first, rest = self._layers(), self._count(now), self._count(before)
        y = self._by(now, x)
        for layer in layers[first:rest]:
            y = layer(y)
        if view.before is not None:
            y = view.fade(self._by(before, shrink(x, view.before)), y)
        for layer in layers[rest:]:
            y = layer(y)
        return y

    def _up(self, x: Tensor, view: View, now: int, before: int) -> Tensor:
        layers = self._layers()
        rest, last = len(layers) - self._count(before), len(layers) - self._count(now)
        for layer in layers[:rest]:
            x = layer(x)
        y = x
        for layer in layers[rest:last]:
            y = layer(y)
        y = self._by(now, y)
        return y if view.before is None else view.fade(enlarge(self._by(before, x), view.size), y)

    def _by(self, missing: int, x: Tensor) -> Tensor:
        """Past so many missing steps."""
        if not missing:
            return x
        y: Tensor = self.ways[str(missing)](x)
        return y

    def _layers(self) -> list[nn.Module]:
        return [layer for name, layer in self._modules.items() if name != self.WAYS and layer is not None]

    def _count(self, missing: int) -> int:
        """Layers of so many outer steps."""
        return sum(step.layers for step in self.steps[:missing])

    def _missing(self, size: Size, full: Size) -> int:
        """How many steps are missing when images are of this size."""
        known = {}
        for count in range(max(1, len(self.steps))):
            down, across = (prod(step.factor[axis] for step in self.steps[:count]) for axis in (0, 1))
            known[full[0] // down, full[1] // across] = count
        if size not in known:
            possible = " and ".join(f"{height}x{width}" for height, width in list(known)[1:]) or "no smaller ones"
            raise TrainingError(
                f"this stage for images of {full[0]}x{full[1]} can grow from {possible}, not from {size[0]}x{size[1]}: "
                "a step of its network is left out for each, and one at least is kept"
            )
        return known[size]

    def _way(self, missing: int) -> nn.Module:
        inner = self.steps[missing - 1].channels
        inputs, outputs = (inner, self.image) if self.rising else (self.image, inner)
        way = nn.Conv2d(inputs, outputs, 1)
        if self.silent:
            zeroed(way)
        return nn.Sequential(way, nn.BatchNorm2d(outputs)) if self.normed else way

    def _new(self, before: int, now: int) -> tuple[str, ...]:
        """Names of what is there for the first time when fewer steps are missing."""
        outer, inner = self._count(now), self._count(before)
        count = len(self._layers())
        places = range(count - inner, count - outer) if self.rising else range(outer, inner)
        return (*map(str, places), *([f"{self.WAYS}.{now}"] if now else []))


def start(stage: nn.Module, sizes: Sequence[Size]) -> list[tuple[str, ...]]:
    """``Stairs.start_growing`` for all of a stage; names as they are in the stage."""
    found: list[tuple[str, ...]] = [() for _ in sizes]
    for name, stairs in _stairs(stage):
        new = stairs.start_growing(sizes)
        found = [(*names, *(f"{name}.{own}" for own in more)) for names, more in zip(found, new, strict=True)]
    return found


def see(stage: nn.Module, view: View | None) -> None:
    """Have all of a stage know the view."""
    for _, stairs in _stairs(stage):
        stairs.view = view


def stop(stage: nn.Module) -> None:
    """``Stairs.stop_growing`` for all of a stage."""
    for _, stairs in _stairs(stage):
        stairs.stop_growing()


def _stairs(stage: nn.Module) -> list[tuple[str, Stairs]]:
    return [(name, part) for name, part in stage.named_modules() if isinstance(part, Stairs)]
