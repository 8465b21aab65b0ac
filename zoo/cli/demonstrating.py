"""`zoo demo`: the whole way once, on images that come with the zoo."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import click

from zoo.cli.targets import FOLDER
from zoo.cli.training import fitted
from zoo.errors import FileError, TrainingError

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.stack import Stack

SPEC = "28x28x1/conv7x7x10/fc8+wae_mmd"
DATA = "sample"
STEPS = 1500  # a level; a fixed number, so that the same machine always finds the same

RESULTS = {
    "report.json": "the numbers above, and how they were measured",
    "reconstructions.png": "images, and their reconstructions level by level",
    "pairs.png": "each image, and its reconstruction beside it",
    "samples.png": "new images, decoded from draws of the prior",
    "interpolation.png": "from one image to another, through their codes",
    "codes.png": "where the codes of the classes lie",
    "curves.png": "the losses while it learned",
}
OTHERS = (
    "config.json",
    "level-*.safetensors",
    "run.json",
    "history.jsonl",
    "checkpoints",
    "logs/tensorboard",
)
"""What a run leaves besides."""


@click.command()
@click.option("--out", type=FOLDER, default="runs/demo", show_default=True, help="The folder for all of it.")
@click.option("--fresh", is_flag=True, help="Remove the demo that is there, and start again.")
def demo(out: Path, *, fresh: bool) -> None:
    """Train, measure and draw a first stack, in minutes.

    Two levels, from 784 pixels to 8 numbers. They learn from 9,000 images of clothes that come with the zoo, and
    are measured and drawn on 1,000 others. Ctrl-C stops it; called again, it goes on.
    """
    from zoo import evaluation, files

    if fresh:
        _clear(out)
    if all((out / name).is_file() for name in RESULTS):
        click.echo(f"The demo in {out} is finished; --fresh starts again.\n", err=True)
    else:
        _run(out)
    click.echo(evaluation.table(files.read_report(out) or {}))
    click.echo(f"\nEverything is in {out}:")
    for name, meaning in RESULTS.items():
        click.echo(f"  {name:20} {meaning}")
    click.echo(f'In Python: zoo.load("{out}"). Next: zoo show {out}; zoo train --help')


def _run(out: Path) -> None:
    from accelerate.state import PartialState

    from zoo import evaluation, files, pictures

    stack = _trained(out).to(PartialState().device)
    click.echo("Measuring and drawing.", err=True)
    files.write_report(out, evaluation.evaluate(stack, DATA, progress=True))
    pictures.draw(stack, DATA, out)


def _trained(out: Path) -> Stack:
    from zoo.builder import build

    begun = (out / "run.json").is_file()
    click.echo(f"{'Going on with' if begun else 'Training'} {SPEC}: a few minutes on two cores.", err=True)
    going_on = f"Stopped. What was trained so far is in {out}; the same command goes on, with --fresh it starts again."
    try:
        return fitted(build(SPEC), DATA, out=out, steps=STEPS, resume=begun, going_on=going_on)
    except TrainingError as error:
        if begun:
            raise TrainingError(f"{error}\n--fresh starts again; --out takes another folder.") from error
        raise


def _clear(out: Path) -> None:
    """Remove what a demo leaves, and nothing else."""
    from zoo import card, files

    if not (out / "run.json").is_file():
        return
    if files.read_json(out / "run.json").get("spec") != SPEC:
        raise FileError(f"{out} holds another run than the demo's, which --fresh does not remove: choose another --out")
    for pattern in (*RESULTS, *OTHERS):
        for path in out.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if (out / files.CARD).is_file() and card.is_generated((out / files.CARD).read_bytes()):
        (out / files.CARD).unlink()
    if (out / "logs").is_dir() and not any((out / "logs").iterdir()):
        (out / "logs").rmdir()
