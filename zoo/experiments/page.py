"""What an experiment leaves behind: one page of tables, pictures and claims, as Markdown and as JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zoo import files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

NOTHING = "-"


@dataclass(frozen=True)
class Claim:
    """Something that the source says, and what came out here.

    Args:
        text: as the source means it.
        holds: whether it is so here; None where this run cannot tell.
        evidence: the numbers that say so.
    """

    text: str
    holds: bool | None
    evidence: str

    @property
    def verdict(self) -> str:
        """In one word."""
        return {True: "confirmed", False: "refuted", None: "open"}[self.holds]


class Page:
    """A page that grows from top to bottom.

    Args:
        title: of the page.
        folder: where ``write`` puts ``report.md`` and ``report.json``, beside the pictures.
        facts: what the numbers rest on: data, options, machine, versions.
        judging: the numbers mean something, so that claims can be judged by them.
    """

    def __init__(self, title: str, folder: Path, facts: Mapping[str, Any], *, judging: bool = True) -> None:
        self.title, self.folder, self.facts, self.judging = title, folder, dict(facts), judging
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.claims: list[Claim] = []
        self.blocks: list[str] = []
        self.warnings: list[str] = []

    def doubt(self, text: str) -> None:
        """Why the numbers cannot be relied on, which stands above them; no claim is judged by them."""
        self.warnings.append(text)
        self.claims = [replace(claim, holds=None) for claim in self.claims]
        self.judging = False

    def say(self, text: str) -> None:
        """A paragraph."""
        self.blocks.append(text.strip())

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table under a heading; the columns are the keys of its rows, the first is words."""
        self.tables[name] = [dict(row) for row in rows]
        columns = list(dict.fromkeys(key for row in rows for key in row))
        lines = [columns, ["---", *["---:"] * (len(columns) - 1)]]
        lines += [[written(row.get(column)) for column in columns] for row in rows]
        self.blocks.append("\n".join([f"## {name}", "", *(f"| {' | '.join(line)} |" for line in lines)]))

    def picture(self, path: Path, caption: str) -> None:
        """A picture in the page's folder."""
        self.blocks.append(f"![{caption}]({path.relative_to(self.folder).as_posix()})\n\n{caption}")

    def claim(self, text: str, holds: bool | None, evidence: str) -> None:
        """Something that the source says, judged."""
        self.claims.append(Claim(text, holds if self.judging else None, evidence))

    def markdown(self) -> str:
        """The whole page."""
        facts = "\n".join(f"- {name}: {value}" for name, value in self.facts.items())
        claims = [f"| {claim.text} | **{claim.verdict}** | {claim.evidence} |" for claim in self.claims]
        judged = ["## Claims", "\n".join(["| claim | here | because |", "|---|---|---|", *claims])] if claims else []
        warnings = [f"**{text}**" for text in self.warnings]
        return "\n\n".join([f"# {self.title}", *warnings, *self.blocks, *judged, "## How", facts]) + "\n"

    def write(self) -> Path:
        """Write ``report.json`` and, last, ``report.md``, whose path is returned."""
        told = {
            "title": self.title,
            "facts": self.facts,
            "warnings": self.warnings,
            "tables": self.tables,
            "claims": [vars(claim) | {"verdict": claim.verdict} for claim in self.claims],
        }
        files.write_json(self.folder / "report.json", _finite(told))
        files.write_text(self.folder / "report.md", self.markdown())
        return self.folder / "report.md"


def written(value: Any) -> str:
    """A cell of a table: numbers with four digits, nothing for None."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
