"""Rows of tensors on disk, read through memory maps."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch

from zoo import files
from zoo.cache.folder import root

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import Tensor

KINDS = ("codes", "features", "images")


@dataclass(frozen=True)
class Key:
    """What an entry's rows depend on, all of it: two keys are the same when their parts are.

    Args:
        kind: one of ``KINDS``.
        title: for people: what this is of what.
        parts: JSON-ready.
        identity: the parts that make two entries states of one thing: where only others differ, something has changed.
    """

    kind: str
    title: str
    parts: Mapping[str, Any]
    identity: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The name of the entry, 32 hex digits."""
        text = json.dumps({"kind": self.kind, **self.parts}, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def of(self, part: str) -> Key:
        """The key of a part of this, or of something made beside it."""
        parts, identity = {**self.parts, "part": part}, (*self.identity, "part")
        return replace(self, title=f"{self.title}, {part}", parts=parts, identity=identity)

    @property
    def folder(self) -> Path:
        """Where the entry is, or would be."""
        return root() / self.kind / self.digest


class Shards:
    """Tensors of equally many rows, each in one part a file, mapped into memory rather than read.

    Args:
        paths: safetensors files, in the order of their rows; all but the last have equally many. What is float16 in
            one of them may be float32 in another.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.parts = [files.read_tensors(path)[0] for path in paths]
        self.rows = [len(next(iter(part.values()))) for part in self.parts]
        self.types = {name: _widest(part[name].dtype for part in self.parts) for name in self.parts[0]}

    def __len__(self) -> int:
        return sum(self.rows)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one row of a tensor."""
        return tuple(self.parts[0][name].shape[1:])

    def take(self, name: str, index: Tensor) -> Tensor:
        """The rows at these places, (B, *row), in their order; nothing else is read."""
        if len(self.parts) == 1:
            return self.parts[0][name].index_select(0, index)  # copies rows whole: several times as fast as [index]
        part = index // self.rows[0]
        order = part.argsort()  # one look at every part for the whole batch: an epoch reads from all of them in turn
        counts = part.bincount(minlength=len(self.parts)).tolist()
        rows = (index % self.rows[0])[order].split(counts)
        found = [held[name].index_select(0, some) for held, some in zip(self.parts, rows, strict=True) if len(some)]
        picked = torch.empty((len(index), *self.shape(name)), dtype=self.types[name], device="cpu")
        if found:
            picked[order] = torch.cat(found).to(picked.dtype)
        return picked

    def all(self, name: str) -> Tensor:
        """Every row, copied into memory."""
        return torch.cat([part[name] for part in self.parts])


def _widest(types: Iterable[torch.dtype]) -> torch.dtype:
    return reduce(torch.promote_types, types)
