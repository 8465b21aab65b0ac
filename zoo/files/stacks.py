"""The folder of a saved stack, as it is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import card
from zoo.errors import FileError
from zoo.files.digests import sha256
from zoo.files.forms import FORMAT_VERSION
from zoo.files.gate import read_config, read_report
from zoo.files.paths import expanded
from zoo.files.texts import CARD, CONFIG, REPORT, RUN, read_json, write_json
from zoo.files.weights import write_tensors
from zoo.files.writing import exchanging, replacing
from zoo.release import zoo_version

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import Tensor

_WEIGHTS = re.compile(r"level-\d+-[0-9a-f]{8}\.safetensors")


def write(
    folder: str | Path, description: Mapping[str, Any], tensors: list[dict[str, Tensor]], report: dict[str, Any] | None
) -> Path:
    """Write a stack into a folder, which may exist and hold other files.

    All of it is written aside first, so a full disk is found out while the old stack is still whole; see `settle`. The
    report that is there stays if it is of these weights, and a card that somebody has made their own stays in any case.

    Raises:
        FileError: the folder holds something else's config or report; it is as it was.
        UnwritableError: the disk is full, or the folder may only be read; the folder is as it was.
    """
    folder = expanded(folder)
    with exchanging(folder) as scratch:
        levels = [
            {**level, **_write_level(scratch, number, weights)}
            for number, (level, weights) in enumerate(zip(description["levels"], tensors, strict=True), 1)
        ]
        config = {"format_version": FORMAT_VERSION, "zoo": zoo_version(), **description, "levels": levels}
        if report is None and named_weights(folder) == {level["file"] for level in levels}:
            report = read_report(folder)
        if report is not None:
            _write_report(scratch, report)
        _write_card(scratch, folder, config, report)
        write_json(scratch / CONFIG, config)
        settle(scratch, folder)
    return folder


def write_report(folder: str | Path, report: dict[str, Any], *, of: Collection[str] | None = None) -> Path:
    """Put a report beside a saved stack, whose weights stay as they are, and into its model card.

    Args:
        folder: of the stack.
        report: what it was measured to do.
        of: ``named_weights`` of the stack that was measured; those that are there unless given.

    Raises:
        FileError: there is no stack, or one with other weights, as one that was saved meanwhile.
    """
    folder = Path(folder)
    read_config(folder)  # no folder is made where there is no stack
    with exchanging(folder) as scratch:
        if of is not None and named_weights(folder) != set(of):
            raise FileError(f"{folder}: another stack was saved here meanwhile, so this report is not kept beside it")
        _write_report(scratch, report)
        _write_card(scratch, folder, read_config(folder), report)
        for name in (REPORT, CARD):
            (scratch / name).replace(folder / name)
    return folder / REPORT


def check_room(folder: Path) -> None:
    """Refuse a folder where a stack would take the place of something else.

    Raises:
        FileError: it has a config that is no stack's, or a report without any config.
    """
    if (folder / CONFIG).exists():
        try:
            read_config(folder)
        except FileError as error:
            raise FileError(
                f"{folder / CONFIG} would be replaced, and is not of a stack that this zoo reads: take another folder, "
                f"or move it away. ({error})"
            ) from error
    elif (folder / REPORT).exists():
        raise FileError(f"{folder / REPORT} would be replaced, and is not a stack's: take another folder, or move it")


def is_weights(name: str) -> bool:
    """Whether ``write`` gives weights such names."""
    return _WEIGHTS.fullmatch(name) is not None


def named_weights(folder: str | Path) -> set[str]:
    """The weight files of the stack that is there, whose names say what is in them; of none where that is no stack."""
    try:
        return {level["file"] for level in read_config(folder)["levels"]}
    except FileError:
        return set()


def trained_on(folder: Path) -> str | None:
    """The name of the images that the run in a folder learns from; None where there is no run, or none that says so."""
    try:
        data = read_json(folder / RUN).get("data")
    except FileError:
        return None
    name = data.get("name") if isinstance(data, dict) else None
    return name if isinstance(name, str) else None


def settle(scratch: Path, folder: Path) -> None:
    """Put a whole stack that was written aside into the place of the one in ``folder``.

    Weight files carry their hash in their names, and config.json names them: until it is exchanged the folder is the
    old stack, from then on the new one. A report is never beside weights that it is not of. What nothing names any more
    goes last.

    Args:
        scratch: config.json, the weights that it names, and a report and a card if there are any.
        folder: held by `exchanging`.

    Raises:
        FileError: the folder holds something else's config or report; it is as it was.
    """
    check_room(folder)
    there, before = {path.name for path in scratch.iterdir()}, named_weights(folder)
    weights = there - {CONFIG, REPORT, CARD}
    for name in weights:
        (scratch / name).replace(folder / name)
    if before != weights:
        (folder / REPORT).unlink(missing_ok=True)
    for name in (CONFIG, REPORT, CARD):
        if name in there:
            (scratch / name).replace(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    for stale in [path for path in folder.iterdir() if is_weights(path.name) or path.name in before]:
        if stale.name not in weights:
            stale.unlink()


def _write_level(scratch: Path, number: int, weights: dict[str, Tensor]) -> dict[str, Any]:
    written = scratch / "level.safetensors"
    write_tensors(written, weights)
    digest = sha256(written)
    file = written.replace(scratch / f"level-{number}-{digest[:8]}.safetensors")
    return {"file": file.name, "bytes": file.stat().st_size, "sha256": digest}


def _write_report(scratch: Path, report: Mapping[str, Any]) -> None:
    write_json(scratch / REPORT, report)
    read_report(scratch)  # one that is too large or too deep to be read again is refused now


def _write_card(scratch: Path, folder: Path, config: Mapping[str, Any], report: Mapping[str, Any] | None) -> None:
    own = (folder / CARD).read_bytes() if (folder / CARD).is_file() else b""
    with replacing(scratch / CARD) as temporary:
        temporary.write_bytes(card.renewed(own, card.render(config, report, trained_on=trained_on(folder))))
