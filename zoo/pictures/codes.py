"""Where the codes of images lie, in two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from zoo.pictures.grids import DPI, save

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from matplotlib.axes import Axes
    from torch import Tensor

    Points = np.ndarray[Any, np.dtype[np.floating[Any]]]

LEGEND = 20  # classes that are told apart by name, at most


def scatter(
    codes: Tensor, labels: Tensor | None, classes: tuple[str, ...] | None, path: Path, *, title: str, seed: int
) -> Path:
    """Write a scatter of codes (N, *code), coloured by label.

    A code of two numbers is shown as it is, others by their first two principal components.
    """
    points, axes = plane(codes, seed)
    figure = Figure(figsize=(8.6, 6.8), dpi=DPI, layout="constrained")
    plot = figure.add_subplot()
    size = float(np.clip(12_000 / len(points), 4, 30))
    if labels is None:
        plot.scatter(points[:, 0], points[:, 1], s=size, alpha=0.75, linewidths=0, color="tab:blue")
    else:
        found = labels.cpu().numpy()
        colours = palette(int(found.max()) + 1)
        plot.scatter(points[:, 0], points[:, 1], s=size, alpha=0.75, linewidths=0, c=colours[found])
        if not legend(figure, plot, labels, classes):
            title = f"{title}, coloured by {len(np.unique(found))} classes"
    plot.set_title(title, fontsize=11, parse_math=False)
    plot.set(xlabel=axes[0], ylabel=axes[1])
    plot.set_aspect("equal", adjustable="datalim")
    plot.grid(alpha=0.25)
    return save(figure, path)


def legend(figure: Figure, plot: Axes, labels: Tensor, classes: tuple[str, ...] | None) -> bool:
    """Name the colours of these labels beside the plots; where there are too many to tell apart, say False instead."""
    present = np.unique(labels.cpu().numpy())
    if len(present) > LEGEND:
        return False
    colours = palette(int(present.max()) + 1)
    for label in present:
        plot.scatter([], [], s=36, linewidths=0, color=colours[label], label=_name(label, classes))
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return True


def colours_of(labels: Tensor) -> Points:
    """A colour for each of these labels, (N, 4)."""
    found = labels.cpu().numpy()
    colours: Points = palette(int(found.max()) + 1)[found]
    return colours


def plane(codes: Tensor, seed: int) -> tuple[Points, tuple[str, str]]:
    """Codes (N, *code) as points, (N, 2), and what their axes are called: two numbers as they are, more by PCA."""
    z = codes.detach().float().cpu().flatten(1).numpy()
    if z.shape[1] == 2:
        return z, ("code, first number", "code, second number")
    if z.shape[1] == 1 or len(z) < 2:
        return np.stack([z[:, 0], np.zeros(len(z))], 1), ("code, first number", "")
    model = PCA(2, random_state=seed % 2**32)
    with np.errstate(invalid="ignore"):  # the variance of codes that are all the same
        points = model.fit_transform(z)
    first, second = np.nan_to_num(model.explained_variance_ratio_)
    return points, (f"principal component 1: {first:.0%} of the variance", f"principal component 2: {second:.0%}")


def palette(count: int) -> Points:
    """One colour for each of ``count`` classes, (count, 4)."""
    name = "tab10" if count <= 10 else "tab20" if count <= 20 else "turbo"
    steps = np.arange(count) if count <= 20 else np.linspace(0, 1, count)
    return matplotlib.colormaps[name](steps)


def _name(label: int, classes: tuple[str, ...] | None) -> str:
    name = classes[label] if classes and label < len(classes) else f"class {label}"
    name = name if len(name) <= 24 else f"{name[:22]}..."
    return f" {name}".replace("$", r"\$")  # matplotlib hides what begins with "_", and reads formulas between dollars
