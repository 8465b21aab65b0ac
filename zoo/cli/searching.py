"""What is alike and what stands out, by codes: `zoo nearest` and `zoo anomalies`."""

from __future__ import annotations

import csv
import io
import json
import os
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.columns import columns
from zoo.cli.targets import FILE, FOLDER, check_apart, complete_saved, loaded, png
from zoo.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from zoo.data import Images

BATCH = 256  # images that are decoded at once


@click.command()
@click.argument("target", metavar="DIR", shell_complete=complete_saved)
@click.argument("source", metavar="IMAGE", type=click.Path())
@click.argument("data", metavar="FOLDER", type=click.Path())
@click.option("-n", "count", type=click.IntRange(min=1), default=10, show_default=True, help="How many.")
@click.option("--out", type=FILE, metavar="FILE.png", callback=png, default="nearest.png", show_default=True,
              help="The picture: the image, and these.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def nearest(target: str, source: str, data: str, count: int, out: Path, *, as_json: bool) -> None:
    """Find the images whose codes are nearest to an image's.

    IMAGE is a file, or a number of named data, as in sample:9000. FOLDER, all of which is looked through, may also be a
    name or a file of an array; the image itself, should it be there, is left out.
    """
    import torch

    from zoo import evaluation
    from zoo.data import images, single
    from zoo.pictures.grids import captioned

    check_apart(out.parent, data, drawn=True)
    stack = loaded(target)
    asked, shown = single.image(source, stack.input_shape), images(data, stack.input_shape, split="all")
    codes = evaluation.coded(stack, shown, progress=True)
    names = single.named(data, shown)
    with torch.inference_mode():
        z = stack.encode(asked.batch(slice(0, 1)).to(stack.device))[0]
    distances, places = evaluation.nearest(z, codes, count + 1)
    kept = [number for number, place in enumerate(places.tolist()) if not single.same(asked.name, names[place])][:count]
    if not kept:
        raise EvaluationError(f"{data} holds no other image than {source}")
    distances, places = distances[kept], places[kept]
    rows = _rows(shown, names, places, {"distance": distances})
    _tell(rows, as_json=as_json)
    pictures = torch.cat([asked.batch(slice(0, 1)), shown.batch(places)])
    title = f"nearest to {source} in {shown.name}, by the codes of {stack.spec}"
    captions = ["image", *(f"{distance:.3g}" for distance in distances)]
    captioned([pictures], captions, out, title=title)
    click.echo(f"They are drawn in {out}.", err=True)


@click.command()
@click.argument("target", metavar="DIR", shell_complete=complete_saved)
@click.argument("data", metavar="FOLDER", type=click.Path())
@click.option("--train", metavar="NAME|DIR|FILE", help="Normal images to compare with; their training part.",
              show_default="FOLDER itself, taken to be mostly normal")  # fmt: skip
@click.option("--split", type=click.Choice(["train", "val", "test", "all"]), default="all", show_default=True,
              help="The part of FOLDER.")  # fmt: skip
@click.option("--by", type=click.Choice(["score", "error", "distance"]), default="score", show_default=True,
              help="The number that is sorted by.")  # fmt: skip
@click.option(
    "-n", "count", type=click.IntRange(min=1), default=16, show_default=True, help="How many to print and draw."
)
@click.option("--out", type=FOLDER, metavar="DIR", default="runs/anomalies", show_default=True,
              help="The folder for anomalies.csv and worst.png.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print all scores as JSON.")
def anomalies(
    target: str, data: str, train: str | None, split: str, by: str, count: int, out: Path, *, as_json: bool
) -> None:
    """Find the images that are unusual.

    FOLDER may also be a name or a file of an array. An image scores high if it does not come back well, or its code is
    far from those of normal images: the score is the larger of both, in deviations of normal images. anomalies.csv has
    all three of every image, the worst first.
    """
    import torch

    from zoo import evaluation, files
    from zoo.data import images, single
    from zoo.pictures.grids import captioned

    check_apart(out, data, drawn=True)
    if train is not None:
        check_apart(out, train, drawn=True)
    stack = loaded(target)
    shown = images(data, stack.input_shape, split=split)
    normal = None if train is None else images(train, stack.input_shape, split="train")
    found = evaluation.anomalies(stack, shown, normal, progress=True)
    order = vars(found)[by].argsort(descending=True, stable=True)
    rows = _rows(shown, single.named(data, shown), order, {name: vars(found)[name][order] for name in vars(found)})
    files.write_text(out / "anomalies.csv", _as_csv(rows))
    worst = shown.batch(order[:count])
    back = torch.cat([stack.similar(part, noise=False).cpu() for part in worst.split(BATCH)])
    layers = [worst, back]
    title = f"the most unusual of {len(shown):,} images of {shown.name}, their reconstructions, and the {by}"
    captioned(layers, [f"{row[by]:.3g}" for row in rows[:count]], out / "worst.png", title=title)
    _tell(rows if as_json else rows[:count], as_json=as_json)
    click.echo(f"The scores are in {out / 'anomalies.csv'}, the worst {len(worst)} in {out / 'worst.png'}.", err=True)


def _rows(shown: Images, names: Sequence[str], places: Tensor, numbers: dict[str, Tensor]) -> list[dict[str, Any]]:
    """What is said of the images at these places: name, class where it is known, and numbers of six digits."""
    rows: list[dict[str, Any]] = []
    for row, place in enumerate(places.tolist()):
        label = None if shown.labels is None else int(shown.labels[place])
        known = {} if label is None else {"class": shown.classes[label] if shown.classes else str(label)}
        image = os.fsencode(names[place]).decode(errors="replace")  # to a file system a name may be any bytes
        rows.append({"image": image} | {name: float(f"{value[row]:.6g}") for name, value in numbers.items()} | known)
    return rows


def _tell(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        click.echo(columns([[*rows[0]], *([*row.values()] for row in rows)]))


def _as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [*rows[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
