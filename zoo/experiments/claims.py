"""Claims that stand in a recipe, about a table of stacks: ``[[settings.claims]]``.

The number in a ``column`` of the row ``stack``, or of the best of several, over that of another where it says ``over``,
is at ``least`` or at ``most`` so much. The column ``accuracy`` is that of the first classifier which is here. A claim
that says ``data`` is about that set of images alone, and one that is about ``all`` training images is not judged by
fewer.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from zoo.errors import RecipeError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zoo.experiments.bench import Bench
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe

Rows = dict[str, dict[str, Any]]
"""A table: by the name of a row, its numbers by column."""
ACCURACY = "accuracy"
MISSING = "not all of it was trained, or there was no classifier"
CLAIM = {"text": str, "column": str, "stack": str | list, "over": str, "least": int | float, "most": int | float,
         "data": str, "all": bool}  # fmt: skip
"""What a claim may say."""


def check(recipe: Recipe, columns: Sequence[str], others: Sequence[str]) -> None:
    """See, before anything is trained, that every claim of a recipe can be judged.

    Args:
        recipe: with the claims.
        columns: of the table.
        others: rows that are no stacks.

    Raises:
        RecipeError: one cannot.
    """
    rows = (*recipe.stacks, *others)
    for claim in recipe.settings["claims"]:
        where = f"{recipe.name}: the claim {claim.get('text', '')!r:.60}"
        for key, value in claim.items():
            if key not in CLAIM:
                raise RecipeError(f"{where}: there is no {key!r}; {nearest(key, CLAIM)}")
            if not isinstance(value, CLAIM[key]):
                raise RecipeError(f"{where}: {key} cannot be {value!r:.60}")
        if missing := [key for key in ("text", "column", "stack") if key not in claim]:
            raise RecipeError(f"{where} has no {missing[0]!r}")
        if "least" not in claim and "most" not in claim:
            raise RecipeError(f"{where} says neither 'least' nor 'most'")
        if claim["column"].partition(", ")[0] not in columns:
            raise RecipeError(f"{where}: there is no column {claim['column']!r}; {nearest(claim['column'], columns)}")
        for stack in (*_listed(claim["stack"]), claim.get("over", rows[0])):
            if stack not in rows and not recipe.quick:  # which may be cut down to fewer
                raise RecipeError(f"{where}: there is no stack {stack!r}; {nearest(stack, rows)}")


def judge(page: Page, rows: Rows, classifier: str, bench: Bench) -> None:
    """Judge what a recipe has to say about its table; ``classifier`` is the one whose accuracies count."""
    for claim in bench.recipe.settings["claims"]:
        column = f"{ACCURACY}, {classifier}" if claim["column"] == ACCURACY else claim["column"]
        numbers = {name: row[column] for name, row in rows.items() if row.get(column) is not None}
        found = [name for name in _listed(claim["stack"]) if name in numbers]
        over = claim.get("over")
        why = _open(claim, bench)
        if why or not found or (over is not None and not numbers.get(over)):
            page.claim(claim["text"], None, why or MISSING)
            continue
        best = (max if "least" in claim else min)(found, key=numbers.__getitem__)
        value, evidence = numbers[best], f"{numbers[best]:.4g}"
        if over is not None:
            value = numbers[best] / numbers[over]
            evidence += f" and {numbers[over]:.4g}: {value:.3f} times"
        if isinstance(claim["stack"], list):
            evidence = f"{best}: {evidence}"
        page.claim(claim["text"], claim.get("least", -inf) <= value <= claim.get("most", inf), evidence)


def _open(claim: Mapping[str, Any], bench: Bench) -> str:
    """Why these images cannot tell; nothing where they can."""
    if claim.get("data", bench.data) != bench.data:
        return f"it is about {claim['data']}"
    if claim.get("all") and "images" in bench.recipe.settings:
        return f"it takes all training images, and these were {bench.recipe.settings['images']:,}"
    return ""


def _listed(stack: str | list[str]) -> list[str]:
    return stack if isinstance(stack, list) else [stack]
