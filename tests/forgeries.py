"""Saved stacks that somebody has tampered with: config.json and headers of weight files, rewritten at will.

The forger knows the format: sizes and hashes are made right again where a case does not say otherwise, so that each is
stopped by the check that it is about.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Forgery:
    """A saved stack to be tampered with."""

    folder: Path

    @property
    def config_path(self) -> Path:
        return self.folder / "config.json"

    @property
    def config(self) -> dict[str, Any]:
        return json.loads(self.config_path.read_text("utf-8"))

    def weights(self, number: int = 0) -> Path:
        """The weight file of a level, counted from 0 as in the config."""
        return self.folder / self.config["levels"][number]["file"]

    def change(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the config, and write it back."""
        config = self.config
        change(config)
        self.config_path.write_text(json.dumps(config), "utf-8")

    def set(self, field: str, value: Any) -> None:
        """Put a value into the config: ``levels.0.file``."""
        *path, last = [int(key) if key.isdigit() else key for key in field.split(".")]

        def change(config: Any) -> None:
            for key in path:
                config = config[key]
            config[last] = value

        self.change(change)

    def replace(self, old: str, new: str) -> None:
        """Exchange a text of the config, which must be there."""
        text = self.config_path.read_text("utf-8")
        assert old in text
        self.config_path.write_text(text.replace(old, new), "utf-8")

    def put(self, data: bytes, number: int = 0, *, honest: bool = True) -> None:
        """Write a level's weight file anew; ``honest``: the config then gives its true size and hash."""
        self.weights(number).write_bytes(data)
        if honest:
            digest = hashlib.sha256(data).hexdigest()
            self.change(lambda config: config["levels"][number].update(bytes=len(data), sha256=digest))

    def entries(self, number: int = 0) -> tuple[list[tuple[str, Any]], bytes]:
        """The header's entries, without its metadata, and the bytes behind it."""
        data = self.weights(number).read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        return [(name, entry) for name, entry in header.items() if name != "__metadata__"], data[8 + length :]

    def rewrite(self, change: Callable[[dict[str, tuple[dict[str, Any], bytes]]], object], number: int = 0) -> None:
        """Change a level's tensors, each a header's entry and its bytes; the offsets are made right again."""
        entries, data = self.entries(number)
        tensors = {name: (entry, data[slice(*entry["data_offsets"])]) for name, entry in entries}
        change(tensors)
        at, header, parts = 0, {}, []
        for name, (entry, part) in tensors.items():
            header[name] = {**entry, "data_offsets": [at, at + len(part)]}
            parts.append(part)
            at += len(part)
        self.put(packed(header.items(), b"".join(parts)), number)


def packed(entries: Iterable[tuple[str, Any]], data: bytes) -> bytes:
    """A safetensors file; a name may stand twice."""
    text = "{" + ",".join(f"{json.dumps(name)}:{json.dumps(entry)}" for name, entry in entries) + "}"
    return prefixed(text.encode(), data)


def prefixed(header: bytes, data: bytes) -> bytes:
    """A header with its length before it, and what follows."""
    return len(header).to_bytes(8, "little") + header + data


def empty(shape: list[int], dtype: str = "F32") -> tuple[dict[str, Any], bytes]:
    """The entry of a tensor without bytes."""
    return {"dtype": dtype, "shape": shape}, b""
