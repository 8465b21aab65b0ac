"""The rows of the unit as tables in Markdown, put between the marks of a page that holds the words."""

from __future__ import annotations

import re
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from benchmarks.unit.plan import SIZES, TERMS, WIDTHS
from zoo.evaluation.reconstruction import decibels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Found = dict[str, Any]

HEAD = ("width", "", "MSE", "PSNR", "active", "spread", "distance", "KID", "KID, own moments", "KID, there and back")
COLLAPSED = 0.98
"""A reconstruction whose error is more than this part of the mean image's is none."""
COMPARED = (("mse", ".4f"), ("active", "d"), ("sw", ".3f"), ("kid", ".3f"))


def fill(page: str, rows: Iterable[Found]) -> str:
    """A page with the tables of these rows between its marks, ``<!-- table: NAME -->`` and ``<!-- end -->``."""
    rows = list(rows)
    makers = tables()

    def table(mark: re.Match[str]) -> str:
        return f"<!-- table: {mark[1]} -->\n{makers[mark[1]](rows)}\n<!-- end -->"

    return re.sub(r"<!-- table: (.+?) -->\n.*?<!-- end -->", table, page, flags=re.DOTALL)


def tables() -> dict[str, Callable[[list[Found]], str]]:
    """Every table by name: ``28 1`` the main one of a size and its levels, ``28 1 kl`` the weights of a term there."""
    made: dict[str, Callable[[list[Found]], str]] = {"bf16": _precisions, "seeds": _seeds, "network": _network}
    for size, levels in product(SIZES, (1, 2)):
        made[f"{size} {levels}"] = partial(_main, size=size, levels=levels)
        for term in TERMS:
            made[f"{size} {levels} {term}"] = partial(_weights, size=size, levels=levels, term=term)
    return made


def verdict(row: Found) -> str:
    """Whether it exploded or collapsed; nothing where it did neither."""
    if row["exploded"]:
        return "exploded"
    return "collapsed" if not row["active"] or row["mse"] > COLLAPSED * row["mean_mse"] else ""


def _main(rows: list[Found], size: int, levels: int) -> str:
    lines = []
    for width in WIDTHS:
        here = {row["term"]: row for row in _of(rows, size, levels, width) if _plain(row)}
        if here:
            lines.append(_components(width, next(iter(here.values()))))
            lines += [_line(width, f"`{term}`", here[term]) for term in TERMS if term in here]
    return _table(HEAD, lines)


def _weights(rows: list[Found], size: int, levels: int, term: str) -> str:
    lines = []
    for width in WIDTHS:
        here = [row for row in _of(rows, size, levels, width)
                if row["term"] == term and (row["precision"], row["seed"]) == ("fp32", 0)]  # fmt: skip
        if len(here) > 1:
            here.sort(key=lambda row: row["weighs"])
            lines += [_line(width, f"{row['weighs']:g}", row) for row in here]
    return _table((HEAD[0], "weight", *HEAD[2:]), lines)


def _precisions(rows: list[Found]) -> str:
    return _pairs([row for row in rows if row["seed"] == 0], "precision", "fp32", "bf16")


def _seeds(rows: list[Found]) -> str:
    return _pairs([row for row in rows if row["precision"] == "fp32"], "seed", 0, 1)


def _pairs(rows: list[Found], field: str, one: Any, other: Any) -> str:
    firsts = {row["spec"]: row for row in rows if row[field] == one}
    seconds = [row for row in rows if row[field] == other and row["spec"] in firsts]
    lines = []
    for second in sorted(seconds, key=lambda row: (row["size"], row["levels"], TERMS.index(row["term"]), row["width"])):
        first = firsts[second["spec"]]
        if verdict(first) or verdict(second):
            numbers = [verdict(first) or "trained", verdict(second) or "trained", *[""] * 6]
        else:
            numbers = [f"{row[name]:{form}}" for name, form in COMPARED for row in (first, second)]
        lines.append((f"`{second['spec']}`", *numbers))
    names = [f"{name}, {which}" for name in ("MSE", "active", "distance", "KID") for which in (one, other)]
    return _table(("", *names), lines)


def _network(rows: list[Found]) -> str:
    """The KID of 64x64 samples by the other network as well."""
    judged = [row for row in rows if row.get("kid_network") is not None and row["precision"] == "fp32"]
    judged.sort(key=lambda row: (row["levels"], row["width"], TERMS.index(row["term"]), row["weight"] or 0))
    lines = [(f"`{row['spec']}`", _kid(row, "kid"), _kid(row, "kid_network")) for row in judged]
    return _table(("", "KID", "KID by the ResNet-18"), lines)


def _line(width: int, name: str, row: Found) -> tuple[str, ...]:
    if row["exploded"]:
        return (str(width), name, "exploded", *[""] * (len(HEAD) - 3))
    active = " ".join(filter(None, (str(row["active"]), verdict(row))))
    least, middle, most = (row["std"][which] for which in ("min", "median", "max"))
    spread = f"{middle:.2f} ({least:.2f} to {most:.2f})"
    distances = [_kid(row, which) for which in ("kid", "kid_folded", "kid_there_and_back")]
    return (str(width), name, f"{row['mse']:.4f}", f"{row['psnr']:.2f}", active, spread,
            f"{row['sw']:.3f} ({row['sw_floor']:.3f})", *distances)  # fmt: skip


def _components(width: int, row: Found) -> tuple[str, ...]:
    return (str(width), "PCA", f"{row['pca_mse']:.4f}", f"{decibels(row['pca_mse']):.2f}", "", "", "",
            f"{row['pca_kid']:.3f}", "", "")  # fmt: skip


def _kid(row: Found, name: str) -> str:
    return f"{row[name]:.3f} ± {row[f'{name}_std']:.3f}"


def _of(rows: list[Found], size: int, levels: int, width: int) -> list[Found]:
    return [row for row in rows if (row["size"], row["levels"], row["width"]) == (size, levels, width)]


def _plain(row: Found) -> bool:
    return row["weight"] is None and row["precision"] == "fp32" and row["seed"] == 0


def _table(head: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> str:
    if not lines:
        return "\nNot measured.\n"
    rule = tuple("---" for _ in head)
    return "\n" + "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines)) + "\n"
