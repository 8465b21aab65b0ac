"""Whether a published stage is what its entry says: its files, whether it loads, and what it was measured to do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo import builder, files
from zoo.data import images
from zoo.errors import DataError, EvaluationError, FileError, ZooError
from zoo.evaluation import protocol
from zoo.evaluation.reconstruction import score

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from zoo.registry import File, Measured, Published
    from zoo.stack import Stack

TOLERANCE = 1e-4  # relative; computing in float64 instead moves the numbers of the zoo's own stages by < 3e-6
TINY = 1e-9  # absolute, for what came back exactly
BATCH = 256  # images at once, as a report is measured


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        stage: the name of the entry.
        subject: a file, the load, or a number with its images.
        ok: whether it is as the entry says; None where this machine cannot tell.
        found: what it is.
    """

    stage: str
    subject: str
    ok: bool | None
    found: str


def verify(entry: Published, device: str = "cpu") -> Iterator[Check]:
    """Look at every file, load the stage through the gate, and measure again what was recorded.

    A stage of the Hub is pulled first. Where one step fails, what needs it is not tried.

    Args:
        entry: as a registry file has it.
        device: where it is measured.
    """
    from zoo import hub  # and with it the Hub's client, which is seldom needed

    try:
        folder = entry.folder or hub.pull(str(entry.reference)).folder
    except ZooError as error:
        yield Check(entry.name, entry.source, False, str(error))
        return
    whole = True
    for file in entry.files:
        problem = _damage(folder / file.name, file)
        whole = whole and problem is None
        yield Check(entry.name, file.name, problem is None, problem or f"{file.bytes:,} bytes, sha256")
    if not whole:
        return
    try:
        stack = _loaded(entry, folder)
    except ZooError as error:
        yield Check(entry.name, "loads", False, str(error))
        return
    yield Check(entry.name, "loads", True, str(stack.spec))
    for measured in entry.metrics:
        yield from _repeated(entry.name, stack.to(device), measured)


def _damage(path: Path, file: File) -> str | None:
    """What distinguishes a file from the one that the entry names."""
    if not path.is_file():
        return f"there is no file {path}"
    if path.stat().st_size != file.bytes:
        return f"{path.stat().st_size:,} bytes, the entry says {file.bytes:,}"
    found = files.sha256(path)
    return None if found == file.sha256 else f"sha256 {found}, the entry says {file.sha256}"


def _loaded(entry: Published, folder: Path) -> Stack:
    """The stage, if it is the one that the entry describes.

    Raises:
        FileError: another spec, code or plugin, or a weight file that the entry leaves out.
        ZooError: it does not load.
    """
    config = files.read_config(folder)
    stack = builder.load(folder)
    weights = {level["file"] for level in config["levels"]}
    told = {
        "spec": (str(stack.spec), entry.spec),
        "code_shape": (tuple(stack.code_shape), entry.code_shape),
        "plugins": (_distributions(config["plugins"]), dict(entry.plugins)),
        "files": (weights, weights & {file.name for file in entry.files}),
    }
    for field, (found, said) in told.items():
        if found != said:
            raise FileError(f"{field} is {found} in {folder}, the entry says {said}")
    return stack


def _distributions(plugins: dict[str, str]) -> dict[str, str]:
    return {name: origin.partition(" ")[0] for name, origin in plugins.items()}


def _repeated(stage: str, stack: Stack, told: Measured) -> Iterator[Check]:
    """Every number that was recorded on these images, measured again."""
    where = f"{told.data}, {told.split}"
    try:
        found = _measured(stack, told)
    except DataError as error:
        yield Check(stage, where, None, f"not measured: {' '.join(str(error).split())}")
    except EvaluationError as error:
        yield Check(stage, where, False, str(error))
    else:
        for name, value in told.values.items():
            again = found[name]
            same = again is not None and math.isclose(again, value, rel_tol=TOLERANCE, abs_tol=TINY)
            shown = "none" if again is None else f"{again:.6g}"
            yield Check(stage, f"{name} on {where}", same, shown if same else f"{shown}, the entry says {value:.6g}")


def _measured(stack: Stack, told: Measured) -> dict[str, float | None]:
    """The errors on these images.

    Raises:
        DataError: this machine does not have them, or measures otherwise.
        EvaluationError: what comes back is not finite.
    """
    if told.version != protocol.VERSION:
        raise DataError(f"it was by protocol {told.version}, this zoo measures by {protocol.VERSION}")
    shown = images(told.data, stack.input_shape, split=told.split)
    if (len(shown), shown.fingerprint) != (told.count, told.fingerprint):
        raise DataError(f"{told.data} is other images here: {len(shown):,}, with fingerprint {shown.fingerprint}")

    def back(part: slice) -> Tensor:
        return stack.to_pixels(stack.encode(shown.batch(part).to(stack.device)))

    with protocol.measuring(stack):
        return score(shown, back, batch_size=BATCH)
