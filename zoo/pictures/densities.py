"""Where many vectors lie in two dimensions: how many there are at each place, and of which classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from zoo.pictures.codes import legend, palette, plane
from zoo.pictures.grids import DPI, save

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from torch import Tensor

    from zoo.pictures.codes import Points

CELLS = 160  # of a panel, each way
WIDTH = 11.0  # of the Gaussian that a vector is spread by, in cells, for one; it narrows as n^(-1/6): Scott (1992)
EDGE = 0.002  # share of the vectors at each end of an axis that the panel may leave out, so that one does not rule it
LONGEST = 38  # characters of a name above a panel
FAINT = 0.15  # how dark the colour of one vector's middle is


def densities(
    panels: Mapping[str, Tensor], labels: Tensor | None, classes: tuple[str, ...] | None, path: Path, *, title: str,
    seed: int = 0,
) -> Path:  # fmt: skip
    """Write a panel for each set of vectors (N, d) of the same images.

    A place is the darker the more vectors lie there, by the logarithm of their number, and its colour is the mixture of
    their classes. Vectors of more than two numbers are shown by their first two principal components.

    Args:
        panels: vectors by name.
        labels: (N,); everything is of one colour without them.
        classes: their names.
        path: the PNG.
        title: above everything.
        seed: of the components.
    """
    columns = math.ceil(len(panels) ** 0.5)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.1 * columns + 1.6, 3.3 * rows + 0.4), dpi=DPI, layout="constrained")
    for place, (name, vectors) in enumerate(panels.items(), 1):
        plot = figure.add_subplot(rows, columns, place)
        points, _ = plane(vectors, seed)
        _panel(plot, points, np.zeros(len(points), int) if labels is None else labels.cpu().numpy())
        plot.set_title(_end(name), fontsize=10, parse_math=False)
    if labels is not None and not legend(figure, plot, labels, classes):
        title = f"{title}, coloured by {len(labels.unique())} classes"
    figure.suptitle(title, fontsize=11, parse_math=False)
    return save(figure, path)


def density(points: Points, span: Points, width: float) -> Points:
    """How many of these points, (N, 2), lie in each cell between two corners, (2, 2).

    Each is spread over cells by a Gaussian of deviation ``width``, what would lie outside being lost.
    """
    edges = [np.linspace(low, high, CELLS + 1) for low, high in span.T]
    counts, _, _ = np.histogram2d(points[:, 0], points[:, 1], bins=edges)
    reach = np.arange(-np.ceil(3 * width), np.ceil(3 * width) + 1)
    kernel = np.exp(-((reach / width) ** 2) / 2)
    for axis in (0, 1):
        counts = np.apply_along_axis(np.convolve, axis, counts, kernel / kernel.sum(), mode="same")
    spread: Points = counts
    return spread


def _end(name: str) -> str:
    """A name as it fits above a panel: of a long path the end, which tells it from others."""
    return name if len(name) <= LONGEST else f"...{name[3 - LONGEST :]}"


def _panel(plot: Axes, points: Points, labels: Points) -> None:
    span = _span(points)
    present = np.unique(labels)
    colours = palette(int(present.max()) + 1)[present, :3]
    width = WIDTH * len(points) ** (-1 / 6)
    layers = np.stack([density(points[labels == label], span, width) for label in present], -1)
    total = layers.sum(-1)
    mixed = layers @ colours / np.maximum(total, 1e-12)[..., None]
    one = 1 / (2 * np.pi * width**2)  # the middle of a single vector
    ink = np.log1p(total / one) / np.log1p(max(total.max() / one, 1 / FAINT))
    picture = 1 - np.clip(ink, 0, 1)[..., None] * (1 - mixed)
    (left, bottom), (right, top) = span
    plot.imshow(picture.transpose(1, 0, 2), origin="lower", extent=(left, right, bottom, top), interpolation="bilinear")
    plot.set(xticks=[], yticks=[])


def _span(points: Points) -> Points:
    """Lower left and upper right of a square that nearly all points lie in."""
    low, high = np.quantile(points, (EDGE, 1 - EDGE), axis=0)
    half = max(float((high - low).max()) / 2 * 1.08, 1e-6)
    middle = (low + high) / 2
    return np.stack([middle - half, middle + half])
