"""What a spec means: a tree of levels and items that prints itself as text and as JSON.

What exists is valid. A tree is checked when it is made, whether from text, from JSON or by hand, so each one prints,
and what it prints reads back as itself.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import SpecError, nearest
from zoo.spec import words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.spec.words import Value

ELSEWHERE = ("hub", "folder")
"""Names that no plugin offers: they stand for the levels of a saved stack, on the Hub or in a folder."""

LONGEST_TEXT = 16 * 1024  # characters; far above any use, and what makes hostile text cheap to refuse
MOST_LEVELS = 64


@dataclass(frozen=True, eq=False)
class Item:
    """A stage, a head or a term: a name with its shape, tag and arguments.

    Items are equal when they print alike: ``kl(1.0)`` is ``kl(1)``, but ``conv(bias=true)`` is not ``conv(bias=1)``.

    Args:
        name: letters, with single underscores between words.
        shape: height, width and channels of the code, or its width; empty where the spec leaves it open.
        tag: names, with name and shape, a pretrained stage of registry.json; on the first item of a level.
        args: pairs of a key and a value. The first key may be None; the others are kept in alphabetical order.
        position: where the item begins in the text it was read from. Not compared.

    Raises:
        SpecError: a field that no spec could give.
    """

    name: str
    shape: tuple[int, ...] = ()
    tag: str | None = None
    args: tuple[tuple[str | None, Value], ...] = ()
    position: int | None = None

    def __post_init__(self) -> None:
        words.check_word(self.name, words.NAME, words.NAME_RULE)
        if self.tag is not None:
            words.check_word(self.tag, words.TAG, words.TAG_RULE)
        args: dict[str | None, Value] = {}
        with naming("args"):
            for pair in listed(self.args):
                if len(listed(pair)) != 2:
                    raise SpecError("each is a pair of a key, or None, and a value")
                add_argument(args, *pair)
        object.__setattr__(self, "shape", dimensions("shape", self.shape))
        object.__setattr__(self, "args", tuple(sorted(args.items(), key=lambda pair: pair[0] or "")))

    def __str__(self) -> str:
        args = ", ".join(
            f"{key}={words.write_value(value)}" if key else words.write_value(value) for key, value in self.args
        )
        tag = "" if self.tag is None else f".{self.tag}"
        return f"{self.name}{words.write_shape(self.shape)}{tag}" + (f"({args})" if args else "")

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, Item) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def value(self) -> Value | None:
        """The argument without a key, as 0.5 in ``kl(0.5)``; None where there is none."""
        return next((value for key, value in self.args if key is None), None)

    @property
    def options(self) -> dict[str, Value]:
        """The arguments with a key."""
        return {key: value for key, value in self.args if key is not None}

    @property
    def brings(self) -> bool:
        """Whether it stands for levels that were trained already, as ``hub(you/x@v1)`` or one with a tag does."""
        return self.tag is not None or self.name in ELSEWHERE

    def to_json(self) -> dict[str, Any]:
        """An object of name, shape, tag, value and options, without those that are not given."""
        options = {key: to_lists(value) for key, value in self.options.items()}
        given = {"shape": list(self.shape), "tag": self.tag, "value": to_lists(self.value), "options": options}
        return {"name": self.name} | {field: part for field, part in given.items() if part not in (None, [], {})}

    @classmethod
    def from_json(cls, tree: object) -> Item:
        """The item that ``to_json`` gave as this tree.

        Raises:
            SpecError: the tree has another form.
        """
        fields = read_fields(tree, "name", shape=[], tag=None, value=None, options={})
        if not isinstance(fields["options"], dict):
            raise SpecError("options: an object of keys and values is wanted")
        value = [] if fields["value"] is None else [(None, fields["value"])]
        return cls(fields["name"], fields["shape"], fields["tag"], (*value, *fields["options"].items()))


@dataclass(frozen=True)
class LevelSpec:
    """A stage with the terms of its objective, or a head.

    Raises:
        SpecError: no item, or a term with a tag.
    """

    items: tuple[Item, ...]

    def __post_init__(self) -> None:
        with naming("items"):
            object.__setattr__(self, "items", listed(self.items, Item))
        if not self.items:
            raise SpecError("a level has at least one item")
        for item in self.items[1:]:
            check_term(item)

    def __str__(self) -> str:
        return "+".join(map(str, self.items))

    def to_json(self) -> list[dict[str, Any]]:
        """The items, in order."""
        return [item.to_json() for item in self.items]

    @classmethod
    def from_json(cls, tree: object) -> LevelSpec:
        """The level that ``to_json`` gave as this tree."""
        items = []
        for number, item in enumerate(listed(tree)):
            with naming(f"items[{number}]"):
                items.append(Item.from_json(item))
        return cls(tuple(items))


@dataclass(frozen=True)
class StackSpec:
    """A whole spec: its levels, pixels first; and height, width and channels of the images, where it says so.

    Raises:
        SpecError: no level or too many, an input that is not three numbers, or a text that would be too long.
    """

    levels: tuple[LevelSpec, ...]
    input: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        with naming("levels"):
            object.__setattr__(self, "levels", listed(self.levels, LevelSpec))
        check_count(len(self.levels))
        if self.input is not None:
            object.__setattr__(self, "input", check_input(dimensions("input", self.input)))
        with naming("as it prints itself"):
            check_length(str(self))

    def __str__(self) -> str:
        parts = [words.write_shape(self.input)] if self.input else []
        return "/".join([*parts, *map(str, self.levels)])

    def to_json(self) -> dict[str, Any]:
        """The tree as JSON has it: ``{"input": [28, 28, 1], "levels": [[{"name": "fc", "shape": [8]}]]}``."""
        tree = {"input": list(self.input)} if self.input else {}
        return tree | {"levels": [level.to_json() for level in self.levels]}

    @classmethod
    def from_json(cls, tree: object) -> StackSpec:
        """The spec that ``to_json`` gave as this tree.

        Raises:
            SpecError: the tree has another form; the message names the field.
        """
        fields = read_fields(tree, "levels", input=None)
        with naming("levels"):
            check_count(len(listed(fields["levels"])))
        levels = []
        for number, level in enumerate(fields["levels"]):
            with naming(f"levels[{number}]"):
                levels.append(LevelSpec.from_json(level))
        return cls(tuple(levels), fields["input"])


def slug(spec: StackSpec) -> str:
    """A file name for a spec: at most 57 of ``a-z 0-9 _ -``, the last 8 a hash. It is never read back.

    >>> slug(StackSpec((LevelSpec((Item("fc", (8,)), Item("kl", args=((None, 0.5),)))),)))
    'fc8-kl-0-5-10cef663'
    """
    text = str(spec)
    readable = re.sub(r"[^a-z0-9_]+", "-", text.lower())[:48].strip("-")
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def add_argument(args: dict[str | None, Value], key: str | None, value: object) -> None:
    """Put one more argument behind those read so far."""
    if key is not None:
        words.check_word(key, words.KEY, words.KEY_RULE)
    elif args:
        raise SpecError("only the first value stands without a key: write key=value, or [a, b] for a list")
    if key in args:
        raise SpecError(f"{key!r} is given twice")
    with naming(key):
        args[key] = words.check_value(value)


def check_term(item: Item) -> None:
    """Refuse a tag on an item that is not the first of its level."""
    if item.tag is not None:
        raise SpecError(
            f"a tag names a pretrained stage, and a term such as {item.name!r} is none: leave '.{item.tag}' out"
        )


def check_input(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Refuse an input that is not three numbers."""
    if len(shape) != 3:
        raise SpecError("an input is height x width x channels of the images, as in 28x28x1")
    return shape[0], shape[1], shape[2]


