"""One part of a spec to one object: the class called with the options, after they are checked."""

from __future__ import annotations

import inspect
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
    try:
        options = arguments(item, cls, cls.positional)
        if item.shape and found.kind in ("regularizer", "reconstruction"):
            raise SpecError(f"{item.name} is a term: it has no shape of its own")
        part = cast("Part", cast("Any", cls)(place, **options))
    except SpecError as error:
        if error.position is not None:
            raise
        raise SpecError(error.problem, str(spec), item.position) from error
    defaults = {name: parameter.default for name, parameter in _keywords(cls).items()}
    try:
        part.item = _written_out(item, part, {**defaults, **options})
    except SpecError as error:
        unwritable = f"{item.name} is {cls.__name__}, with an option that no spec can write out: {error.problem}"
        raise SpecError(unwritable, str(spec), item.position) from error
    return part


def arguments(item: Item, cls: type, positional: str | None) -> dict[str, Value]:
    """The arguments of an item by the names of a class's keyword-only parameters, checked against their annotations.

    Args:
        item: as it stands in a spec.
        cls: whose parameters they are.
        positional: which of them the value without a key is; none is given without one where None.

    Raises:
        SpecError: one that there is not, or of another type.
    """
    parameters, options = _keywords(cls), dict(item.options)
    if item.value is not None:
        if positional is None:
            raise SpecError(f"{item.name} takes no value without a key; {nearest('', parameters)}")
        if positional in options:
            raise SpecError(f"{item.name} is given {positional} twice")
        options[positional] = item.value
    for name, value in options.items():
        if name not in parameters:
            raise SpecError(f"{item.name} has no option {name!r}; {nearest(name, parameters)}")
        if problem := misfit(value, parameters[name], cls):
            raise SpecError(f"{item.name}: {problem}")
    return options


def _keywords(cls: type) -> dict[str, inspect.Parameter]:
    return {
        name: parameter
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _written_out(item: Item, part: Part, options: dict[str, Any]) -> Item:
    """The item with its shape and all its options."""
    shape = item.shape or (_spec_shape(part.code_shape) if isinstance(part, Stage) else ())
    settled = {name: getattr(part, name, None) if value is None else value for name, value in options.items()}
    plain = {name: value for name, value in settled.items() if isinstance(value, int | float | str | tuple)}
    return files.without_file(Item(item.name, shape, None, tuple(plain.items())))


def is_plain(parameter: inspect.Parameter, cls: type) -> bool:
    """Whether a spec has values for an option's annotation, as far as can be told without a type checker."""
    return all(map(_is_plain, _kinds(parameter.annotation, cls)))


def misfit(value: Value, parameter: inspect.Parameter, cls: type) -> str | None:
    """What is wrong with ``width=wide`` where the signature says ``int``, or ``up=shufle`` where it lists choices."""
    kinds, name = _plain_kinds(parameter.annotation, cls), parameter.name
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    types = [kind for kind in kinds if get_origin(kind) is not Literal and kind is not NoneType]
    if not kinds or value in choices or any(_fits(value, kind) for kind in types):
        return None
    wanted = [str(choice) for choice in choices] + [_words(kind) for kind in types]
    lists = any(get_origin(kind) is tuple and _fits((value,), kind) for kind in types)
    hint = f": write {name}=[{value}]" if lists else ""
    return f"{name} wants {' or '.join(wanted)}, got {value!r}{hint}"


def _fits(value: object, kind: Any) -> bool:
    """Whether a value of a spec is what an annotation's part allows."""
    if get_origin(kind) in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if get_origin(kind) is tuple:
        *members, last = get_args(kind)
        kinds = members * len(value) if last is ... and isinstance(value, tuple) else [*members, last]
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, (int, float) if kind is float else kind)


def _words(kind: Any) -> str:
    """A part of an annotation, for people."""
    if get_origin(kind) is tuple:
        return f"a list of {_words(get_args(kind)[0])}"
    return " or ".join(map(_words, get_args(kind))) or str(kind.__name__)


def _plain_kinds(annotation: object, cls: type) -> list[Any]:
    """What an annotation allows, where it is made of int, float, bool, str, tuple and Literal; else nothing."""
    kinds = _kinds(annotation, cls)
    return kinds if all(map(_is_plain, kinds)) else []


def _kinds(annotation: object, cls: type) -> list[Any]:
    """The parts of an annotation; nothing where it has a name that only type checkers see."""
    holder = SimpleNamespace(__annotations__={"option": annotation})
    try:  # where the constructor was written, which a class may have inherited
        hint = get_type_hints(holder, inspect.unwrap(cast("Any", cls).__init__).__globals__)["option"]
    except (NameError, TypeError, AttributeError):
        return []
    return list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]


def _is_plain(kind: Any) -> bool:
    if get_origin(kind) in (tuple, Union, UnionType):
        return all(one is ... or _is_plain(one) for one in get_args(kind))
    return kind in (int, float, bool, str, tuple, NoneType) or get_origin(kind) is Literal


def _spec_shape(shape: Shape) -> tuple[int, ...]:
    """(C, H, W) of the tensors to HxWxC of the spec."""
    return (shape[1], shape[2], shape[0]) if len(shape) == 3 else shape
