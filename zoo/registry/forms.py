"""The form of a registry file: read with every field checked, written for people.

registry.schema.json, beside this, says the same for other programs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from zoo.errors import RegistryError, SpecError
from zoo.registry import fields
from zoo.registry.stages import METRICS, Data, File, Measured, Published
from zoo.spec import StackSpec, parse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zoo.registry.fields import Field

FORMAT = 1
CONFIG = "config.json"  # what makes a folder a saved stack; as in zoo.files, which imports torch
FIELDS = ("spec", "code_shape", "source", "revision", "files", "data", "licence", "metrics", "plugins", "recipe")

PART = r"[A-Za-z]+(_[A-Za-z]+)*"
NAME = rf"{PART}([0-9]+(x[0-9]+)*)?\.[a-z0-9_]+"
REPO_PART = r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?"
SOURCE = rf"builtin:|hf-hub:{REPO_PART}/{REPO_PART}"
COMMIT = r"[0-9a-f]{40}"
SHA256 = r"[0-9a-f]{64}"
FILE = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}\.(json|md|png|safetensors)"
LICENCE = r"[A-Za-z0-9][A-Za-z0-9.+-]*"
DISTRIBUTION = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
ADDRESS = r"https://[!-~]+"
LINE = r"[^\x00-\x1f\x7f]+"

WIDEST = 180  # characters of a line: a file with its hash is one


def read(path: Path) -> dict[str, Published]:
    """The entries of a registry file, by their names.

    Raises:
        RegistryError: it cannot be read, or a field of it is not what it should be; the message names both.
    """
    whole = fields.read(path)
    form = whole.value.get("format") if isinstance(whole.value, dict) else None
    if type(form) is not int or form != FORMAT:
        raise RegistryError(
            f'{path} is not of the form {{"format": {FORMAT}, "stages": {{...}}}}, which this zoo reads'
        )
    stages = whole.fields(("format", "stages"))["stages"].members("an object of names and stages")
    return {name: _entry(name, told, path) for name, told in stages.items()}


def checked(entry: Published) -> Published:
    """The entry as it would be read.

    Raises:
        RegistryError: a field of it is not what it should be.
    """
    return _entry(entry.name, fields.Field(entry.to_json(), f"{entry.registry}: stages.{entry.name}"), entry.registry)


def written(stages: Mapping[str, Published]) -> str:
    """The text of a registry file with these entries, in alphabetical order."""
    tree = {"format": FORMAT, "stages": {name: entry.to_json() for name, entry in sorted(stages.items())}}
    return _text(tree, "", whole=False) + "\n"


def _text(value: Any, indent: str, *, whole: bool = True) -> str:
    """JSON in which an object or a list takes one line where it fits and ``whole`` allows it."""
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, dict | list) or not value or (whole and len(indent) + len(line) <= WIDEST):
        return line
    deeper = f"{indent}  "
    if isinstance(value, dict):
        rows = [f"{json.dumps(key)}: {_text(part, deeper)}" for key, part in value.items()]
    else:
        rows = [_text(part, deeper) for part in value]
    first, last = "{}" if isinstance(value, dict) else "[]"
    return f"{first}\n{deeper}" + f",\n{deeper}".join(rows) + f"\n{indent}{last}"


def _entry(name: str, told: Field, registry: Path) -> Published:
    fields.Field(name, f"{registry}: a name").text(NAME, "a stage with its shape and a tag, as in fc8.faces,")
    found = told.fields(FIELDS)
    spec = _spec(found["spec"])
    _check_name(name, spec, found["spec"])
    return Published(
        name=name,
        spec=str(spec),
        code_shape=tuple(side.whole() for side in found["code_shape"].parts("a list of numbers")),
        source=found["source"].text(SOURCE, "builtin:, or hf-hub:user/name,"),
        revision=found["revision"].text(COMMIT, "a commit of 40 hex digits"),
        files=_files(found["files"]),
        data=_data(found["data"]),
        licence=found["licence"].text(LICENCE, "the licence of the weights, an SPDX identifier,"),
        metrics=tuple(_measured(part) for part in found["metrics"].parts("a list of what was measured")),
        plugins=_plugins(found["plugins"], spec),
        recipe=found["recipe"].text(LINE, "the command that trained it, on one line,"),
        registry=registry,
    )


def _spec(told: Field) -> StackSpec:
    try:
        spec = parse(told.text(LINE, "a spec"))
    except SpecError as error:
        raise RegistryError(f"{told.where}: {error}") from error
    if spec.input is None:
        told.fail("a spec that begins with its input, as in 28x28x1/conv7x7x10,")
    if str(spec) != told.value or any(level.items[0].tag for level in spec.levels):
        told.fail(f"the spec as it prints itself and without tags, {str(spec)!a},")
    return spec


def _check_name(name: str, spec: StackSpec, told: Field) -> None:
    """A name says the stage and the shape that the spec ends in."""
    top = str(spec.levels[-1].items[0]).partition("(")[0]
    if name.partition(".")[0] != top:
        told.fail(f"a spec whose last level is {name.partition('.')[0]}, as the name says,")


def _files(told: Field) -> tuple[File, ...]:
    files = tuple(_file(part) for part in told.parts("a list of files"))
    names = [file.name for file in files]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RegistryError(f"{told.where} names {twice[0]} twice")
    if CONFIG not in names or not any(name.endswith(".safetensors") for name in names):
        raise RegistryError(f"{told.where} names no {CONFIG}, or no weights beside it: without them it is no stack")
    return files


def _file(told: Field) -> File:
    found = told.fields(("name", "bytes", "sha256"))
    return File(
        name=found["name"].text(FILE, "the name of a file, without its folder,"),
        bytes=found["bytes"].whole(),
        sha256=found["sha256"].text(SHA256, "64 hex digits"),
    )


def _data(told: Field) -> Data:
    found = told.fields(("name", "licence"), ("url", "attribution"))
    return Data(
        name=found["name"].text(LINE, "what zoo train --data takes"),
        licence=found["licence"].text(LICENCE, "the licence of the images, an SPDX identifier,"),
        url=found["url"].text(ADDRESS, "an https:// address") if "url" in found else None,
        attribution=found["attribution"].text(LINE, "whom to name, on one line,") if "attribution" in found else None,
    )


def _measured(told: Field) -> Measured:
    found = told.fields(("values", "protocol"))
    values = found["values"].fields((), METRICS)
    if not values:
        found["values"].fail(f"one of {', '.join(METRICS)}")
    protocol = found["protocol"].fields(("version", "data", "split", "count", "fingerprint"))
    return Measured(
        values={name: value.number() for name, value in values.items()},
        version=protocol["version"].whole(),
        data=protocol["data"].text(LINE, "the name of the images"),
        split=protocol["split"].text("train|test|val|all", "train, test, val or all"),
        count=protocol["count"].whole(),
        fingerprint=protocol["fingerprint"].text(SHA256, "the sha256 of the pixels"),
    )


def _plugins(told: Field, spec: StackSpec) -> dict[str, str]:
    found = {
        name: origin.text(DISTRIBUTION, "the name of a distribution")
        for name, origin in told.members("an object of names and distributions").items()
    }
    for name in found:
        fields.Field(name, f"{told.where}: a name").text(PART, "the name of a stage or term")
    needed = {item.name for level in spec.levels for item in level.items}
    if missing := sorted(needed - found.keys()):
        raise RegistryError(f"{told.where} does not say which distribution {missing[0]!r} comes from")
    return found
