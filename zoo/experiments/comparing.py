"""Embeddings beside each other on one page: a table, how neighbours learn, and where everything lies."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from zoo import evaluation, files
from zoo.errors import FileError
from zoo.evaluation import neighbours, structure
from zoo.experiments.page import Page
from zoo.experiments.parts import mingled
from zoo.pictures.densities import densities
from zoo.pictures.lines import Plot, lines

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zoo.evaluation import Comparison, Row
    from zoo.stack import Stack

TABLE = "Embeddings compared"

HOW = """\
Everything is fitted on {train:,} training images and measured on {test:,} test images. **kNN, folds**: nearest
neighbours that vote by 1 / distance, the mean of five stratified folds of the training images, at the best number of
neighbours (1, 5, 10, 25 or 50) and of images a class. **kNN, test**: the test images among {per_class} training images
a class, all votes equal, **k** being the best on the folds; the mean of {draws} draws of these training images, the
same for all. **Probe**: logistic regression. **k-means**: as many clusters as classes, on the test images; normalised
mutual information and adjusted Rand index. **Trust**: whether an image's 5 nearest are near in pixels as well, 0 to 1.
**Silhouette**: how much nearer images are to their own class than to the next, -1 to 1. The last two look at every pair
of images, and so at {sampled:,} of the test images."""

UNLABELLED = """\
The training and test images have no labels, not the same classes, or too few of a class: whatever takes labels is left
out. **Trust** says whether an image's 5 nearest are near in pixels as well, 0 to 1, on {sampled:,} of {test:,} test
images."""


def compare(
    stacks: Mapping[str, Stack], data: str, out: Path, *, most: int, seed: int = 0, progress: bool = False
) -> Page:
    """Write ``report.md``, ``report.json``, ``densities.png`` and, for labelled images, ``neighbours.png``.

    Args:
        stacks: by name.
        data: images with a training and a test part.
        out: the folder.
        most: images of each part that are used, at most.
        seed: same seed, same page.
        progress: show bars.

    Raises:
        FileError: the folder holds a stack or a run.
        EvaluationError, DataError: as by ``zoo.evaluation.compare``.
    """
    _check_room(out)
    found = evaluation.compare(stacks, data, most=most, seed=seed, progress=progress)
    page = Page(f"Embeddings of {found.test.name}", out, _facts(found, stacks, data, seed))
    page.table(TABLE, [_row(row, found) for row in found.rows])
    page.say(_words(found))
    validated = {row.name: row.found["validated"] for row in found.rows if "validated" in row.found}
    if validated:
        page.picture(_curves(validated, out / "neighbours.png"), "Neighbours by the number of images a class")
        page.table("Neighbours on the folds", _folds(validated))
    panels = {row.name: row.test for row in found.rows if row.test is not None}
    title = f"{len(found.test):,} test images of {found.test.name}"
    labels = found.test.labels if validated else None
    path = densities(panels, labels, found.test.classes, out / "densities.png", title=title, seed=seed)
    page.picture(path, "Where the test images lie: two numbers as they are, more by their first two components")
    page.write()
    return page


def _check_room(out: Path) -> None:
    """Refuse the folder of a stack, whose report the page would replace, or of a run, which will be one."""
    for name in (files.CONFIG, files.RUN):
        if (out / name).exists():
            raise FileError(
                f"{out} holds a stack or a run ({name}), whose {files.REPORT} the page would replace: choose another "
                "folder (--out, out=)"
            )


def _row(row: Row, found: Comparison) -> dict[str, Any]:
    """A row of the table. What was measured on part of the images says so in its heading."""
    sampled = min(structure.SAMPLED, len(found.test))
    numbers, validated, knn = row.found, row.found.get("validated"), row.found.get("knn", {})
    best = None if validated is None else max(share for size in validated.values() for share in size.values())
    cells = {"embedding": row.name, "numbers": row.numbers, "kNN, folds": best, "kNN, test": knn.get("accuracy"),
             "k": knn.get("neighbours"), "probe": numbers.get("probe"), "k-means NMI": numbers.get("nmi"),
             "k-means ARI": numbers.get("ari"), f"trust ({sampled:,})": numbers.get("trust"),
             f"silhouette ({sampled:,})": numbers.get("silhouette")}  # fmt: skip
    rounded = {key: round(cell, 4) if isinstance(cell, float) else cell for key, cell in cells.items()}
    return rounded | ({"note": row.note} if row.note else {})


def _words(found: Comparison) -> str:
    """What the columns are."""
    sampled = min(structure.SAMPLED, len(found.test))
    sizes = {row.found["knn"]["per_class"] for row in found.rows if "knn" in row.found}
    if not sizes:
        return UNLABELLED.format(sampled=sampled, test=len(found.test))
    return HOW.format(train=len(found.train), test=len(found.test), per_class=f"{sizes.pop():,}",
                      draws=neighbours.DRAWS, sampled=sampled)  # fmt: skip


def _folds(validated: Mapping[str, dict[int, dict[int, float]]]) -> list[dict[str, Any]]:
    """A row for every embedding and number of images a class, a column for every number of neighbours."""
    return [
        {"embedding": name, "a class": size} | {f"k = {count}": round(share, 4) for count, share in shares.items()}
        for name, sizes in validated.items()
        for size, shares in sizes.items()
    ]


def _curves(validated: Mapping[str, dict[int, dict[int, float]]], path: Path) -> Path:
    """Accuracy on the folds by images a class, and by neighbours where there are most images."""
    best = {name: [(size, max(shares.values())) for size, shares in sizes.items()] for name, sizes in validated.items()}
    last = {name: list(sizes[max(sizes)].items()) for name, sizes in validated.items()}
    largest = max(next(iter(validated.values())))
    plots = [
        Plot("images a class", "accuracy on the folds, best k", best),
        Plot(f"neighbours, at {largest:,} images a class", "accuracy on the folds", last),
    ]
    return lines(plots, path, title="Nearest neighbours")


def _facts(found: Comparison, stacks: Mapping[str, Stack], data: str, seed: int) -> dict[str, Any]:
    shape = "x".join(map(str, (*found.test.shape[1:], found.test.shape[0])))
    said = mingled(found.train, found.test)
    names = ("torch", "scikit-learn")
    versions = ", ".join([f"stackzoo {files.zoo_version()}", *(f"{name} {version(name)}" for name in names)])
    return {
        **{name: f"`{stack.spec}`" for name, stack in stacks.items()},
        "data": f"{data}, {len(found.train):,} training and {len(found.test):,} test images of {shape}"
        + (f", **{said}**" if said else ""),
        "seed": seed,
        "versions": f"{versions}, Python {platform.python_version()}",
    }
