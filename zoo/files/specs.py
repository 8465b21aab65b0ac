"""The specs of a config: the one that was given, and each level's with every option written out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from zoo import registry
from zoo.errors import FileError, SpecError
from zoo.files.texts import cleaned, same, shown
from zoo.spec import Item, LevelSpec, StackSpec, parse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zoo.files.saved import Saved
    from zoo.interfaces import Part

FILE_OPTIONS = ("weights",)
"""Options of a spec that name a file: read once, at ``build``, and not saved."""

MOST_ITEMS = 64


def read_specs(config: Mapping[str, Any], path: Path) -> tuple[StackSpec, list[LevelSpec]]:
    """The spec of a config, and that of each level with every option written out.

    Raises:
        FileError: one that cannot be understood, or that names a file.
    """
    spec = _parsed(config["spec"], f"{path}: spec")
    if spec.input is None:
        raise FileError(f"{path}: spec does not begin with its input, as in 28x28x1/conv7x7x10")
    levels = []
    for number, level in enumerate(config["levels"]):
        where = f"{path}: levels[{number}].spec"
        parsed = _parsed(level["spec"], where)
        if parsed.input is not None or len(parsed.levels) != 1:
            raise FileError(f"{where} is {shown(level['spec'])}, not the spec of one level")
        levels.append(parsed.levels[0])
    return spec, levels


def _parsed(text: str, where: str) -> StackSpec:
    try:
        spec = parse(text)
    except SpecError as error:
        raise FileError(f"{where}: {cleaned(error)}") from error
    for level in spec.levels:
        if len(level.items) > MOST_ITEMS:
            raise FileError(f"{where}: a level of {len(level.items)} terms, more than {MOST_ITEMS}")
        for item in level.items:
            if item.brings:
                raise FileError(
                    f"{where}: {item!s:.100} stands for the levels of another stack. A saved stack has them written "
                    "out: save it again."
                )
            for option, value in item.options.items():
                if _names_file(option, value):
                    raise FileError(
                        f"{where}: {item.name}({option}={shown(value)}) names a file of this machine. A saved stack "
                        "brings its weights itself: leave the option out."
                    )
    return spec


def without_files(spec: StackSpec) -> StackSpec:
    """The spec without the options that name a file of this machine: all it says of the stack that was built."""
    levels = tuple(LevelSpec(tuple(map(without_file, level.items))) for level in spec.levels)
    return StackSpec(levels, spec.input)


def without_file(item: Item) -> Item:
    """The item without the options that name a file of this machine."""
    args = tuple((key, value) for key, value in item.args if not _names_file(key, value))
    return item if len(args) == len(item.args) else Item(item.name, item.shape, item.tag, args, item.position)


def _names_file(key: str | None, value: object) -> bool:
    return key in FILE_OPTIONS and isinstance(value, str)


def check_specs(saved: Saved) -> None:
    """The levels of a config are those of its spec, and every option that this gives is the one written out there.

    What the spec leaves out was a default when the stack was saved, and may be another one now.

    Raises:
        FileError: they say different things.
    """
    full, short = [level.spec for level in saved.levels], saved.spec.levels
    for number, (level, meant) in enumerate(zip(full, short, strict=False)):
        if not _says(level, meant):
            raise FileError(
                f"{saved.config_path}: levels[{number}].spec is {level!s:.300}, and 'spec' has {meant!s:.300} there"
            )
    if len(full) != len(short):
        raise FileError(f"{saved.config_path}: 'spec' has {len(short)} levels, and 'levels' are {len(full)}")


def _says(full: LevelSpec, short: LevelSpec) -> bool:
    """Whether a level with everything written out is the one that the spec means; a likelihood may be a default."""
    first, *terms = full.items
    for item in short.items[1:]:
        match = next((term for term in terms if _means(term, item)), None)
        if match is None:
            return False
        terms.remove(match)
    defaults = [registry.find(term.name).kind == "reconstruction" for term in terms]
    return _means(first, short.items[0]) and len(defaults) <= 1 and all(defaults)


def _means(full: Item, short: Item) -> bool:
    """Whether an item with everything written out is this one: the same name, and nothing given that is otherwise."""
    if full.name != short.name or short.shape not in ((), full.shape):
        return False
    given = dict(short.options)
    positional = cast("type[Part]", registry.find(short.name).load()).positional
    if short.value is not None:
        if positional is None:
            return False
        given[positional] = short.value
    return all(key in full.options and same(full.options[key], value) for key, value in given.items())
