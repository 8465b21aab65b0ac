"""What each rung of a ladder decides: `zoo rungs`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from zoo.cli.columns import columns
from zoo.cli.targets import FOLDER, check_apart, complete_saved, loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from zoo.data import Images
    from zoo.evaluation import Redrawn
    from zoo.pictures.rungs import Others
    from zoo.stack import Stack

SHOWN = 2  # images that one rung is drawn anew of
OTHERS = 12  # images that rungs are taken from


@click.command()
@click.argument("target", metavar="DIR", shell_complete=complete_saved)
@click.option("--data", required=True, metavar="NAME|DIR|FILE", help="Images; their test part is shown and measured.")
@click.option("--out", required=True, type=FOLDER, metavar="DIR", help="The folder for the pictures and rungs.json.")
@click.option("--classifier", metavar="NET[=FILE]", default="own", show_default=True,
              help="What tells classes apart: own, one that learns from the data; else as in zoo eval.")  # fmt: skip
@click.option("--others", type=click.Choice(["fixed", "random"]), default="fixed", show_default=True,
              help="The other rungs, while one is led over a grid.")  # fmt: skip
@click.option("--seed", type=int, metavar="N", default=0, show_default=True, help="Same seed, same images and numbers.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def rungs(target: str, data: str, out: Path, classifier: str, others: Others, seed: int, *, as_json: bool) -> None:
    """Show and measure what each rung of a ladder decides.

    DIR is a stack whose top codes have rungs, as those of vlae. Pictures: one rung drawn anew from the prior, one taken
    from other images, and each led over a grid. Numbers: how often the class of an image changes when a rung is drawn
    anew, and how much its pixels do.
    """
    from zoo import evaluation, files
    from zoo.data import images
    from zoo.rungs import count

    check_apart(out, data, drawn=True)
    stack = loaded(target)
    count(stack.code_shape)
    stack.sampler()  # whether it can sample is found out now, and not when a classifier has learned
    shown = images(data, stack.input_shape, split="test")
    found = evaluation.redraw(stack, shown, _classify(stack, data, shown, classifier), seed=seed)
    rows = [vars(row) for row in found]
    files.write_json(out / "rungs.json", {"spec": str(stack.spec), "data": shown.name, "seed": seed, "rungs": rows})
    click.echo(json.dumps(rows, indent=2) if as_json else _table(found))
    for path in _drawn(stack, shown, found, out, others=others, seed=seed):
        click.echo(path, err=as_json)


def _classify(stack: Stack, data: str, shown: Images, classifier: str) -> Callable[[Tensor], Tensor] | None:
    """What says the class of images; nothing where the images have no labels."""
    from zoo.data import images
    from zoo.evaluation.recognition import judge_of

    if shown.labels is None:
        click.echo(f"{shown.name} has no labels: nothing is said of classes.", err=True)
        return None
    train = images(data, stack.input_shape, split="train")
    return judge_of(classifier, shown, train=train, device=stack.device, progress=True).labels


def _table(found: Sequence[Redrawn]) -> str:
    heading = ("rung", "another class", "pixel variance", "nats")
    rows = [
        ("all" if row.rung is None else str(row.rung),
         "-" if row.changed is None else f"{row.changed:.1%}",
         f"{row.variance:.5f}",
         "-" if row.nats is None else f"{row.nats:.2f}")
        for row in found
    ]  # fmt: skip
    return columns([heading, *rows])


def _drawn(
    stack: Stack, shown: Images, found: Sequence[Redrawn], out: Path, *, others: Others, seed: int
) -> list[Path]:
    """The pictures, of images that the seed has chosen."""
    import torch

    from zoo.pictures import rungs as pictures

    index = torch.randperm(len(shown), generator=torch.Generator().manual_seed(seed))[: OTHERS + 1]
    x = shown.batch(index)
    beside = [f"{row.changed:.0%} another class" for row in found if row.changed is not None]
    paths = [
        pictures.redraws(stack, x[:SHOWN], out / "redrawn.png", seed=seed, beside=beside),
        pictures.swaps(stack, x[:1], x[1:], out / "swapped.png"),
    ]
    for rung in range(1, len(found)):
        path = out / f"rung-{rung}.png"
        paths.append(pictures.traversal(stack, x[:1], path, rung=rung, others=others, seed=seed))
    return paths
