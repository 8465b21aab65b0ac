"""How much of a checkerboard a decoder's steps up leave in what it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from einops import rearrange

from zoo.errors import EvaluationError

if TYPE_CHECKING:
    from torch import Tensor

MARGIN = 1
"""Tiles left out at every edge: what padding does there repeats nowhere."""


def checkerboard(images: Tensor, factor: tuple[int, int]) -> float:
    """The part of the energy of images, (B, C, H, W), that lies at the frequency of a step up, and its multiples.

    Steps up by p and q that treat the pixels of a p x q tile unequally leave a pattern that every tile repeats: energy
    at multiples of 1/p and 1/q cycles a pixel. By Parseval's theorem that is the variance of the mean tile, here over
    the variance of all pixels, image by image and channel by channel; both summed. 0 is none; of white noise it is one
    over the number of tiles, and of a pure checkerboard 1.

    Odena, Dumoulin and Olah (2016), Deconvolution and checkerboard artifacts, Distill.

    Raises:
        EvaluationError: the images are smaller than 3 x 3 tiles, or a side is no multiple of its factor.
    """
    (p, q), (height, width) = factor, images.shape[2:]
    least = 2 * MARGIN + 1
    if height % p or width % q or height < least * p or width < least * q:
        raise EvaluationError(
            f"images of {height}x{width} are not {least}x{least} whole tiles of {p}x{q}, which a checkerboard is "
            "looked for in: take a step up that divides them"
        )
    inner = images[:, :, MARGIN * p : height - MARGIN * p, MARGIN * q : width - MARGIN * q].cpu().double()
    tile = rearrange(inner, "b c (h p) (w q) -> b c p q h w", p=p, q=q).mean((-1, -2))
    energy = inner.var((2, 3), unbiased=False).sum()
    return float(tile.var((2, 3), unbiased=False).sum() / energy) if energy > 0 else 0.0
