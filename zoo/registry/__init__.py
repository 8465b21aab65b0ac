"""From names to classes: what the installed plugins offer, and where each name comes from.

No torch is imported before a class is loaded. A plugin is an entry point of the group ``zoo``, the zoo's own no less
than anybody else's. `discovery` finds and questions the plugins, `entries` is one name and its class, `lookup` answers
questions about names, `published` reads registry.json. docs/plugins.md is about writing one.
"""

from __future__ import annotations

from zoo.registry.discovery import BLOCKED, Plugin
from zoo.registry.entries import USES, Entry
from zoo.registry.lookup import commands, find, names, plugins, refresh, unused

__all__ = ["BLOCKED", "USES", "Entry", "Plugin", "commands", "find", "names", "plugins", "refresh", "unused"]
