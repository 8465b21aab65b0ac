"""The critic of images: a logit for every patch."""

from __future__ import annotations

from torch import nn

LARGEST = 8  # times the first width


def patches(channels: int, *, depth: int, width: int) -> nn.Sequential:
    """Images (B, C, H, W) to logits (B, 1, h, w), one for each overlapping patch: Isola et al. (2017), section 3.2.2.

    Convolutions of 4x4 with stride 2, then two with stride 1; with three of stride 2 a patch has 70x70 pixels, with two
    34x34, with one 16x16. Normalised in groups: a batch norm would carry statistics from one player's turn to the
    other's, and from true images to false ones.

    Args:
        channels: of an image.
        depth: convolutions of stride 2.
        width: features of the first; they double with each, up to eight times that.
    """
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    before = width
    for number in range(1, depth + 1):
        after = width * min(2**number, LARGEST)
        stride = 2 if number < depth else 1
        convolution = nn.Conv2d(before, after, 4, stride=stride, padding=1 if stride == 2 else 2)
        layers += [convolution, nn.GroupNorm(_groups(after), after), nn.LeakyReLU(0.2)]
        before = after
    return nn.Sequential(*layers, nn.Conv2d(before, 1, 4, padding=2))


def _groups(width: int, size: int = 16) -> int:
    """How many groups of about ``size`` features divide a width."""
    return next(count for count in range(max(1, width // size), 0, -1) if width % count == 0)
