"""An experiment again: `zoo reproduce`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zoo.cli.program import Stopped
from zoo.cli.targets import FOLDER

if TYPE_CHECKING:
    from pathlib import Path


def _named(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r}: a name and a file, as in vgg16=vgg16.safetensors.")
    return name, file


@click.command()
@click.argument("name", metavar="[NAME|FILE.toml]", required=False)
@click.option("--data", metavar="NAME|DIR|FILE", help="Images to train and measure on.", show_default="the recipe's")
@click.option(
    "--quick",
    is_flag=True,
    help="A small run, in minutes, to see that it works; its numbers mean nothing. modern-practice takes "
    "two and a half hours of one core, and its numbers count.",
)
@click.option("--out", type=FOLDER, metavar="DIR", help="Where runs, page and pictures go.",
              show_default="runs/reproduce-NAME")  # fmt: skip
@click.option("--file", "brought", type=_named, multiple=True, metavar="NAME=FILE",
              help="A file that the recipe asks for, as weights; once for each.")  # fmt: skip
@click.option("--only", multiple=True, metavar="STACK",
              help="Train this stack of the recipe; once for each. What is finished is shown too.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", show_default="the recipe's",
              help="How long every run takes, of recipes that train for epochs.")  # fmt: skip
def reproduce(
    name: str | None, *, data: str | None, quick: bool, out: Path | None, brought: tuple[tuple[str, str], ...],
    only: tuple[str, ...], epochs: int | None,
) -> None:  # fmt: skip
    """Repeat an experiment beside its source's numbers.

    Without NAME the recipes are listed. What is finished is kept, so that after Ctrl-C the same command goes on. The
    page is report.md in --out, with the same in report.json and pictures beside it.
    """
    from zoo import experiments
    from zoo.training import InterruptedTrainingError

    if name is None:
        for known in experiments.names():
            click.echo(f"{known}  {experiments.read(known).title}")
        return
    try:
        page = experiments.reproduce(
            name, data=data, quick=quick, out=out, brought=dict(brought), only=only, epochs=epochs
        )
    except InterruptedTrainingError as stopped:
        raise Stopped("stopped. What is finished is kept: the same command goes on.") from stopped
    for warning in page.warnings:
        click.echo(warning, err=True)
    for claim in page.claims:
        click.echo(f"{claim.verdict:9}  {claim.text}: {claim.evidence}")
    click.echo(f"The page is {page.folder / 'report.md'}.")
