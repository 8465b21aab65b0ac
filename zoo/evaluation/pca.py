"""The yardstick: principal components of equal width, of whole inputs for a vector code and of patches for a map."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange
from sklearn.decomposition import PCA

from zoo.errors import EvaluationError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.interfaces import Shape

PATCHES = 200_000  # that components are fitted on, at most
EXACT = 2048  # numbers up to which the covariance is diagonalised; beyond it the components are found by projection
COST = 4e10  # multiplications, rows x numbers x width, of one pass of the projection


@dataclass(frozen=True)
class Pca:
    """Principal components as a pair of maps between inputs and codes of the shape that the stage's have.

    Args:
        model: the fitted components.
        code_shape: of one code, (C, h, w) for patches.
        patch: height and width of the patches; None when inputs are taken whole.
        input_shape: of one input.
        inputs: how many inputs the components were fitted on.
    """

    model: PCA
    code_shape: Shape
    patch: tuple[int, int] | None
    input_shape: Shape
    inputs: int

    def encode(self, x: Tensor) -> Tensor:
        """(B, *input) to (B, *code), on the CPU."""
        z = torch.from_numpy(self.model.transform(_rows(x, self.patch).cpu().numpy())).float()
        if self.patch is None:
            return z.reshape(-1, *self.code_shape)
        _, height, width = self.code_shape
        return rearrange(z, "(b h w) c -> b c h w", h=height, w=width)

    def decode(self, z: Tensor) -> Tensor:
        """(B, *code) to (B, *input); pixels are not clamped."""
        if self.patch is None:
            return self._inverse(z.flatten(1)).reshape(-1, *self.input_shape)
        _, height, width = self.code_shape
        x = self._inverse(rearrange(z, "b c h w -> (b h w) c"))
        return rearrange(x, "(b h w) (c p q) -> b c (h p) (w q)", h=height, w=width, p=self.patch[0], q=self.patch[1])

    def describe(self) -> dict[str, Any]:
        """What was fitted, and on how much: JSON-ready."""
        return {
            "of": "whole inputs" if self.patch is None else f"patches of {self.patch[0]}x{self.patch[1]}",
            "components": int(self.model.n_components_),
            "fitted_on_inputs": self.inputs,
            "fitted_on_rows": int(self.model.n_samples_),
            "solver": str(self.model.svd_solver),
            "explained_variance": float(self.model.explained_variance_ratio_.sum()),
        }

    def _inverse(self, z: Tensor) -> Tensor:
        return torch.from_numpy(self.model.inverse_transform(z.cpu().numpy())).float()


def fit(x: Tensor, code_shape: Shape, *, seed: int) -> Pca:
    """Principal components of inputs (N, *input), as many numbers of code as ``code_shape`` has.

    A code (C, h, w) of inputs whose height and width it divides is met by C components of every (H/h)x(W/w) patch, any
    other code by as many components of whole inputs as it has numbers.

    Raises:
        EvaluationError: there are not that many components to be had from this many inputs, or they cost too much.
    """
    patch = _patch(tuple(x.shape[1:]), code_shape)
    width = prod(code_shape) if patch is None else code_shape[0]
    numbers = x[0].numel() if patch is None else x.shape[1] * patch[0] * patch[1]
    per_input = 1 if patch is None else code_shape[1] * code_shape[2]
    inputs = min(len(x), _row_limit(numbers, width, patch) // per_input)
    if width > numbers:
        raise EvaluationError(f"{width} numbers for {numbers}: more than the components there are")
    if inputs * per_input <= width:
        raise EvaluationError(f"{width} components need more than {inputs * per_input:,} rows of {numbers} numbers")
    solver = "covariance_eigh" if numbers <= EXACT else "randomized"
    model = PCA(width, svd_solver=solver, random_state=seed % 2**32)
    with np.errstate(invalid="ignore"):  # the explained variance of inputs that are all the same
        model.fit(_rows(x[:inputs], patch).cpu().numpy())
    return Pca(model, code_shape, patch, tuple(x.shape[1:]), inputs)


def _patch(input_shape: Shape, code_shape: Shape) -> tuple[int, int] | None:
    """Height and width of the patch of the input that stands over one pixel of the code."""
    if len(input_shape) != 3 or len(code_shape) != 3:
        return None
    (_, height, width), (_, rows, columns) = input_shape, code_shape
    if (rows, columns) == (1, 1) or height % rows or width % columns:
        return None
    return height // rows, width // columns


def _row_limit(numbers: int, width: int, patch: tuple[int, int] | None) -> int:
    limit = 10**9 if patch is None else PATCHES
    return limit if numbers <= EXACT else min(limit, int(COST / (numbers * width)))


def _rows(x: Tensor, patch: tuple[int, int] | None) -> Tensor:
    if patch is None:
        return x.flatten(1)
    return rearrange(x, "b c (h p) (w q) -> (b h w) (c p q)", p=patch[0], q=patch[1])
