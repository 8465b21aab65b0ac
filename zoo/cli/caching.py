"""`zoo cache`: what is kept to be used again, and how to be rid of it."""

from __future__ import annotations

import json
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click

from zoo.cli.columns import columns

if TYPE_CHECKING:
    from zoo.cache import Entry

KINDS = ("codes", "features", "images")  # as in zoo.cache, which imports torch

only = click.option("--kind", type=click.Choice(KINDS), help="Only entries of this kind.")


@click.group()
def cache() -> None:
    """Codes, images and features that are kept to be used again.

    All of it can be made again. It is in $ZOO_CACHE, or ~/.cache/zoo, and grows to $ZOO_CACHE_LIMIT, or 20GB: then what
    was not used for the longest time goes.
    """


@cache.command("list")
@only
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_entries(kind: str | None, *, as_json: bool) -> None:
    """List what there is, what was used last first."""
    from zoo import cache
    from zoo.cache.folder import readable

    found = _chosen(kind, "*")
    if as_json:
        rows = [{**vars(entry), "folder": str(entry.folder)} for entry in found]
        click.echo(json.dumps({"folder": str(cache.root()), "limit": cache.limit(), "entries": rows}, indent=2))
        return
    if found:
        click.echo(columns([[entry.kind, entry.title, _rows(entry), readable(entry.bytes), _when(entry),
                             entry.folder.name[:8]] for entry in found]))  # fmt: skip
    held = sum(entry.bytes for entry in found)
    click.echo(f"{_count(found)}, {readable(held)}, in {cache.root()} (limit {readable(cache.limit())})", err=True)


@cache.command()
@only
def verify(kind: str | None) -> None:
    """Check every file by its sha256; the exit code is 1 when one is damaged.

    What is damaged is made again when it is next asked for.
    """
    from tqdm import tqdm

    from zoo import cache

    damaged = 0
    found = _chosen(kind, "*")
    for entry in tqdm(found, desc="verify", unit="entry", disable=None):
        wrong = cache.verify(entry)
        damaged += bool(wrong)
        for line in wrong:
            click.echo(f"{entry.title}: {line}")
    click.echo(f"{_count(found)} checked, {damaged} damaged")
    if damaged:
        click.echo("What is damaged is made again when it is next asked for; 'zoo cache clear' removes it.")
        raise click.exceptions.Exit(1)


@cache.command()
@click.argument("pattern", default="*")
@only
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(pattern: str, kind: str | None, *, yes: bool) -> None:
    """Remove entries.

    PATTERN is what `zoo cache list` shows, or a glob for it, as in '*fashion_mnist*', or the beginning of a number in
    its last column. What another process is at work on stays.
    """
    from zoo import cache
    from zoo.cache.folder import readable

    found = _chosen(kind, pattern)
    if not found:
        click.echo("Nothing to remove.")
        return
    size = readable(sum(entry.bytes for entry in found))
    if not yes:
        click.confirm(f"Remove {_count(found)}, {size}?", abort=True)
    gone = [entry for entry in found if cache.clear(entry)]
    click.echo(f"Removed {_count(gone)}, {readable(sum(entry.bytes for entry in gone))}.")
    for entry in found:
        if entry not in gone:
            click.echo(f"Still there, because it is in use or cannot be removed: {entry.folder}")


def _chosen(kind: str | None, pattern: str) -> list[Entry]:
    from zoo import cache

    return [entry for entry in cache.entries() if kind in (None, entry.kind) and _matches(entry, pattern)]


def _matches(entry: Entry, pattern: str) -> bool:
    numbered = pattern != "" and entry.folder.name.startswith(pattern)
    return numbered or entry.title == pattern or fnmatchcase(entry.title, pattern)


def _rows(entry: Entry) -> str:
    if entry.error is not None:
        return "damaged"
    return f"{entry.rows:,} rows" if entry.made == entry.rows else f"{entry.made:,} of {entry.rows:,} rows"


def _when(entry: Entry) -> str:
    return datetime.fromtimestamp(entry.used).astimezone().strftime("%Y-%m-%d %H:%M")


def _count(found: list[Entry]) -> str:
    return "1 entry" if len(found) == 1 else f"{len(found)} entries"
