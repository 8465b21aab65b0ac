"""The pictures of the sweep: curves, rows of images, samples, codes, and the ways between two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from zoo.evaluation.protocol import measuring
from zoo.pictures.grids import labelled
from zoo.pictures.lines import Plot, lines
from zoo.pictures.pairs import pairs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from zoo.data import Images
    from zoo.experiments.bench import Bench
    from zoo.experiments.recipes import Recipe
    from zoo.stack import Stack

    Stacks = dict[tuple[str, int], Stack]

ROW, SAMPLES, STEPS, POINTS = 10, 12, 10, 3000
"""Images that come back, samples of a stack, interior steps of an interpolation, codes of a scatter."""


def error_curve(
    recipe: Recipe,
    errors: dict[tuple[str, int], float],
    components: dict[int, float],
    weighed: dict[tuple[str, int, float], float],
    folder: Path,
) -> Path:
    """Errors by size: one plot of the kinds with the source's and PCA's, one of the weights."""
    sizes = recipe.settings["sizes"]
    ours = {kind: [(size, errors[kind, size]) for size in sizes] for kind in recipe.stacks}
    told = {f"{kind}, the source's": [*zip(sizes, values, strict=False)]
            for kind, values in (recipe.told("error") or {}).items()}  # fmt: skip
    ours["PCA"] = [*components.items()]
    others: dict[str, list[tuple[float, float]]] = {}
    for (kind, size, weight), error in weighed.items():
        others.setdefault(f"{kind}, {weight:g} times its weight", []).append((size, error))
    default = {kind: ours[kind] for kind in recipe.settings["weights"]}
    plots = [
        Plot("numbers in the code", "test MSE", shown, logarithmic=True, dashed=[*told, "PCA"])
        for shown in (ours | told, default | others)
    ]
    return lines(plots, folder / "error.png", title="Error by the size of the code")


def kid_curve(recipe: Recipe, kids: dict[tuple[str, int], dict[str, float]], folder: Path) -> Path:
    """KID of samples by size."""
    found: dict[str, list[tuple[float, float]]] = {}
    for (kind, size), numbers in kids.items():
        found.setdefault(kind, []).append((size, numbers["KID"]))
    plot = Plot("numbers in the code", "KID of samples", found, logarithmic=True)
    return lines([plot], folder / "kid.png", title="Samples by the size of the code")


def albums(recipe: Recipe, stacks: Stacks, bench: Bench) -> Iterator[tuple[Path, str]]:
    """Every picture of images and of codes, with its caption."""
    kinds, shown, folder = list(recipe.stacks), recipe.settings["shown"], bench.folder
    test = bench.test(stacks[kinds[0], shown])
    x = test.batch(slice(0, ROW))
    rows = [x, *(_back(stacks[kind, shown], x) for kind in kinds)]
    yield labelled(rows, folder / "rows.png", title=f"Test images, and what comes back of {shown} numbers",
                   beside=["original", *kinds]), f"What comes back of {shown} numbers"  # fmt: skip
    for size in recipe.settings["sizes"]:
        samples = [_drawn(stacks[kind, size], SAMPLES) for kind in kinds]
        yield labelled(samples, folder / f"samples-{size}.png", title=f"Samples from N(0, I), {size} numbers",
                       beside=kinds), f"Samples of {size} numbers"  # fmt: skip
    few = test.subset(slice(0, POINTS))
    for size in (2, 3):
        if size in recipe.settings["sizes"]:
            yield _codes({kind: stacks[kind, size] for kind in kinds}, few, folder, size), f"Codes of {size} numbers"
    ways = [_between(stacks[kind, shown], x[:1], x[1:2]) for kind in kinds]
    yield labelled(ways, folder / "between.png", title=f"Between two test images, in {shown} numbers, straight",
                   beside=kinds), "Ten steps between the codes of two images"  # fmt: skip


def _back(stack: Stack, x: Tensor) -> Tensor:
    with measuring(stack):
        x_hat: Tensor = stack(x)
    return x_hat


def _drawn(stack: Stack, count: int) -> Tensor:
    z = torch.randn((count, *stack.code_shape), generator=torch.Generator().manual_seed(0))
    with measuring(stack):
        return stack.decode(z)


def _codes(stacks: dict[str, Stack], shown: Images, folder: Path, size: int) -> Path:
    panels: dict[str, tuple[Tensor, Tensor | None]] = {}
    for kind, stack in stacks.items():
        with measuring(stack):
            panels[kind] = (stack.encode(shown.batch(slice(0, len(shown)))), shown.labels)
    panels["N(0, I)"] = (torch.randn((len(shown), size), generator=torch.Generator().manual_seed(0)), None)
    return pairs(panels, folder / f"codes-{size}.png", title=f"Codes of test images, {size} numbers, and the prior")


def _between(stack: Stack, first: Tensor, last: Tensor) -> Tensor:
    """The first image, what lies between, and the last: (STEPS + 2, C, H, W)."""
    with measuring(stack):
        a, b = stack.encode(first), stack.encode(last)
        steps = torch.linspace(0, 1, STEPS + 2)[1:-1].reshape(-1, 1)
        return torch.cat([first, stack.decode(torch.lerp(a, b, steps)), last])
