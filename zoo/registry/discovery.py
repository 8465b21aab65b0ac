"""The installed plugins: found by their entry points, asked for their names, each isolated from the others.

pluggy's own loader stops at the first broken plugin and drops the second of two entry points of one name, so the zoo
loads them itself; pluggy then checks each one's hooks and calls them.
"""

from __future__ import annotations

import inspect
import os
import re
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from threading import RLock
from typing import TYPE_CHECKING, Any

import pluggy

from zoo import hookspecs
from zoo.errors import RegistryError, nearest
from zoo.registry.entries import USES, Entry
from zoo.spec.tree import ELSEWHERE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GROUP = "zoo"
"""The entry-point group that a plugin declares itself in."""

BLOCKED = "ZOO_DISABLE_PLUGINS"
"""The environment variable that blocks plugins: names of plugins or of distributions, with commas between them."""

UNKNOWN = "unknown"

_LOOKING = RLock()
"""Held by who looks, as one manager holds one plugin at a time; again by a plugin that asks for names on import."""

_HOOKS = {f"zoo_{kind}s": kind for kind in USES}
_FILES_HOOK = "zoo_registries"
_PART_NAME = re.compile(r"[a-z]+(_[a-z]+)*")
_PART_RULE = "lower-case letters with single underscores between words; digits are a shape in a spec"
_COMMAND_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_COMMAND_RULE = "lower-case letters and digits with single hyphens between words"
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_FILE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:([A-Za-z0-9_][\w.-]*/)*[A-Za-z0-9_][\w-]*\.json", re.ASCII)


@dataclass(frozen=True)
class Plugin:
    """An entry point of the group ``zoo``, in use or not.

    Args:
        name: of the entry point.
        distribution: the installed distribution that declares it.
        version: of the distribution.
        offers: its names; none when it is broken or blocked.
        error: why it is not in use, on one line; None when it is.
        registries: references ``"package:path/registry.json"`` to files of published stages.
    """

    name: str
    distribution: str
    version: str
    offers: tuple[Entry, ...] = ()
    error: str | None = None
    registries: tuple[str, ...] = ()


def installed() -> tuple[Plugin, ...]:
    """Every plugin there is, in alphabetical order; looked for once in a process."""
    with _LOOKING:
        return _found()


def forget() -> None:
    """Look again when next asked."""
    with _LOOKING:
        _found.cache_clear()


@cache
def _found() -> tuple[Plugin, ...]:
    blocked = {normal(name) for name in os.environ.get(BLOCKED, "").split(",")} - {""}
    found: dict[tuple[str, str], Plugin] = {}
    for point in metadata.entry_points(group=GROUP):
        plugin = Plugin(point.name, *_provenance(point))
        key = (point.name, normal(plugin.distribution))
        if key in found:  # left behind by an editable or interrupted installation: the first on the path counts
            continue
        if {normal(point.name), normal(plugin.distribution)} & blocked:
            found[key] = replace(plugin, error=f"blocked by {BLOCKED}")
        else:
            found[key] = _load(point, plugin)
    return tuple(found[key] for key in sorted(found))


