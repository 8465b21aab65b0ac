"""Questions about names: which are there, and who offers this one."""

from __future__ import annotations

from fnmatch import fnmatchcase
from importlib import invalidate_caches
from typing import TYPE_CHECKING

from zoo.errors import RegistryError, nearest
from zoo.registry.discovery import BLOCKED, Plugin, forget, installed
from zoo.registry.entries import USES, Entry
from zoo.registry.library import catalogue, published

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_PARTS = tuple(kind for kind in USES if kind != "command")
"""The kinds that a spec names; they share one space of names, and commands have one of their own."""


def names(pattern: str = "*", *, kind: str | None = None, pretrained: bool = False) -> list[str]:
    """List what a spec can name, in alphabetical order.

    Args:
        pattern: a glob, as in ``"conv*"``.
        kind: only the names of this kind; ``"command"`` for the commands that plugins add.
        pretrained: list the published stages of registry.json, as ``name.tag``, instead.

    Raises:
        RegistryError: there is no such kind.

    >>> names("c*", kind="stage")
    ['conv']
    """
    kinds = _known(_PARTS if kind is None else (kind,))
    if pretrained:
        found = set(published()) if "stage" in kinds else set()
    else:
        found = {entry.name for entry in _offers() if entry.kind in kinds}
    return sorted(name for name in found if fnmatchcase(name, pattern))


def find(name: str, *, kinds: Collection[str] | None = None) -> Entry:
    """Look up a stage, term or head by its name; a command with ``kinds=("command",)``.

    Args:
        name: as it stands in a spec, or behind ``zoo``.
        kinds: what may stand in this place; every kind but commands where it is not said.

    Raises:
        RegistryError: nobody offers it, two plugins do, or it is of another kind.
    """
    wanted = _known(kinds or _PARTS)
    offered = [entry for entry in _offers() if entry.name == name]
    rivals = [entry for entry in offered if (entry.kind in _PARTS) == any(kind in _PARTS for kind in wanted)]
    if len(rivals) > 1:
        raise RegistryError(_clash(rivals))
    if rivals and rivals[0].kind in wanted:
        return rivals[0]
    asked = " or ".join(wanted)
    if other := next(iter(rivals or offered), None):
        raise RegistryError(f"{name!r} is no {asked} but a {other.kind}: {USES[other.kind].format(name=name)}")
    known = {entry.name for entry in _offers() if entry.kind in wanted}
    problem = f"no plugin offers a {asked} named {name!r}; {nearest(name, known)}"
    raise RegistryError("\n".join(filter(None, [problem, unused()])))


def plugins() -> list[Plugin]:
    """List the installed plugins in alphabetical order, also those that are broken or blocked."""
    return list(installed())


def commands() -> dict[str, Entry]:
    """The commands that plugins add, to be listed; to run one, ``find`` it: that refuses a name offered twice."""
    return {entry.name: entry for entry in _offers() if entry.kind == "command"}


def unused() -> str:
    """A line that names the plugins which are installed and not in use, broken or blocked; empty where all are."""
    found = [plugin.name for plugin in installed() if plugin.error]
    return f"Not in use: {', '.join(found)}; `zoo plugins` says why." if found else ""


def refresh() -> None:
    """Forget what is installed, and look again when next asked: after an installation, and in tests.

    Modules that were imported stay imported.
    """
    invalidate_caches()
    forget()
    catalogue.cache_clear()


def _offers() -> list[Entry]:
    return [entry for plugin in installed() for entry in plugin.offers]


def _known(kinds: Iterable[str]) -> tuple[str, ...]:
    for kind in kinds:
        if kind not in USES:
            raise RegistryError(f"there is no kind {kind!r}; {nearest(kind, USES)}")
    return tuple(kinds)


def _clash(rivals: list[Entry]) -> str:
    places = " and ".join(f"as a {entry.kind} by plugin {entry.plugin} of {entry.origin}" for entry in rivals)
    distinct = len({entry.plugin for entry in rivals}) == len(rivals)
    ways = " or ".join(f"{BLOCKED}={entry.plugin if distinct else entry.distribution}" for entry in rivals)
    return f"{rivals[0].name!r} is offered {len(rivals)} times, {places}: uninstall one of them, or set {ways}"
