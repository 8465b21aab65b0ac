"""What a benchmark gives: rows of ours beside an anchor."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass

_BAR = re.compile(r"(ours|ratio) (<=|>=) ([0-9.]+)")
_COMPARE = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Row:
    """One number of ours beside the same of the anchor.

    Args:
        name: what is measured, its unit, and the anchor: "zoo list, s; beside timm.list_models()".
        ours: the zoo's.
        anchor: what it is compared with, measured in the same run; None where there is none.
        bar: what has to hold, as in "ours <= 0.25" or "ratio >= 2"; None where nothing has to.
    """

    name: str
    ours: float
    anchor: float | None = None
    bar: str | None = None

    def __post_init__(self) -> None:
        if self.bar is not None and not _BAR.fullmatch(self.bar):
            raise ValueError(f"a bar reads 'ours <= 0.25' or 'ratio >= 2', not {self.bar!r}")

    @property
    def ratio(self) -> float | None:
        """Ours over the anchor."""
        return self.ours / self.anchor if self.anchor else None

    @property
    def kept(self) -> bool:
        """Whether the bar holds."""
        if self.bar is None:
            return True
        measured, comparison, limit = self.bar.split()
        value = self.ours if measured == "ours" else self.ratio
        return value is not None and bool(_COMPARE[comparison](value, float(limit)))

    def to_json(self) -> dict[str, str | float | None]:
        """The five fields of the file, numbers with five digits that matter."""
        numbers = {"ours": self.ours, "anchor": self.anchor, "ratio": self.ratio}
        rounded = {field: None if value is None else float(f"{value:.5g}") for field, value in numbers.items()}
        return {"name": self.name, **rounded, "bar": self.bar}
