"""Another command `train`, which is never reached."""

from __future__ import annotations

import click


@click.command()
def train() -> None:
    """Say who is talking."""
    click.echo("This is the train of stackzoo-collides.")
