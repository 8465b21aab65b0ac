"""The command `zoo dct-table`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.stack import Stack

MOST = 1000
"""Images that are looked at."""


@click.command()
@click.argument("spec")
@click.option("--data", required=True, metavar="NAME|DIR|FILE", help="Images to look at, a thousand at most.")
def dct_table(spec: str, data: str) -> None:
    """Show where the variance of images is.

    SPEC begins with a dct level, as in 32x32x1/dct4x4x10. For every frequency of its blocks the share of the images'
    variance is printed, in percent, the lowest at the top left; then, how much the coefficients hold that it keeps.
    """
    import zoo
    from zoo.data import images

    stack = zoo.build(spec)
    shown = images(data, stack.input_shape, split="train")
    table, kept = _shares(stack, shown.batch(slice(0, MOST)))
    for row in table.tolist():
        click.echo(" ".join(f"{100 * share:6.2f}" for share in row))
    level = stack.level(1)
    features, most = level.code_shape[0], table.numel() * stack.input_shape[0]
    click.echo(f"{features} of {most} coefficients hold {100 * kept:.2f} % of the variance")


def _shares(stack: Stack, x: Tensor) -> tuple[Tensor, float]:
    """Parts of the variance of x, (N, C, H, W): of each frequency, (h, w), and of what the first level keeps."""
    from zoo.errors import SpecError
    from zoo_dct.stage import BlockDCT
    from zoo_dct.transform import Analysis, zigzag

    stage = stack.level(1).stage if len(stack.levels) else None
    if not isinstance(stage, BlockDCT):
        raise SpecError(f"{stack.spec} does not begin with a dct level, as 32x32x1/dct4x4x10 does")
    height, width = stage.block
    channels = stack.input_shape[0]
    everything = Analysis(channels, stage.block, channels * height * width)(x)
    variance = everything.transpose(0, 1).flatten(1).var(1, correction=0)
    shares = variance / variance.sum().clamp_min(1e-12)  # images of one colour have no variance to share
    table = shares.new_zeros(height, width)
    for (row, column), share in zip(zigzag(height, width), shares.unflatten(0, (-1, channels)).sum(1), strict=True):
        table[row, column] = share
    return table, shares[: stage.code_shape[0]].sum().item()
