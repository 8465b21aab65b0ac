"""The words of a spec: which names, shapes and values there are, how each is read, and how it is written.

The rules of `zoo.spec` that concern a single word. A rule broken raises SpecError without a place; the parser, which
knows the place, adds it.
"""

from __future__ import annotations

import json
import math
import re
from typing import TypeAlias

from zoo.errors import SpecError

Value: TypeAlias = "int | float | bool | str | tuple[Value, ...]"
"""An argument. Whole numbers below 10^16 are ints however they were written; all others are finite floats."""

LARGEST_DIMENSION = 10**9
LARGEST_WHOLE = 10**16  # from here on a float prints itself with an exponent, so ints end where exponents begin
DEEPEST_LIST = 8
LONGEST_ECHO = 40  # characters of a wrong word that an error repeats

NAME = re.compile(r"[A-Za-z]+(?:_[A-Za-z]+)*")
TAG = re.compile(r"[a-z0-9_]+")
KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
DIGITS = re.compile(r"[0-9]+")
BARE = re.compile(r"[A-Za-z0-9_/.:@+-]+")
GLUED = re.compile(r"[A-Za-z0-9_]")  # what may not follow a name, a shape or a tag directly
QUOTED = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SPARE_ZERO = re.compile(r"[+-]?0[0-9]")
_RESERVED = re.compile(r"true|false|[+-]?(?:nan|inf|infinity)", re.IGNORECASE)

NAME_RULE = "a name is letters, with single underscores between words; the digits that follow it are its shape"
GLUED_RULE = f"{NAME_RULE}, and a network's own name is an argument, as in resnet8x8x64(backbone=resnet50)"
TAG_RULE = "a tag is lower-case letters, digits and underscores"
KEY_RULE = "a key is a letter, then letters, digits and underscores"
SHAPE_RULE = f"a shape is whole numbers from 1 to {LARGEST_DIMENSION}, without leading zeros, with x between them"
TEXT_RULE = 'text with other characters than letters, digits and _ / . : @ + - stands in double quotes, as in "a b"'
LOOKALIKE_RULE = "text that looks like a number, such as a revision, stands in double quotes"
QUOTE_RULE = r'quoted text ends with ", and inside it \" \\ \n \t and other control characters are written as in JSON'


def check_word(word: object, form: re.Pattern[str], rule: str) -> None:
    """Refuse a name, tag or key that has not its form."""
    if type(word) is not str:  # an enumeration of texts prints as something else
        raise SpecError(f"{rule}; not {type(word).__name__}")
    if not form.fullmatch(word):
        raise SpecError(f"{rule}; not {word[:LONGEST_ECHO]!r}")


def check_dimension(size: object) -> int:
    """A number of a shape, as an int."""
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= LARGEST_DIMENSION:
        raise SpecError(SHAPE_RULE)
    return int(size)


def check_value(value: object, depth: int = 0) -> Value:
    """An argument in its one form: whole floats become ints, lists become tuples."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _check_text(value)
    if isinstance(value, (int, float)):
        return _check_number(value)
    if isinstance(value, (tuple, list)):
        check_depth(depth + 1)
        if not value:
            raise SpecError("a list holds at least one value")
        return tuple(check_value(part, depth + 1) for part in value)
    raise SpecError(f"a value is a number, true, false, text or a list of these, not {type(value).__name__}")


def check_depth(depth: int) -> None:
    """Refuse lists in lists without end."""
    if depth > DEEPEST_LIST:
        raise SpecError(f"lists stand in one another at most {DEEPEST_LIST} deep")


def read_dimension(digits: str) -> int:
    """``"64"`` as 64; ``"064"`` is a slip and refused."""
    if digits.startswith("0"):
        raise SpecError(SHAPE_RULE)
    return check_dimension(int(digits[:20]))  # twenty digits are too large already, five thousand are a ValueError


def read_bare(text: str) -> Value:
    """A value without quotes: a number or truth where it looks like one, else text."""
    if text in ("true", "false"):
        return text == "true"
    if _RESERVED.fullmatch(text):
        raise SpecError(f"{text} is no value: true and false are lower-case, numbers finite; {LOOKALIKE_RULE}")
    if not _NUMBER.fullmatch(text):
        return text
    if _SPARE_ZERO.match(text):
        raise SpecError(f"a number has no leading zeros; {LOOKALIKE_RULE}")
    return check_value(int(text[:20]) if _WHOLE.fullmatch(text) else float(text))


def read_quoted(text: str) -> str:
    """A value in double quotes: JSON's strings."""
    try:
        return _check_text(json.loads(text))
    except json.JSONDecodeError:
        raise SpecError(QUOTE_RULE) from None


def write_shape(shape: tuple[int, ...]) -> str:
    """``(8, 8, 64)`` as ``8x8x64``."""
    return "x".join(map(str, shape))


def write_value(value: Value) -> str:
    """The text that reads back as this value, plain ASCII on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _write_text(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(write_value, value))}]"
    return repr(value).replace("e+", "e")  # 1e+16 would read as a level with a term


def _write_text(text: str) -> str:
    looks_otherwise = _NUMBER.fullmatch(text) or _RESERVED.fullmatch(text)
    if BARE.fullmatch(text) and not looks_otherwise:
        return text
    return json.dumps(text)


def _check_number(number: float) -> int | float:
    if isinstance(number, int):
        if abs(number) >= LARGEST_WHOLE:
            raise SpecError(f"a whole number has at most 16 digits, a larger one an exponent; {LOOKALIKE_RULE}")
        return int(number)
    if not math.isfinite(number):
        raise SpecError(f"a number is finite; {LOOKALIKE_RULE}")
    return int(number) if number.is_integer() and abs(number) < LARGEST_WHOLE else float(number)


def _check_text(text: str) -> str:
    try:
        return text.encode().decode()
    except UnicodeEncodeError:
        raise SpecError("text is Unicode, without halves of surrogate pairs") from None
