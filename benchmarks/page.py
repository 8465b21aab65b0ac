"""The page of all that was measured, from what the runs left in ``benchmarks/results``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.rows import Row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
HEAD = """# Performance

Every number stands beside a reference, the *anchor*, of the same run. Where both are measured in turn, *ratio* is the
median over neighbouring pairs of measurements, else that of the two numbers; *bar* is the limit that it has to keep.
`python -m benchmarks NAME --json benchmarks/results/NAME.json` measures again, `python -m benchmarks --page` makes
this page of what lies in [benchmarks/results](../benchmarks/results); nothing on it is written by hand.
"""


def page(there: Mapping[str, ModuleType]) -> str:
    """Markdown: a chapter for every benchmark that has left its rows, in the order of their names.

    Args:
        there: the benchmarks, by name.
    """
    chapters = []
    for name, module in sorted(there.items()):
        file = RESULTS / f"{name}.json"
        kept = json.loads(file.read_text("utf-8")) if file.exists() else {"rows": []}
        if all("name" in row for row in kept["rows"]) and kept["rows"]:  # others keep tables of another form
            chapters.append(_chapter(name, module.__doc__ or "", kept))
    return "\n".join([HEAD, *chapters])


def _chapter(name: str, about: str, kept: Mapping[str, Any]) -> str:
    title, _, rest = about.strip().replace("``", "`").partition("\n")
    lines = [f"## {name}", "", title, "", *_plain(rest), *_table(kept["rows"]), ""]
    return "\n".join([*lines, _measured_on(kept), ""])


def _plain(text: str) -> list[str]:
    """A docstring as Markdown: what it calls code is so there too."""
    return [*text.strip().splitlines(), ""] if text.strip() else []


def _table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| | ours | anchor | ratio | bar | |", "|---|--:|--:|--:|---|---|"]
    for fields in rows:
        row = Row(fields["name"], fields["ours"], fields["anchor"], fields["bar"])
        ratio = fields["ratio"]
        numbers = " | ".join("" if value is None else f"{value:.4g}" for value in (row.ours, row.anchor, ratio))
        said = "" if row.bar is None else "kept" if row.kept else "**missed**"
        lines.append(f"| {row.name.replace('|', chr(92) + '|')} | {numbers} | {row.bar or ''} | {said} |")
    return lines


def _measured_on(kept: Mapping[str, Any]) -> str:
    machine, versions = kept["machine"], kept["versions"]
    vectors = f" with {machine['vectors']}" if "vectors" in machine else ""
    busy = f", of which others used {machine['busy']:.1f} when it began" if "busy" in machine else ""
    used = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch") if name in versions)
    return f"{machine['processor']}{vectors}, {machine['cores']} cores{busy}; {used}."
