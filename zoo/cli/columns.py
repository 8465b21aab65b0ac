"""Rows of words as aligned columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def columns(rows: Sequence[Sequence[object]]) -> str:
    """The rows as lines, every column as wide as its widest word; numbers to the right.

    >>> print(columns([("level", "numbers"), ("conv", 490), ("fc", 8)]))
    level  numbers
    conv       490
    fc           8
    """
    words = [[f"{word:,}" if isinstance(word, int) else str(word) for word in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*words, strict=True)]
    right = [any(isinstance(word, int | float) for word in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            word.rjust(width) if numbers else word.ljust(width)
            for word, width, numbers in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in words
    )
