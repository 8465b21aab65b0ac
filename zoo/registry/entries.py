"""A name that a plugin offers, and the class behind it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from zoo.errors import RegistryError

USES = {
    "stage": "it begins a level, before any '+'",
    "regularizer": "it follows a stage, as in fc16+{name}",
    "reconstruction": "it follows a stage, as in fc16+{name}",
    "head": "it ends a stack, as in fc16/{name}",
    "command": "it is run as `zoo {name}`",
}
"""The kinds of plugin, and how a name of each is used."""


@dataclass(frozen=True)
class Entry:
    """A name that a plugin offers.

    Args:
        name: as it stands in a spec, or behind ``zoo`` for a command.
        kind: stage, regularizer, reconstruction, head or command.
        reference: ``"module:Class"``.
        plugin: the entry point that offers it.
        distribution: the installed distribution that brings the plugin.
        version: of the distribution.
    """

    name: str
    kind: str
    reference: str
    plugin: str
    distribution: str
    version: str

    @property
    def origin(self) -> str:
        """The distribution with its version, as in ``stackzoo 0.1.0``."""
        return f"{self.distribution} {self.version}"

    def load(self) -> Any:
        """Import the class, or the ``click.Command`` of a command.

        Raises:
            RegistryError: it cannot be imported, or is no concrete class of its kind.
        """
        module, _, attribute = self.reference.partition(":")
        described = f"the {self.kind} {self.name!r} of plugin {self.plugin} ({self.origin})"
        try:
            part = getattr(import_module(module), attribute, None)
        except (Exception, SystemExit) as error:  # whatever a stranger's module may raise
            raise RegistryError(f"{described} cannot be loaded: {_import_problem(module, error)}") from error
        if problem := _problem(part, self.kind):
            raise RegistryError(f"{described} cannot be used: {self.reference} {problem}")
        return part


def _import_problem(module: str, error: BaseException) -> str:
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return f"importing {module} raises {type(error).__name__}: {error}"
    if f"{module}.".startswith(f"{error.name}."):
        return f"there is no module {error.name}"
    return f"{module} needs {error.name}, which is not installed"


def _problem(part: object, kind: str) -> str | None:
    """What a part lacks to be one of its kind. The interfaces are imported only here, because they import torch."""
    if part is None:
        return "does not exist"
    if kind == "command":
        import click

        return None if isinstance(part, click.Command) else "is not a click.Command"
    from zoo import interfaces

    interface = getattr(interfaces, kind.capitalize())
    if not isinstance(part, type) or not issubclass(part, interface):
        return f"is not a class derived from zoo.{interface.__name__}"
    missing = sorted(getattr(part, "__abstractmethods__", ()))
    return f"is abstract: it lacks {', '.join(missing)}" if missing else None
