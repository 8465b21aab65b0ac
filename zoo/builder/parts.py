"""One part of a spec to one object: the class called with the options, after they are checked."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from types import NoneType, SimpleNamespace, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from zoo import files
from zoo.errors import SpecError, nearest
from zoo.interfaces import Part, Stage
from zoo.spec import Item

if TYPE_CHECKING:
    from zoo.interfaces import Place, Shape
    from zoo.spec import StackSpec, Value


@dataclass(frozen=True)
class Found:
    """An item, the kind of its name, and the class behind it."""

    item: Item
    kind: str
    cls: type[Part]


def construct(found: Found, place: Place, spec: StackSpec) -> Part:
    """Call the class with the spec's arguments, after checking them against its signature."""
    item, cls = found.item, found.cls
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    options: dict[str, Value] = dict(item.options)
    if item.value is not None:
        if cls.positional is None:
            raise SpecError(
                f"{item.name} takes no value without a key; {nearest('', parameters)}", str(spec), item.position
            )
        if cls.positional in options:
            raise SpecError(f"{item.name} is given {cls.positional} twice", str(spec), item.position)
        options[cls.positional] = item.value
    for name, value in options.items():
        if name not in parameters:
            raise SpecError(
                f"{item.name} has no option {name!r}; {nearest(name, parameters)}", str(spec), item.position
            )
        _check_type(item, name, value, parameters[name], cls, spec)
    if item.shape and found.kind in ("regularizer", "reconstruction"):
        raise SpecError(f"{item.name} is a term: it has no shape of its own", str(spec), item.position)
    try:
        part = cast("Part", cast("Any", cls)(place, **options))
    except SpecError as error:
        if error.position is not None:
            raise
        raise SpecError(error.problem, str(spec), item.position) from error
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    part.item = _written_out(item, part, {**defaults, **options})
    return part


def _written_out(item: Item, part: Part, options: dict[str, Any]) -> Item:
    """The item with its shape and all its options."""
    shape = item.shape or (_spec_shape(part.code_shape) if isinstance(part, Stage) else ())
    settled = {name: getattr(part, name, None) if value is None else value for name, value in options.items()}
    plain = {name: value for name, value in settled.items() if isinstance(value, int | float | str | tuple)}
    return files.without_file(Item(item.name, shape, None, tuple(plain.items())))


def _check_type(item: Item, name: str, value: Value, parameter: inspect.Parameter, cls: type, spec: StackSpec) -> None:
    """Refuse ``width=wide`` where the signature says ``int``, and ``up=shufle`` where it lists its choices."""
    kinds = _plain_kinds(parameter.annotation, cls)
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    types = tuple(kind for kind in kinds if isinstance(kind, type) and kind is not NoneType)
    if not kinds or value in choices:
        return
    fits = isinstance(value, types) and (bool in types or not isinstance(value, bool))
    if not fits and not (float in types and isinstance(value, int) and not isinstance(value, bool)):
        wanted = [str(choice) for choice in choices] + [kind.__name__ for kind in types]
        raise SpecError(f"{item.name}: {name} wants {' or '.join(wanted)}, got {value!r}", str(spec), item.position)


def _plain_kinds(annotation: object, cls: type) -> list[Any]:
    """What an annotation allows, where it is made of int, float, bool, str, tuple and Literal; else nothing."""
    holder = SimpleNamespace(__annotations__={"option": annotation})
    try:
        hint = get_type_hints(holder, vars(sys.modules[cls.__module__]))["option"]
    except (NameError, TypeError):  # a name that only type checkers see
        return []
    kinds = list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]
    kinds = [tuple if get_origin(kind) is tuple else kind for kind in kinds]
    plain = all(kind in (int, float, bool, str, tuple, NoneType) or get_origin(kind) is Literal for kind in kinds)
    return kinds if plain else []


def _spec_shape(shape: Shape) -> tuple[int, ...]:
    """(C, H, W) of the tensors to HxWxC of the spec."""
    return (shape[1], shape[2], shape[0]) if len(shape) == 3 else shape
