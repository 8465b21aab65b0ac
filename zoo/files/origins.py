"""Which plugins a stack was saved with, and whether the installed ones are those."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from zoo import registry
from zoo.errors import FileError, RegistryError
from zoo.files.texts import cleaned, shown
from zoo.registry.discovery import normal

if TYPE_CHECKING:
    from zoo.files.saved import Saved
    from zoo.registry import Entry

_VERSION = re.compile(r"v?(?:\d+!)?(\d{1,9})(?:\.(\d{1,9}))?")


def check_plugins(saved: Saved) -> None:
    """Every name of the stack is offered here, by the distribution that offered it there, and that is not too old.

    Another distribution under the same name is another class: it is refused. A stack saved with a later major version
    (before 1.0 a later minor version) is refused too; one saved with an earlier version is the plugin's to keep
    loading. What is then built still has to fit the weights, name by name.

    Raises:
        RegistryError: a name that nobody offers, or another plugin's, or a plugin that is too old.
        FileError: the config does not say where a name comes from.
    """
    for name in sorted(saved.names):
        recorded = saved.plugins.get(name)
        try:
            entry = registry.find(name)
        except RegistryError as error:
            raise RegistryError(f"{saved.config_path}: {cleaned(error)}{_hint(name, recorded)}") from error
        if recorded is None:
            raise FileError(f"{saved.config_path}: plugins does not say where {shown(name)} comes from")
        _check_origin(entry, recorded, f"{saved.config_path}: plugins.{name}")


def _check_origin(entry: Entry, recorded: str, where: str) -> None:
    distribution, _, version = recorded.partition(" ")
    if normal(distribution) != normal(entry.distribution):
        raise RegistryError(
            f"{where} is {shown(recorded)}; here {entry.name!r} comes from {entry.origin}, which is another plugin. "
            f"Install {distribution}, and block the other: {registry.BLOCKED}={entry.plugin}."
        )
    if _rank(version) > _rank(entry.version):
        raise RegistryError(
            f"{where} is {shown(recorded)}, and {entry.origin} is installed: too old for this stack. "
            f"Upgrade {distribution}."
        )


def _hint(name: str, recorded: str | None) -> str:
    if recorded is None:
        return ""
    way = "keep that one" if name in registry.names() else "install it"
    return f"\nThe stack was saved with {name!r} from {recorded}: {way}."


def _rank(version: str) -> tuple[int, int]:
    """What of a version must not be later than what is installed: the major number, before 1.0 the minor one too.

    >>> _rank("1.4.2"), _rank("0.3.1"), _rank("unknown")
    ((1, 0), (0, 3), (0, 0))
    """
    found = _VERSION.match(version)
    if found is None:
        return 0, 0
    major, minor = int(found[1]), int(found[2] or 0)
    return major, 0 if major else minor
