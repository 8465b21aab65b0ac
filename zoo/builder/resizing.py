"""The same levels for images of another size."""

from __future__ import annotations

from typing import cast

from zoo import registry
from zoo.errors import SpecError
from zoo.interfaces import Stage
from zoo.spec import Item, LevelSpec, StackSpec

Input = tuple[int, int, int]
"""Height, width and channels of images."""


def resized(spec: StackSpec, input: Input) -> StackSpec:
    """A spec that says its input, for images of another height and width: its maps grow and shrink with them.

    Raises:
        SpecError: a level that is made for one size, another number of channels, or maps that would not be whole.

    >>> from zoo.spec import parse
    >>> str(resized(parse("64x64x3/conv8x8x16/conv4x4x32"), (128, 96, 3)))
    '128x96x3/conv16x12x16/conv8x6x32'
    """
    old = cast("Input", spec.input)
    levels = tuple(_resized(level, old, input) for level in spec.levels)
    return StackSpec(levels, input)


def _resized(level: LevelSpec, old: Input, new: Input) -> LevelSpec:
    first, *terms = level.items
    stage = registry.find(first.name).load()
    vector = len(first.shape) not in (0, 3)
    if new[2] != old[2]:
        raise _unfit(first, old, new, "the number of channels stays")
    if vector or not (issubclass(stage, Stage) and stage.any_size):
        raise _unfit(first, old, new, "it takes no other size")
    if not first.shape:
        return level
    sides = [side * to for side, to in zip(first.shape, new[:2], strict=False)]
    if any(side % was for side, was in zip(sides, old, strict=False)):
        raise _unfit(first, old, new, "its map would not be whole there")
    shape = (sides[0] // old[0], sides[1] // old[1], first.shape[2])
    return LevelSpec((Item(first.name, shape, first.tag, first.args, first.position), *terms))


def _unfit(item: Item, old: Input, new: Input, why: str) -> SpecError:
    sizes = ["x".join(map(str, size)) for size in (old, new)]
    return SpecError(
        f"{item.name}{'x'.join(map(str, item.shape))} was trained for images of {sizes[0]}, not of {sizes[1]}: {why}"
    )
