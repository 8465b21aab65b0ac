"""Images made of others by their codes: `zoo interpolate` and `zoo similar`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zoo.cli.targets import FILE, complete_saved, loaded, png

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("target", metavar="DIR", shell_complete=complete_saved)
@click.argument("first", metavar="A", type=click.Path())
@click.argument("last", metavar="B", type=click.Path())
@click.option("-n", "--steps", type=click.IntRange(min=2), default=9, show_default=True, help="Mixtures in the strip.")
@click.option("--out", type=FILE, metavar="FILE.png", callback=png, default="interpolation.png", show_default=True,
              help="The strip.")  # fmt: skip
@click.option("--gif", type=FILE, metavar="FILE.gif", help="Also an animation, there and back.")
@click.option("--frames", type=click.IntRange(min=2), default=21, show_default=True, help="Mixtures in it, one way.")
def interpolate(target: str, first: str, last: str, steps: int, out: Path, gif: Path | None, frames: int) -> None:
    """Turn one image into another.

    A and B are files, or numbers of named data, as in sample:9000. The strip is A, its reconstruction, mixtures of
    both codes, the reconstruction of B, and B. The animation is of five images: these, with the mixture in the middle.
    """
    if gif is not None and gif.suffix.lower() != ".gif":
        raise click.BadParameter("an animation is a .gif file", param_hint="--gif")
    from zoo.data import image
    from zoo.pictures.mixing import animation, strip

    stack = loaded(target)
    a, b = (image(source, stack.input_shape).batch(slice(0, 1)) for source in (first, last))
    click.echo(strip(stack, a, b, steps, out))
    if gif is not None:
        click.echo(animation(stack, a, b, frames, gif))


@click.command()
@click.argument("target", metavar="DIR", shell_complete=complete_saved)
@click.argument("source", metavar="IMAGE", type=click.Path())
@click.option("-n", "count", type=click.IntRange(min=1), default=14, show_default=True, help="How many.")
@click.option("--out", type=FILE, metavar="FILE.png", callback=png, default="similar.png", show_default=True,
              help="The picture.")  # fmt: skip
@click.option("--seed", type=int, metavar="N", help="Same seed, same images.", show_default="new ones every time")
def similar(target: str, source: str, count: int, out: Path, seed: int | None) -> None:
    """Draw images that are like one.

    IMAGE is a file, or a number of named data, as in sample:9000. Its code is drawn from what the encoder takes to be
    likely, so the stack's top level needs a posterior, as kl gives it. Shown are the image, the mean, and the draws.
    """
    import torch

    from zoo.data import image
    from zoo.pictures.grids import captioned

    stack = loaded(target)
    x = image(source, stack.input_shape).batch(slice(0, 1))
    drawn = stack.similar(x, seed=seed, draws=count)
    shown = torch.cat([x, stack.similar(x, noise=False).cpu(), drawn.cpu()])
    captions = ["image", "mean", *(str(number) for number in range(1, count + 1))]
    click.echo(captioned([shown], captions, out, title=f"like {source}: draws from its posterior, {stack.spec}"))
