"""The residual networks for images of 32x32: He, Zhang, Ren and Sun (2016), arXiv:1512.03385, section 4.2."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

WIDTHS = (16, 32, 64)


class CifarResNet(nn.Module):
    """Three groups of basic blocks with 16, 32 and 64 features; images (B, 3, H, W) to logits (B, classes).

    Shortcuts have no parameters (option A of the paper): where a group begins, every other pixel is taken and the new
    channels are zero.

    Args:
        depth: 6n + 2, for n blocks in a group.
        classes: logits.
    """

    def __init__(self, depth: int, classes: int = 10) -> None:
        super().__init__()
        count = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        for number, (before, after) in enumerate(pairwise((WIDTHS[0], *WIDTHS)), 1):
            blocks = [_Block(before if place == 0 else after, after) for place in range(count)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.linear = nn.Linear(WIDTHS[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for number in range(1, len(WIDTHS) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


class _Block(nn.Module):
    """Two convolutions and the shortcut round them."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.stride, self.more = (1, 0) if before == after else (2, after - before)
        self.conv1 = nn.Conv2d(before, after, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        short = x[:, :, :: self.stride, :: self.stride]
        return F.relu(y + F.pad(short, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2)))
