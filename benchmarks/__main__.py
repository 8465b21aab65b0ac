"""Run the benchmarks, those that are named or all but the long ones; 1 is the exit status when a bar is missed."""

from __future__ import annotations

import argparse
import json
import pkgutil
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

import benchmarks
from benchmarks.machine import machine, versions
from benchmarks.page import PAGE, page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from benchmarks.rows import Row


def main() -> int:
    """List or run, print, and keep."""
    there = available()
    arguments = _arguments(there)
    if arguments.list:
        print("\n".join(f"{name}: {(module.__doc__ or '').splitlines()[0]}" for name, module in there.items()))
        return 0
    if arguments.page:
        PAGE.write_text(page(there), "utf-8")
        return 0
    on = machine()  # before they are run, who are a load themselves
    rows: list[Row] = []
    for name in arguments.names or [name for name, module in there.items() if not getattr(module, "LONG", False)]:
        print(f"{name}: {(there[name].__doc__ or '').splitlines()[0]}\n", flush=True)
        measured: list[Row] = there[name].run(**_chosen(there[name].run, arguments.long))
        print(table(measured), end="\n\n", flush=True)
        rows += measured
    if arguments.json:
        kept = {"rows": [row.to_json() for row in rows], "machine": on, "versions": versions()}
        arguments.json.write_text(json.dumps(kept, indent=2) + "\n", "utf-8")
    return int(not all(row.kept for row in rows))


def available() -> dict[str, ModuleType]:
    """The benchmarks by name: the modules of this package that have a ``run``."""
    names = (module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name != "__main__")
    modules = {name: import_module(f"benchmarks.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "run")}


def _chosen(measure: Callable[..., object], long: bool) -> dict[str, bool]:
    """What a ``run`` takes: ``long`` where it has something to measure that takes long."""
    return {"long": long} if "long" in signature(measure).parameters else {}


def table(rows: Sequence[Row]) -> str:
    """Rows as aligned columns: what was measured, ours, the anchor, their ratio, and the bar with whether it held."""
    lines: list[tuple[str, ...]] = [("", "ours", "anchor", "ratio", "bar", "")]
    for row in rows:
        numbers = ("" if value is None else f"{value:.4g}" for value in (row.ours, row.anchor, row.ratio))
        lines.append((row.name, *numbers, row.bar or "", "" if row.bar is None else "kept" if row.kept else "MISSED"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) if 1 <= place <= 3 else cell.ljust(width)
                  for place, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines
    )  # fmt: skip


def _arguments(there: dict[str, ModuleType]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    choice = f"of: {', '.join(there)}; when none is given, all but those that take an hour"
    parser.add_argument("names", nargs="*", metavar="NAME", help=choice)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the rows, the machine and the versions")
    parser.add_argument("--long", action="store_true", help="also what takes gigabytes and minutes, where there is any")
    parser.add_argument("--page", action="store_true", help="make docs/performance.md of what was kept")
    parser.add_argument("--list", action="store_true", help="say what there is")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in there:
            parser.error(f"no benchmark {name!r}; there are: {', '.join(there)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
