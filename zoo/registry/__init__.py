"""From names to classes: what the installed plugins offer, and where each name comes from.

No torch is imported before a class is loaded. A plugin is an entry point of the group ``zoo``, the zoo's own no less
than anybody else's. `discovery` finds and questions the plugins, `entries` is one name and its class, `lookup` answers
questions about names. docs/plugins.md is about writing one.

Published stages are in files, registry.json and those that plugins bring: `stages` is what a file says of one, `forms`
checks it field by field (`fields`), and `library` is all of them. docs/pretrained.md is about using them.
"""

from __future__ import annotations

from zoo.registry.discovery import BLOCKED, Plugin
from zoo.registry.entries import USES, Entry
from zoo.registry.forms import checked, read, written
from zoo.registry.library import catalogue, pretrained, published, search
from zoo.registry.lookup import commands, find, names, plugins, refresh, unused
from zoo.registry.stages import BUILTIN, METRICS, PRETRAINED, Data, File, Measured, Published

__all__ = [
    "BLOCKED",
    "BUILTIN",
    "METRICS",
    "PRETRAINED",
    "USES",
    "Data",
    "Entry",
    "File",
    "Measured",
    "Plugin",
    "Published",
    "catalogue",
    "checked",
    "commands",
    "find",
    "names",
    "plugins",
    "pretrained",
    "published",
    "read",
    "refresh",
    "search",
    "unused",
    "written",
]
