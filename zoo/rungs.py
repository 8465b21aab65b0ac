"""Codes of rungs, (B, rungs, width), as a ladder gives them: one rung changed, the others as they are.

Rungs are counted from 1, the shallowest: rung n is ``z[:, n - 1]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from zoo.errors import EvaluationError

if TYPE_CHECKING:
    from torch import Tensor


def count(shape: tuple[int, ...]) -> int:
    """How many rungs codes of this shape have.

    Raises:
        EvaluationError: they are no ladder's.
    """
    if len(shape) != 2:
        raise EvaluationError(
            f"codes of {'x'.join(map(str, shape))} have no rungs: each of their numbers stands as deep in the network "
            "as any other. A ladder has rungs, as '28x28x1/vlae4x16+kl'"
        )
    return shape[0]


def place(shape: tuple[int, ...], rung: int) -> int:
    """Where codes of this shape have this rung, from 0.

    Raises:
        EvaluationError: there is no such rung.
    """
    found = count(shape)
    if not 1 <= rung <= found:
        raise EvaluationError(f"rung {rung}: these codes have rungs 1, the shallowest, to {found}")
    return rung - 1


def swap(z: Tensor, other: Tensor, rung: int) -> Tensor:
    """The codes z, (B, rungs, width), with this rung of the others.

    >>> swap(torch.zeros(1, 3, 2), torch.ones(1, 3, 2), 1)[0].tolist()
    [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]

    Raises:
        EvaluationError: there is no such rung.
    """
    at = place(tuple(z.shape[1:]), rung)
    return torch.cat([z[:, :at], other[:, at : at + 1], z[:, at + 1 :]], 1)


def traverse(z: Tensor, rung: int, values: Tensor) -> Tensor:
    """The codes z, (B, rungs, width), once with each of these values, (N, width), in this rung: (B, N, rungs, width).

    Raises:
        EvaluationError: there is no such rung.
    """
    many = z[:, None].repeat(1, len(values), 1, 1)
    many[:, :, place(tuple(z.shape[1:]), rung)] = values.to(z)
    return many
