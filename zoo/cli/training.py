"""`zoo train`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.learning import ABOVE_ZERO, POSITIVE, learning_options
from zoo.cli.program import Stopped
from zoo.cli.targets import FOLDER, check_apart, complete_target, opened
from zoo.errors import ZooError

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.stack import Stack

BUDGETS = ("epochs", "steps", "minutes")


def _rate(text: str) -> float | str:
    try:
        return text if text == "auto" else ABOVE_ZERO(text)
    except click.BadParameter:
        raise click.BadParameter(f"{text!r} is no number above 0, nor auto") from None


def _parts(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list of parts of the budget, as in 0.5,0.75") from None


# An option that is not given is left to zoo.training.Options, which imports torch; what it then is stands here in words
# only. A test holds the two together.
@click.command()
@click.argument("target", metavar="SPEC|DIR", shell_complete=complete_target)
@click.option("--data", required=True, metavar="NAME|DIR|FILE", help="Images to train on.")
@click.option(
    "--out", required=True, type=FOLDER, metavar="DIR", help="Where the run is kept; afterwards it is a stack to load."
)
@click.option(
    "--val",
    metavar="NAME|DIR|FILE",
    help="Images to choose the best weights by.",
    show_default="5 % of --data, at most 1,000",
)
@click.option("--fold", metavar="K/N", show_default="none",
              help="Choose the best weights by part K of N stratified parts of --data instead.")  # fmt: skip
@click.option(
    "--level", type=POSITIVE, metavar="N", help="Train this level alone.", show_default="all, one after the other"
)
@click.option("--epochs", type=POSITIVE, metavar="N", help="Passes over the images, for each level.", show_default="20")
@click.option("--steps", type=POSITIVE, metavar="N", help="Optimiser steps for each level, instead of epochs.")
@click.option("--minutes", type=ABOVE_ZERO, metavar="M", help="Minutes for each level, instead of epochs.")
@learning_options
@click.option("--refine", is_flag=True, help="Afterwards train all levels end to end in pixels, for as long again.")
@click.option("--lr", type=_rate, metavar="X|auto", show_default="0.001",
              help="The highest learning rate; auto looks for one for every level, as lr-find does.")  # fmt: skip
@click.option("--schedule", type=click.Choice(["cosine", "multistep", "onecycle", "constant"]), show_default="cosine")
@click.option("--milestones", type=_parts, metavar="P,P", show_default="0.5,0.75",
              help="Where multistep divides the rate by ten: parts of the budget.")  # fmt: skip
@click.option("--ema", type=click.FloatRange(0, 1, max_open=True), metavar="X", show_default="0.998",
              help="Decay of the running average of the weights, which is what is kept; 0 for none.")  # fmt: skip
@click.option("--compile", is_flag=True, help="Compile with torch.compile.")
@click.option(
    "--log-every", type=POSITIVE, metavar="N", help="Steps between lines of history.jsonl.", show_default="50"
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out, which was given the same options.")
@click.option("--from", "point", type=click.Choice(["last", "best"]), show_default="last", help="Where to resume from.")
def train(
    target: str, data: str, out: Path, val: str | None, *, strict: bool, resume: bool, point: str | None, **options: Any
) -> None:
    """Train a stack, level by level.

    A spec is trained from the start, the stack in a folder is trained on. Ctrl-C stops after the step; the same
    command with --resume goes on. At the end stand the commands that evaluate the stack, draw it and sample from it.
    """
    from accelerate.state import PartialState

    from zoo.training import Options

    chosen = {name: value for name, value in options.items() if value is not None and value is not False}
    budgets = [f"--{name}" for name in BUDGETS if name in chosen]
    if len(budgets) > 1:
        raise click.UsageError(f"{' and '.join(budgets)}: one of them says how long to train.")
    if point is not None and not resume:
        raise click.UsageError("--from says where to resume from: it takes --resume.")
    try:
        Options(**chosen)
    except ZooError as error:
        raise click.UsageError(str(error)) from error
    check_apart(out, data)
    stack = opened(target, seed=chosen.get("seed", 0))
    fitted(stack, data, out=out, val=val, strict=strict, resume=resume and (point or "last"), **chosen)
    if PartialState().is_main_process:
        click.echo(f"{stack.spec} is in {out}. Next:")
        for command in _next(stack, shlex.quote(str(out)), shlex.quote(data)):
            click.echo(f"  {command}")


def fitted(stack: Stack, data: str, *, going_on: str = "", **options: Any) -> Stack:
    """``zoo.fit``; Ctrl-C ends it with the exit code of an interrupt, and ``going_on`` or the trainer's own advice."""
    from zoo.training import InterruptedTrainingError, fit

    try:
        return fit(stack, data, **options)
    except InterruptedTrainingError as stopped:
        raise Stopped(going_on or str(stopped)) from stopped


def _next(stack: Stack, out: str, data: str) -> list[str]:
    fresh = next((number for number, level in enumerate(stack.lower(), 1) if not level.trained), None)
    if fresh is not None:
        return [f"zoo train {out} --level {fresh} --data {data} --out {out}-level-{fresh}"]
    commands = [f"zoo eval {out} --data {data}", f"zoo draw {out} --data {data} --out {out}"]
    if stack.head is not None or stack.level(len(stack.levels)).prior is not None:
        commands.append(f"zoo sample {out} --out samples.png")
    return commands
