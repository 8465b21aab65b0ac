"""To the Hub and back: `zoo push` and `zoo pull`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from zoo.cli.targets import FOLDER

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.argument("repo", metavar="USER/NAME")
@click.option("--private", is_flag=True, help="Only for you, and whom you let in.")
@click.option("--tag", metavar="TAG", help="Name this state, as in v1; a tag stays where it is.")
@click.option("--revision", metavar="BRANCH", help="Push to this branch.", show_default="main")
@click.option("--message", metavar="TEXT", help="What the commit says.", show_default="the spec")
def push(folder: Path, repo: str, *, private: bool, tag: str | None, revision: str | None, message: str | None) -> None:
    """Push a saved stack to the Hub, in one commit.

    Config, weights, report, model card and, if `zoo draw` has put one beside them, a picture. Where the Hub has all of
    it there is no new commit. Log in first: `hf auth login`.
    """
    from zoo import builder, hub

    stack = builder.load(folder)  # as whoever pulls it will: what does not load is not pushed
    address = hub.push(folder, repo, revision=revision, private=private, tag=tag, message=message)
    at = tag or revision
    source = f"{hub.PREFIX}{repo}{f'@{at}' if at else ''}"
    click.echo(f"{stack.spec} is at {address}\nTo load it: zoo.load({source!r})")


@click.command()
@click.argument("reference", metavar="USER/NAME[@REVISION]")
@click.option("--out", type=FOLDER, metavar="DIR", help="Also copy it here.", show_default="only the Hub's cache")
def pull(reference: str, *, out: Path | None) -> None:
    """Fetch a saved stack from the Hub, once.

    REVISION is a branch, a tag or a commit. Every file is checked by its sha256. Afterwards it loads without network,
    with HF_HUB_OFFLINE=1 without a single request.
    """
    from zoo import hub

    pulled = hub.pull(reference)
    folder = pulled.folder if out is None else hub.copy(pulled, out)
    click.echo(folder)
    click.echo(f"{pulled.reference} is commit {pulled.commit}. Next: zoo show {shlex.quote(str(folder))}", err=True)