def check_count(levels: int) -> None:
    """Refuse a stack without levels, or with absurdly many."""
    if not 1 <= levels <= MOST_LEVELS:
        raise SpecError(f"a stack has 1 to {MOST_LEVELS} levels")


def check_length(text: str) -> None:
    """Refuse a text that is absurdly long, before anything else looks at it."""
    if len(text) > LONGEST_TEXT:
        raise SpecError(f"a spec has at most {LONGEST_TEXT} characters, not {len(text)}")


def dimensions(field: str, sizes: object) -> tuple[int, ...]:
    """The numbers of a shape."""
    with naming(field):
        return tuple(map(words.check_dimension, listed(sizes)))


def listed(values: object, kind: type = object) -> tuple[Any, ...]:
    """A tuple or list as a tuple, whose members are all of one kind."""
    if not isinstance(values, (tuple, list)) or not all(isinstance(value, kind) for value in values):
        members = "" if kind is object else f" of {kind.__name__}"
        raise SpecError(f"a list{members} is wanted")
    return tuple(values)


def read_fields(tree: object, required: str, **optional: Any) -> dict[str, Any]:
    """The fields of a JSON object, with the defaults of those that are not given."""
    if not isinstance(tree, dict) or required not in tree:
        raise SpecError(f"an object with the field {required!r} is wanted")
    for field in tree:
        if field != required and field not in optional:
            raise SpecError(f"{field!r:.40} is no field here; {nearest(str(field), [required, *optional])}")
    return optional | tree


@contextmanager
def naming(field: str | None) -> Iterator[None]:
    """Put the name of the field in front of what is wrong with it."""
    try:
        yield
    except SpecError as error:
        raise SpecError(f"{field}: {error.problem}" if field else error.problem) from None


def to_lists(value: Value | None) -> Any:
    """A value as JSON has it."""
    return [to_lists(part) for part in value] if isinstance(value, tuple) else value
