"""Spec to stack: shapes threaded from the pixels up, every level with its terms."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from torch import nn

from zoo import files, registry
from zoo.builder.parts import Found, construct
from zoo.errors import SpecError
from zoo.interfaces import Head, Part, Place, Reconstruction, Regularizer, Shape, Stage, Term
from zoo.level import Level
from zoo.spec import Item, LevelSpec, StackSpec, parse
from zoo.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_RECONSTRUCTION = "gaussian"
LARGEST_DIMENSION = 2**26
"""Elements of one image or code; more is a slip of the keyboard, and is refused before anything is allocated."""


def assemble(spec: StackSpec, bottom: Stack | None = None) -> Stack:
    """The stack of a spec that says its input.

    Args:
        spec: with all its levels, and none that stands for others.
        bottom: its first levels, which are there already.
    """
    spec = parse(str(spec))  # so that positions in errors are those of the canonical spec
    height, width, channels = cast("tuple[int, int, int]", spec.input)
    shape: Shape = (channels, height, width)
    _check_size(shape, spec, None)
    levels = [] if bottom is None else [*bottom.lower()]
    head = None if bottom is None else bottom.head
    done = len(levels) + (head is not None)
    if bottom is not None and levels:
        shape = bottom.code_shape
    for number, level in enumerate(spec.levels[done:], done + 1):
        parts = _look_up(level, spec)
        if parts[0].kind == "head":
            head = _build_head(level, parts, shape, spec, last=number == len(spec.levels), pixels=number == 1)
        else:
            levels.append(_build_level(level, parts, shape, spec, pixels=number == 1))
            shape = levels[-1].code_shape
    _check_writable(levels, head, spec)
    brought = None if bottom is None else bottom.brought
    return Stack(files.without_files(spec), (channels, height, width), levels, head, brought=brought)


def _check_writable(levels: Sequence[Level], head: Head | None, spec: StackSpec) -> None:
    """Refuse what could be trained and saved, but not be read again, as it is too long with all its options."""
    parts = [level.written_out for level in levels]
    if head is not None and head.item is not None:
        parts.append(LevelSpec((head.item,)))
    try:
        StackSpec(tuple(part for part in parts if part is not None), spec.input)
    except SpecError as error:
        raise SpecError(f"with all options written out, as it is saved: {error.problem}", str(spec)) from error


def _look_up(level: LevelSpec, spec: StackSpec) -> list[Found]:
    found = []
    for place, item in enumerate(level.items):
        if item.brings:
            raise SpecError(
                f"{item!s:.100} stands for levels that begin at the pixels: it is the first", str(spec), item.position
            )
        kinds = ("stage", "head") if place == 0 else ("regularizer", "reconstruction")
        entry = registry.find(item.name, kinds=kinds)
        found.append(Found(item, entry.kind, cast("type[Part]", entry.load())))
    return found


def _build_level(level: LevelSpec, parts: Sequence[Found], shape: Shape, spec: StackSpec, *, pixels: bool) -> Level:
    first, terms = parts[0], [*parts[1:]]
    if not any(issubclass(part.cls, Reconstruction) and part.cls.likelihood for part in terms):
        default = registry.find(DEFAULT_RECONSTRUCTION, kinds=("reconstruction",))
        terms.insert(0, Found(Item(DEFAULT_RECONSTRUCTION), default.kind, cast("type[Part]", default.load())))
    _check_terms(terms, spec)
    wants_gaussian = any(issubclass(part.cls, Regularizer) and part.cls.posterior == "gaussian" for part in terms)
    wants_sigmoid = any(issubclass(part.cls, Reconstruction) and part.cls.output == "sigmoid" for part in terms)
    height, width, channels = cast("tuple[int, int, int]", spec.input)
    place = Place(
        input_shape=shape,
        code_shape=_tensor_shape(first.item.shape) if first.item.shape else None,
        pixels=pixels,
        posterior="gaussian" if wants_gaussian else "point",
        output="sigmoid" if wants_sigmoid and pixels else "linear",
        image_shape=(channels, height, width),
    )
    for checked in (place.code_shape or (), shape):
        _check_size(checked, spec, first.item)
    stage = cast("Stage", construct(first, place, spec))
    code = stage.code_shape
    _check_size(code, spec, first.item)
    told = replace(place, code_shape=code)
    return Level(stage, _named_terms([(part, cast("Term", construct(part, told, spec))) for part in terms]))


def _build_head(
    level: LevelSpec, parts: Sequence[Found], shape: Shape, spec: StackSpec, *, last: bool, pixels: bool
) -> Head:
    item = level.items[0]
    if not last:
        raise SpecError(f"{item.name} is a head: it ends a stack", str(spec), item.position)
    if len(parts) > 1:
        term = level.items[1]
        raise SpecError(
            f"{item.name} is a head: it brings its own loss and takes no '+{term.name}'", str(spec), term.position
        )
    return cast("Head", construct(parts[0], Place(shape, _tensor_shape(item.shape) or None, pixels), spec))


def _check_terms(terms: Sequence[Found], spec: StackSpec) -> None:
    own_draw = [part for part in terms if issubclass(part.cls, Regularizer) and part.cls.draw is not Regularizer.draw]
    if len(own_draw) > 1:
        raise SpecError(
            f"{own_draw[0].item.name} and {own_draw[1].item.name} both say how the code is drawn: keep one",
            str(spec),
            own_draw[1].item.position,
        )


def _named_terms(terms: list[tuple[Found, Term]]) -> dict[str, Term]:
    """Terms by their names, which get a number where there are several, or where torch has taken the name (`half`)."""
    named: dict[str, Term] = {}
    holder = nn.ModuleDict()
    for found, term in terms:
        name, copy = found.item.name, 2
        while name in named or hasattr(holder, name):
            name, copy = f"{found.item.name}_{copy}", copy + 1
        named[name] = term
    return named


def _tensor_shape(shape: tuple[int, ...]) -> Shape:
    """HxWxC of the spec to (C, H, W) of the tensors; other ranks stay."""
    return (shape[2], shape[0], shape[1]) if len(shape) == 3 else shape


def _check_size(shape: Shape, spec: StackSpec, item: Item | None) -> None:
    size = 1
    for side in shape:
        size *= side
    if size > LARGEST_DIMENSION:
        where = None if item is None else item.position
        raise SpecError(
            f"{'x'.join(map(str, shape))} is {size} numbers, more than {LARGEST_DIMENSION}", str(spec), where
        )
