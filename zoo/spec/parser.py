"""Reads a spec: recursive descent, a method for each rule of the grammar."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from zoo.errors import SpecError
from zoo.spec import words
from zoo.spec.tree import (
    LONGEST_TEXT,
    Item,
    LevelSpec,
    StackSpec,
    add_argument,
    check_count,
    check_input,
    check_length,
    check_term,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.spec.words import Value

_SPACE = re.compile(r"[ \t\r\n]*")
_ASSIGNED = re.compile(rf"({words.KEY.pattern})[ \t\r\n]*=[ \t\r\n]*")


def parse(text: str) -> StackSpec:
    """Read a spec. Spaces may stand around ``/ + , = ( ) [ ]``.

    Raises:
        SpecError: what is wrong, with a caret under the place, and the way out.

    >>> parse("fc8 + kl(1.0)") == parse("fc8+kl(1)")
    True
    >>> parse("28x28x1/conv7x7x/fc8")
    Traceback (most recent call last):
    ...
    zoo.errors.SpecError: a number is missing after 'x'
      28x28x1/conv7x7x/fc8
                      ^
    """
    return _Parser(text).stack()


class _Parser:
    """Each method reads its rule from ``at`` on and leaves ``at`` behind it."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def stack(self) -> StackSpec:
        with self.pointing_at(LONGEST_TEXT):
            check_length(self.text)
        self.match(_SPACE)
        image = self.input()
        levels = [self.level()]
        while self.take("/"):
            with self.pointing_at(self.at):
                check_count(len(levels) + 1)
            levels.append(self.level())
        if self.at < len(self.text):
            raise self.error(f"{self.text[self.at]!r} has no place here: next come '+' and a term, or '/' and a level")
        with self.pointing_at(0):
            return StackSpec(tuple(levels), image)

    def input(self) -> tuple[int, int, int] | None:
        start = self.at
        if not words.DIGITS.match(self.text, start):
            return None
        shape = self.shape()
        with self.pointing_at(start):
            image = check_input(shape)
        if not self.take("/"):
            raise self.error("after the input come '/' and a level, as in 28x28x1/conv7x7x10")
        return image

    def level(self) -> LevelSpec:
        items = [self.item("a stage or a head")]
        while self.take("+"):
            start = self.at
            items.append(self.item("a term"))
            with self.pointing_at(start):
                check_term(items[-1])
        return LevelSpec(tuple(items))

    def item(self, role: str) -> Item:
        start = self.at
        name = self.match(words.NAME)
        if name is None:
            raise self.error(self.missing(role))
        shape = self.shape() if words.DIGITS.match(self.text, self.at) else ()
        if words.GLUED.match(self.text, self.at):
            raise self.error(words.GLUED_RULE)
        tag = self.tag() if self.text.startswith(".", self.at) else None
        self.match(_SPACE)
        opening = self.at
        args = self.arguments(opening) if self.take("(") else ()
        return Item(name, shape, tag, args, start)

    def shape(self) -> tuple[int, ...]:
        sizes = [self.dimension()]
        while self.text.startswith("x", self.at):
            self.at += 1
            sizes.append(self.dimension())
        return tuple(sizes)

    def dimension(self) -> int:
        start, digits = self.at, self.match(words.DIGITS)
        if digits is None:
            raise self.error("a number is missing after 'x'")
        with self.pointing_at(start):
            return words.read_dimension(digits)

    def tag(self) -> str:
        self.at += 1
        tag = self.match(words.TAG)
        if tag is None or words.GLUED.match(self.text, self.at):
            raise self.error(words.TAG_RULE)
        return tag

    def arguments(self, opening: int) -> tuple[tuple[str | None, Value], ...]:
        args: dict[str | None, Value] = {}
        while True:
            start, assigned = self.at, _ASSIGNED.match(self.text, self.at)
            self.at = assigned.end() if assigned else start
            value = self.value()
            with self.pointing_at(start):
                add_argument(args, assigned[1] if assigned else None, value)
            if self.closes(")", opening):
                return tuple(args.items())

    def value(self, depth: int = 0) -> Value:
        start = self.at
        with self.pointing_at(start):
            if self.take("["):
                words.check_depth(depth + 1)
                return self.values(start, depth + 1)
            if self.text.startswith('"', start):
                return words.read_quoted(self.match(words.QUOTED) or "")
            bare = self.match(words.BARE)
            if bare is not None:
                return words.read_bare(bare)
        if self.text[start : start + 1] in {"", ",", ")", "]"}:
            raise self.error("a value is missing; without any, leave the brackets out")
        raise self.error(words.TEXT_RULE)

    def values(self, opening: int, depth: int) -> tuple[Value, ...]:
        values = [self.value(depth)]
        while not self.closes("]", opening):
            values.append(self.value(depth))
        return tuple(values)

    def closes(self, bracket: str, opening: int) -> bool:
        """Read what follows a value: the closing bracket, or the comma before the next."""
        if self.take(bracket):
            return True
        if self.take(","):
            return False
        if self.at == len(self.text):
            raise self.error(f"this bracket is never closed: {bracket!r} is missing", opening)
        if self.text.startswith("=", self.at):
            raise self.error(words.KEY_RULE)
        raise self.error(f"after a value comes ',' or {bracket!r}; {words.TEXT_RULE}")

    def take(self, symbol: str) -> bool:
        """Read a symbol with the spaces around it, if it is next."""
        self.match(_SPACE)
        if not self.text.startswith(symbol, self.at):
            return False
        self.at += len(symbol)
        self.match(_SPACE)
        return True

    def match(self, form: re.Pattern[str]) -> str | None:
        """Read a word of this form, if it is next."""
        found = form.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def missing(self, role: str) -> str:
        """Why no item begins here."""
        if not self.text.strip():
            return "the spec is empty: it names at least a stage, as in conv8x8x64"
        if self.text[self.at : self.at + 1] in {"", "/", "+"}:
            return f"{role} is missing here"
        if words.DIGITS.match(self.text, self.at):
            return f"{role} begins with its name; an input such as 28x28x1 stands once, in front"
        return f"{role} begins with its name, and {self.text[self.at]!r} is no letter from a to z"

    def error(self, problem: str, position: int | None = None) -> SpecError:
        return SpecError(problem, self.text, self.at if position is None else position)

    @contextmanager
    def pointing_at(self, position: int) -> Iterator[None]:
        """Give the place to an error that has none."""
        try:
            yield
        except SpecError as error:
            raise error if error.position is not None else self.error(error.problem, position) from None
