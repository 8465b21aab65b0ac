"""Codes beside other embeddings: `zoo compare`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from zoo.cli.columns import columns
from zoo.cli.targets import FOLDER, check_apart, complete_saved, loaded

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("targets", metavar="DIR...", nargs=-1, required=True, shell_complete=complete_saved)
@click.option(
    "--data", required=True, metavar="NAME|DIR|FILE", help="Images: fitted on one part, measured on the other."
)
@click.option("--out", type=FOLDER, metavar="DIR", default="runs/compared", show_default=True,
              help="The folder for the page and its pictures.")  # fmt: skip
@click.option("--most", type=click.IntRange(min=10), metavar="N", default=10_000, show_default=True,
              help="Images of each part, at most; 30,000 for 3,000 of each of ten classes.")  # fmt: skip
@click.option("--seed", type=int, metavar="N", default=0, show_default=True, help="Same seed, same page.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def compare(targets: tuple[str, ...], data: str, out: Path, most: int, seed: int, *, as_json: bool) -> None:
    """Compare the codes of stacks with other embeddings.

    Those are the pixels themselves, random projections and PCA as wide as each code, and UMAP, which takes the extra
    'umap'. Measured are neighbours, a linear probe, k-means, trustworthiness and silhouette, and each is drawn.
    The page is report.md in --out, with the same in report.json and pictures beside it.
    """
    from zoo import experiments

    check_apart(out, data, drawn=True)
    stacks = {target: loaded(target) for target in dict.fromkeys(targets)}
    page = experiments.compare(stacks, data, out, most=most, seed=seed, progress=True)
    rows = next(iter(page.tables.values()))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        heading = list(dict.fromkeys(key for row in rows for key in row if key != "note"))
        click.echo(columns([heading, *(["-" if row[key] is None else row[key] for key in heading] for row in rows)]))
        for row in rows:
            if "note" in row:
                click.echo(f"{row['embedding']}: {row['note']}", err=True)
    click.echo(f"The page is {out / 'report.md'}.", err=True)
