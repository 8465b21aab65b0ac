"""The folder of a saved stack, as it is written."""

from __future__ import annotations

import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import card
from zoo.files.digests import sha256
from zoo.files.forms import FORMAT_VERSION
from zoo.files.gate import read_config, read_report
from zoo.files.texts import CARD, CONFIG, REPORT, write_json, write_text
from zoo.files.weights import write_tensors
from zoo.files.writing import UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

WEIGHTS = "level-*.safetensors"


def write(
    folder: str | Path, description: Mapping[str, Any], tensors: list[dict[str, Tensor]], report: dict[str, Any] | None
) -> Path:
    """Write a stack into a folder, which may exist and hold other files.

    Weight files carry their hash in their names and config.json, which names them, is replaced last: until then the
    folder is the old stack, from then on the new one. Weight files that nothing names any more are then removed, and so
    is a report that is of other weights than these.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    before = {path.name for path in folder.glob(WEIGHTS)}
    levels = [
        {**level, **_write_level(folder, number, weights)}
        for number, (level, weights) in enumerate(zip(description["levels"], tensors, strict=True), 1)
    ]
    config = {"format_version": FORMAT_VERSION, "zoo": zoo_version(), **description, "levels": levels}
    named = {level["file"] for level in levels}
    if report is not None:
        write_json(folder / REPORT, report)
    elif named != before:
        (folder / REPORT).unlink(missing_ok=True)
    elif (folder / REPORT).is_file():
        report = read_report(folder)
    write_text(folder / CARD, card.render(config, report))
    write_json(folder / CONFIG, config)
    for stale in folder.glob(WEIGHTS):
        if stale.name not in named:
            stale.unlink()
    return folder


def write_report(folder: str | Path, report: dict[str, Any]) -> Path:
    """Put a report beside a saved stack, whose weights stay as they are, and into its model card."""
    folder = Path(folder)
    config = read_config(folder)
    write_json(folder / REPORT, report)
    write_text(folder / CARD, card.render(config, report))
    return folder / REPORT


def zoo_version() -> str:
    """The installed version of the zoo."""
    try:
        return version("stackzoo")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0+unknown"


def _write_level(folder: Path, number: int, weights: dict[str, Tensor]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=folder, prefix=UNFINISHED) as scratch:
        written = Path(scratch) / "level.safetensors"
        write_tensors(written, weights)
        digest = sha256(written)
        file = folder / f"level-{number}-{digest[:8]}.safetensors"
        size = written.stat().st_size
        written.replace(file)
    return {"file": file.name, "bytes": size, "sha256": digest}