def _provenance(point: metadata.EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that declares an entry point."""
    return (UNKNOWN, UNKNOWN) if point.dist is None else _told(point.dist)


@cache
def _told(distribution: metadata.Distribution) -> tuple[str, str]:
    """Name and version; a distribution that is half removed does not tell them."""
    try:
        told = distribution.metadata
        return told["Name"] or UNKNOWN, told["Version"] or UNKNOWN
    except Exception:
        return UNKNOWN, UNKNOWN


def _load(point: metadata.EntryPoint, plugin: Plugin) -> Plugin:
    try:
        if plugin.distribution == UNKNOWN:
            raise RegistryError("its distribution has no name: it is half installed, or half removed")
        offers, registries = _ask(point.load(), plugin)
        return replace(plugin, offers=offers, registries=registries)
    except RegistryError as error:
        problem = str(error)
    except (Exception, SystemExit) as error:  # whatever a stranger's module may raise
        problem = f"{type(error).__name__}: {error}"
    return replace(plugin, error=" ".join(problem.split()))


def _ask(holder: object, plugin: Plugin) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Call a plugin's hooks, with no other plugin there: one plugin's mistake is never another's."""
    manager = _manager()
    _check_hooks(manager, holder)
    try:
        manager.register(holder, plugin.name)
        manager.check_pending()
        offers: dict[str, Entry] = {}
        for kind, name, reference in _answers(manager, holder):
            place = f"zoo {name}" if kind == "command" else name  # commands have names of their own
            if place in offers:
                raise RegistryError(f"offers {name!r} twice, as a {offers[place].kind} and as a {kind}")
            offers[place] = Entry(name, kind, reference, plugin.name, plugin.distribution, plugin.version)
        registries = _registries(manager, holder)
    finally:
        if manager.is_registered(holder):
            manager.unregister(holder)
    if not offers and not registries:
        raise RegistryError(f"offers nothing by any of the hooks {', '.join((*_HOOKS, _FILES_HOOK))}")
    return tuple(sorted(offers.values(), key=lambda entry: (entry.kind, entry.name))), registries


@cache
def _manager() -> pluggy.PluginManager:
    """One that knows the hooks and holds one plugin at a time: reading what the hooks are takes most of making it."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def _check_hooks(manager: pluggy.PluginManager, holder: object) -> None:
    """Refuse what was meant to be a hook and is none: ``check_pending`` sees only what is marked."""
    for name in dir(holder):
        if name.startswith("zoo_") and inspect.isroutine(inspect.getattr_static(holder, name, None)):
            if name not in (*_HOOKS, _FILES_HOOK):
                raise RegistryError(f"there is no hook {name}; {nearest(name, (*_HOOKS, _FILES_HOOK))}")
            if manager.parse_hookimpl_opts(holder, name) is None:
                raise RegistryError(f"{name} is not a hook before it is marked with @hookimpl")


def _answers(manager: pluggy.PluginManager, holder: object) -> Iterator[tuple[str, str, str]]:
    """Kind, name and reference of everything the hooks return, each checked for its form."""
    for hook in _hooks(manager, holder):
        if hook.name in _HOOKS:
            for answer in _called(hook, dict, "a dictionary"):
                for name, reference in answer.items():
                    _check_form(hook.name, name, reference)
                    yield _HOOKS[hook.name], name, reference


def _registries(manager: pluggy.PluginManager, holder: object) -> tuple[str, ...]:
    """References to files of published stages, each checked for its form and no more: the files are read later."""
    hooks = [hook for hook in _hooks(manager, holder) if hook.name == _FILES_HOOK]
    found = [reference for hook in hooks for answer in _called(hook, list, "a list") for reference in answer]
    for reference in found:
        if not isinstance(reference, str) or not _FILE.fullmatch(reference):
            raise RegistryError(
                f"{_FILES_HOOK} returns {reference!r}, which is not of the form 'package:path/file.json'"
            )
    return tuple(dict.fromkeys(found))


def _hooks(manager: pluggy.PluginManager, holder: object) -> Iterable[pluggy.HookCaller]:
    return manager.get_hookcallers(holder) or ()


def _called(hook: pluggy.HookCaller, kind: type, words: str) -> list[Any]:
    """What a hook returns, each answer of this type."""
    answers: list[Any] = hook()
    if len(answers) < len(hook.get_hookimpls()):  # pluggy leaves None out
        raise RegistryError(f"{hook.name} returns None, not {words}")
    for answer in answers:
        if not isinstance(answer, kind):
            raise RegistryError(f"{hook.name} returns {type(answer).__name__}, not {words}")
    return answers


def _check_form(hook: str, name: object, reference: object) -> None:
    command = _HOOKS[hook] == "command"
    if not isinstance(name, str) or not (_COMMAND_NAME if command else _PART_NAME).fullmatch(name):
        rule = _COMMAND_RULE if command else _PART_RULE
        raise RegistryError(f"{hook} offers {name!r}, which is no name: a name is {rule}")
    if not command and name in ELSEWHERE:
        raise RegistryError(f"{hook} offers {name!r}, which stands for a saved stack in every spec: call it otherwise")
    if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
        raise RegistryError(f"{hook} refers {name!r} to {reference!r}, which is not of the form 'module:Class'")


def normal(name: str) -> str:
    """A name as installers compare it: ``Stack.Zoo`` is ``stack-zoo``."""
    return re.sub(r"[-_.]+", "-", name).strip().lower()
