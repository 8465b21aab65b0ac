"""Folders of stacks: config.json, safetensors and nothing else, written whole and read with suspicion.

`gate` is the one way in: every config and every weight of a saved stack passes `enter`, whether the folder is one's own
or came from elsewhere. `texts`, `forms` and `specs` look at the config, `headers` and `weights` at the tensors,
`origins` at the plugins, `brought` at where lower levels came from, and `budgets` bounds what a config can make a
plugin build. `writing` puts files in their place whole, `stacks` writes the folder of a stack. docs/security.md lists
what is refused, and how.
"""

from __future__ import annotations

from zoo.files.brought import Brought
from zoo.files.budgets import within_budget
from zoo.files.digests import digest, sha256
from zoo.files.forms import FORMAT_VERSION
from zoo.files.gate import enter, read_config, read_level, read_report, undisturbed
from zoo.files.headers import Header, read_header
from zoo.files.origins import check_plugins
from zoo.files.paths import exists, expanded
from zoo.files.saved import Saved, SavedLevel
from zoo.files.specs import check_specs, without_file, without_files
from zoo.files.stacks import check_room, is_weights, named_weights, settle, trained_on, write, write_report
from zoo.files.texts import (
    CARD,
    CONFIG,
    LARGEST_JSON,
    REPORT,
    RUN,
    cleaned,
    read_json,
    same,
    shown,
    write_json,
    write_text,
)
from zoo.files.weights import read_tensors, write_tensors
from zoo.files.writing import UNFINISHED, exchanging, explained, replacing, sweep
from zoo.release import zoo_version

__all__ = [
    "CARD",
    "CONFIG",
    "FORMAT_VERSION",
    "LARGEST_JSON",
    "REPORT",
    "RUN",
    "UNFINISHED",
    "Brought",
    "Header",
    "Saved",
    "SavedLevel",
    "check_plugins",
    "check_room",
    "check_specs",
    "cleaned",
    "digest",
    "enter",
    "exchanging",
    "exists",
    "expanded",
    "explained",
    "is_weights",
    "named_weights",
    "read_config",
    "read_header",
    "read_json",
    "read_level",
    "read_report",
    "read_tensors",
    "replacing",
    "same",
    "settle",
    "sha256",
    "shown",
    "sweep",
    "trained_on",
    "undisturbed",
    "within_budget",
    "without_file",
    "without_files",
    "write",
    "write_json",
    "write_report",
    "write_tensors",
    "write_text",
    "zoo_version",
]
