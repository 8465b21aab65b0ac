"""What takes long to make and can always be made again, kept in the user's cache folder: codes, images, features.

An entry is a table: named tensors with equally many rows, in shards of safetensors, under a key that says everything
the rows depend on. ``obtain`` gives the rows of a key, and makes those that are not there yet, once, whoever asks;
``find`` gives them if they are there.
"""

from __future__ import annotations

from zoo.cache.entries import Entry, clear, entries, evict, verify
from zoo.cache.folder import limit, root
from zoo.cache.making import Sharing, find, obtain
from zoo.cache.shards import Key, Shards

__all__ = [
    "Entry",
    "Key",
    "Shards",
    "Sharing",
    "clear",
    "entries",
    "evict",
    "find",
    "limit",
    "obtain",
    "root",
    "verify",
]
