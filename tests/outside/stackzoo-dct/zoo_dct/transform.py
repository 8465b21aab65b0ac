"""The discrete cosine transform of blocks, there and back, as modules without parameters."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor, nn


class _Blocks(nn.Module):
    """What both directions know.

    Args:
        channels: C of the maps.
        block: height h and width w of the blocks.
        features: coefficients kept, of C * h * w. They are in JPEG's zig-zag order, lowest frequencies first; of one
            frequency the channels follow each other.
    """

    rows: Tensor
    columns: Tensor
    kept: Tensor

    def __init__(self, channels: int, block: tuple[int, int], features: int) -> None:
        super().__init__()
        self.shape = (*block, channels)
        # Buffers, and saved ones: zoo.load builds a stack without memory and fills in what the file holds.
        self.register_buffer("rows", cosines(block[0]))
        self.register_buffer("columns", cosines(block[1]))
        self.register_buffer("kept", torch.tensor(_order(channels, block)[:features]))


class Analysis(_Blocks):
    """Maps to the coefficients of their blocks."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, features, H / h, W / w)."""
        height, width, _ = self.shape
        blocks = x.unflatten(3, (-1, width)).unflatten(2, (-1, height))
        coefficients = torch.einsum("bcrhkw,uh,vw->buvcrk", blocks, self.rows, self.columns)
        return coefficients.flatten(1, 3).index_select(1, self.kept)


class Synthesis(_Blocks):
    """The way back: the transpose, which is the inverse. Coefficients that were not kept are taken for zero."""

    def forward(self, z: Tensor) -> Tensor:
        """(B, features, H / h, W / w) to (B, C, H, W)."""
        everything = z.new_zeros(len(z), math.prod(self.shape), *z.shape[2:]).index_copy(1, self.kept, z)
        coefficients = everything.unflatten(1, self.shape)
        blocks = torch.einsum("buvcrk,uh,vw->bcrhkw", coefficients, self.rows, self.columns)
        return blocks.flatten(4, 5).flatten(2, 3)


def cosines(size: int) -> Tensor:
    """The orthonormal DCT-II of ``size`` points as a matrix, (frequency, place).

    >>> torch.allclose(cosines(8) @ cosines(8).T, torch.eye(8), atol=1e-6)
    True
    """
    frequency, place = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
    matrix = (math.pi * frequency * (2 * place + 1) / (2 * size)).cos() * math.sqrt(2 / size)
    return torch.where(frequency == 0, math.sqrt(1 / size), matrix).float()


def zigzag(height: int, width: int) -> list[tuple[int, int]]:
    """All (row, column) of a block of frequencies, the lowest first, in JPEG's order.

    >>> zigzag(3, 3)
    [(0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (0, 2), (1, 2), (2, 1), (2, 2)]
    """

    def place(cell: tuple[int, int]) -> tuple[int, int]:
        diagonal = cell[0] + cell[1]
        return diagonal, cell[diagonal % 2 == 0]

    return sorted(product(range(height), range(width)), key=place)


def _order(channels: int, block: tuple[int, int]) -> list[int]:
    """Where the coefficients from the lowest up are in a flattened (row, column, channel)."""
    cells = ((row * block[1] + column) * channels for row, column in zigzag(*block))
    return [cell + channel for cell in cells for channel in range(channels)]
