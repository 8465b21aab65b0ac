"""`zoo eval`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.targets import FILE, FOLDER, loaded, split_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command("eval")
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--data", required=True, metavar="NAME|DIR|FILE", help="Images; their test part is measured on.")
@split_option("test", "The part of the images that is measured on.")
@click.option(
    "--train",
    metavar="NAME|DIR|FILE",
    show_default="the training part of --data",
    help="Images that PCA, neighbours, probes and --classifier own are fitted on.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything that is drawn.")
@click.option(
    "--features",
    metavar="NET[=FILE]",
    help="Also FID and KID of reconstructions, by the features of a timm model or of the stack in a folder.",
)
@click.option("--samples", type=click.IntRange(min=2), metavar="N", help="With --features, also of this many samples.")
@click.option(
    "--corrupt", metavar="WORDS", help="Also the reconstructions of corrupted images: noise=0.3, mask=0.5, joined by +."
)
@click.option(
    "--classifier", metavar="NET[=FILE]",
    help="Also its accuracy on reconstructions: a timm model, resnet56_cifar10=FILE.safetensors, own, own(NET).",
)  # fmt: skip
@click.option("--batch-size", type=click.IntRange(min=1), metavar="N", default=256, show_default=True,
              help="Images at once.")  # fmt: skip
@click.option("--out", type=FILE, help="Where the report is written.", show_default="report.json in DIR, and its card")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def evaluate(
    folder: Path,
    data: str,
    split: str,
    train: str | None,
    seed: int,
    features: str | None,
    samples: int | None,
    corrupt: str | None,
    classifier: str | None,
    batch_size: int,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Measure a saved stack, beside PCA and JPEG of equal size.

    --classifier own trains a small classifier on the training images first, own(NET)
    one that begins as a pretrained network; own=FILE.safetensors keeps it in that file.
    """
    if samples and not features:
        raise click.UsageError("--samples needs --features, the network that judges them.")
    from zoo import evaluation, files

    kept = out or (folder if (folder / files.CONFIG).is_file() else None)
    asked: dict[str, Any] = {
        "split": split,
        "train": train,
        "seed": seed,
        "samples": samples or 0,
        "features": features,
        "corrupt": corrupt,
        "classifier": classifier,
        "batch_size": batch_size,
    }
    measured = files.named_weights(folder)
    report = evaluation.evaluate(loaded(folder), data, progress=True, **asked)
    click.echo(json.dumps(report, indent=2) if as_json else evaluation.table(report))
    if out is not None:
        files.write_json(out, report)
    elif kept is not None:
        files.write_report(folder, report, of=measured)
    where = "not kept, as this is no folder of yours: --out FILE keeps it" if kept is None else f"in {kept}"
    click.echo(f"The report is {where}.", err=True)
