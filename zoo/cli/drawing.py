"""Pictures: `zoo sample` and `zoo draw`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zoo.cli.targets import FILE, FOLDER, check_apart, loaded, png, split_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("-n", "count", type=click.IntRange(min=1), default=16, show_default=True, help="How many.")
@click.option("--out", required=True, type=FILE, metavar="FILE.png", callback=png, help="The picture.")
@click.option("--seed", type=int, help="Same seed, same images.", show_default="new ones every time")
@click.option("--label", type=click.IntRange(min=0), help="The class, by number, for a head that knows classes.")
def sample(folder: Path, count: int, out: Path, seed: int | None, label: int | None) -> None:
    """Draw new images from a saved stack, all in one picture."""
    from zoo.pictures import grid

    images = loaded(folder, part="decoder").sample(count, seed=seed, label=label)
    click.echo(grid(images, out))


@click.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--data", required=True, metavar="NAME|DIR|FILE", help="Images; their test part is shown.")
@split_option("test", "The part of the images that is shown.")
@click.option("--seed", type=int, metavar="N", default=0, show_default=True, help="Same seed, same pictures.")
@click.option("--out", required=True, type=FOLDER, help="The folder for the pictures.")
def draw(folder: Path, data: str, split: str, seed: int, out: Path) -> None:
    """Draw a saved stack at work.

    Reconstructions, samples, draws from posteriors, interpolations, codes and, where there is a history, the curves of
    training.
    """
    from zoo import pictures

    check_apart(out, data, drawn=True)
    history = folder / "history.jsonl"
    for path in pictures.draw(loaded(folder), data, out, split=split, seed=seed, history=history):
        click.echo(path)
