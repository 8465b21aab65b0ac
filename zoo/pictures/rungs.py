"""What each rung of a ladder shows: drawn anew, taken from other images, and led over a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from zoo.pictures.grids import labelled
from zoo.rungs import count, place, swap, traverse
from zoo.seeding import seeded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from zoo.stack import Stack

Others = Literal["fixed", "random"]

AROUND = 64  # codes about an image's, which say which numbers move it most


@torch.no_grad()
def redraws(
    stack: Stack, x: Tensor, path: str | Path, *, draws: int = 10, seed: int = 0, beside: Sequence[str] = ()
) -> Path:
    """Write images, and what becomes of each when one rung is drawn anew: a row for every image and rung.

    Args:
        stack: in eval mode, one that samples, with codes of rungs on top.
        x: images (B, C, H, W) in [0, 1].
        path: the PNG.
        draws: in each row, behind the image and what comes back of it.
        seed: of the draws.
        beside: more words for every rung, from the shallowest.

    Raises:
        EvaluationError: the codes have no rungs, or the stack cannot sample.
    """
    rungs = count(stack.code_shape)
    z = stack.encode(x.to(stack.device))
    fresh = stack.sampler(generator=torch.Generator().manual_seed(seed))(draws).to(z)
    back = stack.decode(z).cpu()
    rows, words = [], []
    for number in range(len(x)):
        for rung in range(1, rungs + 1):
            drawn = stack.decode(traverse(z[number, None], rung, fresh[:, rung - 1])[0]).cpu()
            rows.append(torch.cat([x[number, None].cpu(), back[number, None], drawn]))
            words.append("\n".join([f"rung {rung}", *beside[rung - 1 : rung]]))
    above = ["image", "back", *map(str, range(1, draws + 1))]
    return labelled(rows, path, title=f"one rung drawn anew, 1 the shallowest: {stack.spec}", beside=words, above=above)


@torch.no_grad()
def swaps(stack: Stack, x: Tensor, others: Tensor, path: str | Path) -> Path:
    """Write one image with each rung of others: others in the first row, beneath each a row for every rung.

    Args:
        stack: in eval mode, with codes of rungs on top.
        x: one image, (1, C, H, W) in [0, 1], which stands at the left.
        others: images (N, C, H, W).
        path: the PNG.

    Raises:
        EvaluationError: the codes have no rungs.
    """
    z, theirs = (stack.encode(images.to(stack.device)) for images in (x, others))
    back = stack.decode(z).cpu()
    rows, beside = [torch.cat([x, others]).cpu()], ["images"]
    for rung in range(1, count(stack.code_shape) + 1):
        swapped = stack.decode(swap(z.expand_as(theirs), theirs, rung)).cpu()
        rows.append(torch.cat([back, swapped]))
        beside.append(f"rung {rung}\nof theirs")
    title = f"the left image with one rung of the others, 1 the shallowest: {stack.spec}"
    return labelled(rows, path, title=title, beside=beside)


def traversal(
    stack: Stack,
    x: Tensor,
    path: str | Path,
    *,
    rung: int,
    others: Others = "fixed",
    steps: int = 9,
    reach: float = 2.0,
    seed: int = 0,
) -> Path:
    """Write one rung of an image led over a grid, all its other rungs being as they are, or random.

    The grid has the two numbers of the rung along its sides that move the image most, where it has two.

    Args:
        stack: in eval mode, with codes of rungs on top; for random ones one that samples.
        x: one image, (1, C, H, W) in [0, 1].
        path: the PNG.
        rung: counted from 1, the shallowest.
        others: ``fixed``, as in the image; ``random``, drawn for every place, as Zhao, Song and Ermon (2017) do.
        steps: along each side.
        reach: of the grid, from -reach to reach; codes have unit scale.
        seed: of the draws.

    Raises:
        EvaluationError: the codes have no such rung, or the stack cannot sample.
    """
    at = place(stack.code_shape, rung)
    with torch.no_grad():
        z = stack.encode(x.to(stack.device))
    numbers = _moving(stack, z)[at].argsort(descending=True)[:2].tolist()
    values = torch.linspace(-reach, reach, steps)
    with torch.no_grad():
        grid = z[0, at].repeat(steps ** len(numbers), 1)
        grid[:, numbers] = torch.cartesian_prod(*[values] * len(numbers)).reshape(len(grid), -1).to(z)
        codes = traverse(z, rung, grid)[0]
        if others == "random":
            draw = stack.sampler(generator=torch.Generator().manual_seed(seed))
            codes = swap(draw(len(codes)).to(z), codes, rung)
        rows = stack.decode(codes).cpu().split(steps)
    named = " down and ".join(str(number + 1) for number in numbers)
    title = f"rung {rung}, number {named} across, from {-reach:g} to {reach:g}, the others {others}"
    words = [f"{value:.2g}" for value in values.tolist()]
    return labelled(rows, path, title=title, beside=words if len(numbers) > 1 else (), above=words)


def _moving(stack: Stack, z: Tensor) -> Tensor:
    """How much images move with each number of the codes about this one, (1, rungs, width): (rungs, width)."""
    around = z + torch.randn(AROUND, *z.shape[1:], generator=torch.Generator().manual_seed(0)).to(z) / 2
    with seeded(0, z.device):
        return stack.sensitivity(around, len(stack.levels))
