"""`zoo lr-find`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zoo.cli.columns import columns
from zoo.cli.learning import learning_options
from zoo.cli.program import Stopped
from zoo.cli.targets import FILE, complete_target, opened, png

if TYPE_CHECKING:
    from pathlib import Path


@click.command("lr-find")
@click.argument("target", metavar="SPEC|DIR", shell_complete=complete_target)
@click.option("--data", required=True, metavar="NAME|DIR|FILE", help="Images to learn from.")
@click.option("--out", type=FILE, metavar="FILE.png", callback=png, help="A picture of the sweep.")
@click.option("--level", type=click.IntRange(min=1), metavar="N", help="The level to sweep.",
              show_default="the first that is not trained")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=2), metavar="N", help="Of the sweep.", show_default="100")
@learning_options
def lr_find(target: str, data: str, out: Path | None, *, strict: bool, **options: Any) -> None:
    """Suggest a learning rate.

    A level is trained for some steps while the rate rises, and then put back as it was. `zoo train --lr auto` does the
    same for each level, and takes the rate that is named last.
    """
    from zoo.training import InterruptedTrainingError, find_lr

    chosen = {name: value for name, value in options.items() if value is not None}
    stack = opened(target, seed=chosen.get("seed", 0))
    try:
        found = find_lr(stack, data, strict=strict, **chosen)
    except InterruptedTrainingError as stopped:
        raise Stopped(str(stopped)) from stopped
    click.echo(f"level {found.level} of {stack.spec}")
    rows = [*found.suggestions.items(), ("auto", found.suggested)]
    click.echo(columns([("suggestion", "rate"), *((name, f"{rate:.2g}") for name, rate in rows)]))
    if out is not None:
        from zoo.pictures.sweeps import sweeps

        click.echo(sweeps({f"level {found.level}": found}, out, title=str(stack.spec)))
