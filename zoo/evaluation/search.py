"""What is near to a code: the codes of many images, and the nearest of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from zoo import codes
from zoo.errors import EvaluationError
from zoo.evaluation.reconstruction import batches

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.codes import Codes
    from zoo.data import Images
    from zoo.stack import Stack

AT_ONCE = 4096  # codes that are looked through together


def coded(stack: Stack, shown: Images, *, progress: bool = False) -> Codes:
    """The top codes of images, unit scale: from the cache, or encoded now and kept there.

    Raises:
        EvaluationError: the stack has no level that encodes.
    """
    if not len(stack.levels):
        raise EvaluationError(f"{stack.spec} has no level that encodes images: there are no codes to look at")
    with tqdm(total=len(shown), desc="encode", unit="img", leave=None, disable=not progress) as bar:
        return codes.encode(stack, shown, levels=len(stack.levels), tick=bar.update)


def nearest(z: Tensor, among: Codes, count: int) -> tuple[Tensor, Tensor]:
    """The codes nearest to one code, by Euclidean distance.

    Args:
        z: (*code).
        among: where they are looked for; read in parts, so that there may be more than memory holds.
        count: how many; all where there are fewer.

    Returns:
        Their distances, ascending, and their places, each (count,); of equal ones the first come first.
    """
    distances = torch.cat([
        (among.batch(torch.arange(part.start, part.stop)) - z.cpu()).flatten(1).norm(dim=1)
        for part in batches(len(among), AT_ONCE)
    ])  # fmt: skip
    order = distances.argsort(stable=True)[:count]
    return distances[order], order
