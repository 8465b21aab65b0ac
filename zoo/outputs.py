"""What the numbers of a decoder stand for where they have to be bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def probability(y: Tensor) -> Tensor:
    """Numbers to (0, 1): (tanh(y) + 1) / 2, in float32 at least. About 0 it is (y + 1) / 2, as of pixels in [-1, 1].

    In bfloat16 it would be 1 from a number of 3.1 on, where it has no gradient and a likelihood no end.

    >>> probability(torch.tensor([-9.0, 0.0, 9.0])).round(decimals=2).tolist()
    [0.0, 0.5, 1.0]
    """
    return torch.sigmoid(2 * y.to(torch.promote_types(y.dtype, torch.float32)))
