"""Levels that were trained already, taken into a spec: from the Hub, from registry.json, from a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo import files
from zoo.builder.loading import open_for
from zoo.builder.sources import HUB, locate
from zoo.errors import SpecError, nearest
from zoo.spec import Item, StackSpec, parse
from zoo.stack import Stack

if TYPE_CHECKING:
    from zoo.spec import LevelSpec

OPTIONS = {"hub": ("levels", "revision"), "folder": ("levels",)}
TAG_OPTIONS = ("levels",)


def bring(spec: StackSpec) -> tuple[StackSpec, Stack]:
    """Write out the levels that the first level of a spec stands for.

    Returns:
        The spec with these levels in that one's place and with their input, and the stack of these levels.

    Raises:
        SpecError: it cannot be understood, or does not fit.
        HubError, RegistryError, FileError: the levels cannot be had.
    """
    spec = parse(str(spec))  # so that positions in errors are those of the canonical spec
    first, *above = spec.levels
    item = first.items[0]
    try:
        wanted = _levels(first)
        source = locate(_place(item))
        stack, digests = open_for(source, spec.input, wanted)
        bottom = _cut(stack, wanted, item, above=bool(above))
    except SpecError as error:
        raise error if error.position is not None else SpecError(error.problem, str(spec), item.position) from None
    parts = len(bottom.levels) + (bottom.head is not None)
    bottom.brought = files.Brought(parts, source.name, source.revision, tuple(digests[:parts]))
    return StackSpec((*bottom.spec.levels, *above), bottom.spec.input), bottom


def _levels(level: LevelSpec) -> int | None:
    """How many levels are asked for, None for all; what else the item says is checked on the way."""
    item, *terms = level.items
    if terms:
        raise SpecError(f"{item!s:.100} brings its own terms: leave '+{terms[0]!s:.100}' out")
    known = TAG_OPTIONS if item.tag is not None else OPTIONS[item.name]
    for option in item.options:
        if option not in known:
            raise SpecError(f"{item.name} has no option {option!r} here; {nearest(option, known)}")
    levels = item.options.get("levels")
    if levels is not None and (type(levels) is not int or levels < 1):
        raise SpecError(f"levels={levels}: the number of levels to take, from the pixels up; without it all are taken")
    return levels


def _place(item: Item) -> str:
    """What ``locate`` takes."""
    if item.tag is not None:
        if item.value is not None:
            raise SpecError("a tag names a pretrained stage, which takes no value")
        return str(Item(item.name, item.shape, item.tag))
    example = "hub(user/name@revision)" if item.name == "hub" else "folder(runs/mine)"
    if item.shape or not isinstance(item.value, str):
        raise SpecError(f"{item.name} takes one place, as in {example}, and no shape")
    if item.name == "folder":
        return item.value
    revision = item.options.get("revision")
    if revision is not None and not isinstance(revision, str):
        raise SpecError(f'a revision that looks like a number stands in double quotes, as in revision="{revision}"')
    return HUB + item.value + ("" if revision is None else f"@{revision}")


def _cut(stack: Stack, wanted: int | None, item: Item, *, above: bool) -> Stack:
    """The first of a stack's levels; with its head where all are wanted and nothing stands above."""
    there = len(stack.levels)
    if wanted is not None and wanted > there:
        raise SpecError(f"{item!s:.100} has {there} level{'s' if there > 1 else ''}, not {wanted}")
    if wanted is None and stack.head is not None and above:
        raise SpecError(f"{item!s:.100} ends in a head, so nothing stands above it: take its levels={there} alone")
    if wanted is None:
        return stack
    spec = StackSpec(stack.spec.levels[:wanted], stack.spec.input)
    return Stack(spec, stack.input_shape, [*stack.lower(wanted)])
