"""The form of config.json: which fields there are, and what each holds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from zoo.errors import FileError
from zoo.files.texts import named, shown
from zoo.spec.tree import MOST_LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FORMAT_VERSION = 1
CODE_KEYS = ("_target_", "auto_map", "trust_remote_code")
"""Keys by which other libraries name code to run. Nothing here would follow them; who wrote one expects that."""

LARGEST_FILE = 2**50
LONGEST_PATH = 200

_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}\.safetensors")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ORIGIN = re.compile(r"[A-Za-z0-9._-]{1,100} [\x21-\x7e]{1,100}")


def check_form(config: Mapping[str, Any], path: Path) -> None:
    """Refuse a config with a field that ``write`` would not have written. Fields it does not know are not looked at.

    Raises:
        FileError: names the file and the field.
    """
    _check_version(config.get("format_version"), path)
    for field, key in _keys(config):
        if key in CODE_KEYS:
            raise FileError(
                f"{path}: {field}{key} asks for code to be run. A config of the zoo names plugins and never code: "
                "take it from whoever saved the stack with stack.save()."
            )
    if not isinstance(config.get("spec"), str):
        raise FileError(f"{path}: spec is {shown(config.get('spec'))}, not a text")
    _check_plugins(config.get("plugins"), path)
    _check_input(config.get("input"), path)
    levels = config.get("levels")
    if not isinstance(levels, list) or not 1 <= len(levels) <= MOST_LEVELS:
        count = f"holds {len(levels)}" if isinstance(levels, list) else f"is {shown(levels)}"
        raise FileError(f"{path}: levels {count}; a list of 1 to {MOST_LEVELS} is wanted")
    for number, level in enumerate(levels):
        _check_level(level, f"{path}: levels[{number}]")
    _check_names([level["file"] for level in levels], path)


def _check_version(found: object, path: Path) -> None:
    if type(found) is int and found == FORMAT_VERSION:
        return
    if found is None:
        raise FileError(f"{path}: no format_version: it is the config of something else, not of a saved stack")
    newer = type(found) is int and found > FORMAT_VERSION
    advice = "upgrade stackzoo" if newer else "save the stack again"
    raise FileError(f"{path}: format_version is {shown(found)}, this zoo reads {FORMAT_VERSION}: {advice}")


def _keys(tree: object) -> Iterator[tuple[str, str]]:
    """Every key of the tree, with the path to it."""
    waiting: list[tuple[str, object]] = [("", tree)]
    while waiting:
        field, value = waiting.pop()
        if isinstance(value, dict):
            for key, part in value.items():
                yield field, key
                waiting.append((f"{field[-LONGEST_PATH:]}{named(key)}.", part))
        elif isinstance(value, list):
            waiting += [(f"{field[-LONGEST_PATH:-1]}[{number}].", part) for number, part in enumerate(value)]


def _check_plugins(plugins: object, path: Path) -> None:
    if not isinstance(plugins, dict):
        raise FileError(f"{path}: plugins is {shown(plugins)}, not an object of names")
    for name, origin in plugins.items():
        if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin):
            raise FileError(
                f"{path}: plugins.{named(name)} is {shown(origin)}, not a distribution and its version, "
                "as in 'stackzoo 0.1.0'"
            )


def _check_input(told: object, path: Path) -> None:
    shape = told.get("shape") if isinstance(told, dict) else None
    if not isinstance(shape, list) or len(shape) != 3 or not all(type(side) is int for side in shape):
        raise FileError(f"{path}: input.shape is {shown(shape)}, not channels, height and width")


def _check_level(level: object, where: str) -> None:
    if not isinstance(level, dict):
        raise FileError(f"{where} is {shown(level)}, not an object")
    if not isinstance(level.get("spec"), str):
        raise FileError(f"{where}.spec is {shown(level.get('spec'))}, not a text")
    for key in ("input_shape", "code_shape"):
        shape = level.get(key, [] if key == "code_shape" else None)  # a head has no code
        if not isinstance(shape, list) or len(shape) > 8 or not all(type(side) is int for side in shape):
            raise FileError(f"{where}.{key} is {shown(shape)}, not a shape")
    file, size, digest = level.get("file"), level.get("bytes"), level.get("sha256")
    if not isinstance(file, str) or not file.endswith(".safetensors"):
        raise FileError(
            f"{where}.file is {shown(file)}, not the name of a .safetensors file; the zoo reads no other weights, and "
            "never a pickle (.bin, .pt): convert them"
        )
    if not _FILE.fullmatch(file):
        raise FileError(
            f"{where}.file is {shown(file)}, not a plain name in this folder: letters, digits and _ . - before "
            ".safetensors"
        )
    if type(size) is not int or not 0 <= size <= LARGEST_FILE:
        raise FileError(f"{where}.bytes is {shown(size)}, not the size of a file")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        missing = "is missing" if digest is None else f"is {shown(digest)}"
        raise FileError(f"{where}.sha256 {missing}; 64 hex digits in lower case are wanted")


def _check_names(names: list[str], path: Path) -> None:
    """Every level has a file of its own, on a disk too that does not tell upper case from lower."""
    first: dict[str, int] = {}
    for number, name in enumerate(names):
        other = first.setdefault(name.lower(), number)
        if other != number:
            how = "the same" if names[other] == name else "the same but for upper and lower case"
            raise FileError(f"{path}: levels[{number}].file and levels[{other}].file are {how}, {name!r}")
