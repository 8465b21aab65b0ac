"""The gate: the one way by which a saved stack comes in, from one's own disk, a cache or the Hub alike.

In this order, and nothing later is touched before what is earlier has passed: the config's size and JSON, its form, its
specs, the place, size and header of each weight file (`enter`); then, where it is built, the plugins and what the
specs mean to them (`origins.check_plugins`, `specs.check_specs`), a build on ``meta`` within bounds
(`budgets`), names and shapes (`weights.check_fit`), and last the bytes themselves (`weights.read_checked`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.errors import FileError
from zoo.files import weights
from zoo.files.brought import read_brought
from zoo.files.forms import check_form
from zoo.files.headers import Header, read_header
from zoo.files.saved import Saved, SavedLevel
from zoo.files.specs import read_specs
from zoo.files.texts import CONFIG, REPORT, RUN, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from zoo.spec import LevelSpec, StackSpec


LARGEST_CONFIG = 2**20  # bytes; 64 levels, each with as long a spec as there may be
LARGEST_REPORT = 2**20  # bytes; a report of many levels and classes is a hundredth of this
DEEPEST_REPORT = 100  # lists in lists; a report is saved again with its stack, and Python writes no deeper than ~1,000
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
BLOBS = "blobs"
MOST_EXCHANGES = 20

T = TypeVar("T")


def enter(folder: str | Path, root: Path | None = None) -> Saved:
    """Look at a saved stack without building it or reading a weight.

    Args:
        folder: what ``stack.save`` wrote.
        root: links in the folder may lead to files under it; the folder itself where None, and for a snapshot of the
            Hub's cache the blobs beside it.

    Raises:
        FileError: no stack there, a newer format, a config that is not what ``stack.save`` writes, or a weight file
            that is missing, elsewhere, of another size, or not safetensors.
    """
    folder = Path(folder)
    config, spec, parts = _read(folder, root)
    levels = tuple(
        SavedLevel(part, told, _header(folder, told, number, root))
        for number, (part, told) in enumerate(zip(parts, config["levels"], strict=True))
    )
    return Saved(folder, config, spec, levels, root, read_brought(config, folder / CONFIG))


def undisturbed(folder: str | Path, read: Callable[[], T]) -> T:
    """What is read of a saved stack while others may exchange it for another: all of it before that, or all after.

    Whatever came out while config.json was exchanged, an error or a mix, is dropped, and reading begins again.

    Args:
        folder: of the stack.
        read: reads config, weights and report.

    Raises:
        FileError: what ``read`` raises of a folder that nobody touched meanwhile; or it is exchanged again and again.
    """
    config = Path(folder) / CONFIG
    for _ in range(MOST_EXCHANGES):
        before = _state(config)
        try:
            found = read()
        except FileError:
            if _state(config) == before:
                raise
        else:
            if _state(config) == before:
                return found
    raise FileError(f"{folder}: another stack is saved here again and again: wait until that is over")


def read_config(folder: str | Path, root: Path | None = None) -> dict[str, Any]:
    """The config of a saved stack, checked for its form and its specs; the weight files are not looked at.

    Raises:
        FileError: no stack there, a newer format, or a config that is not what ``stack.save`` writes.
    """
    return _read(Path(folder), root)[0]


def read_level(
    folder: str | Path, level: Mapping[str, Any], keep: Callable[[str], bool] | None = None, root: Path | None = None
) -> dict[str, Tensor]:
    """The tensors of one level of a config that ``read_config`` gave; ``keep`` picks by key.

    Raises:
        FileError: the file is missing, has another size or hash, or is not safetensors.
    """
    return weights.read_checked(_header(Path(folder), level, None, root), level["sha256"], keep)


def read_report(folder: str | Path, root: Path | None = None) -> dict[str, Any] | None:
    """The report beside a saved stack, None where there is none."""
    path = _placed(Path(folder), REPORT, root)
    if not _is_there(path):
        return None
    report = read_json(path, largest=LARGEST_REPORT)
    if _depth(report) > DEEPEST_REPORT:
        raise FileError(f"{path}: lists and objects stand in one another more than {DEEPEST_REPORT} deep: remove it")
    return report


def _read(folder: Path, root: Path | None) -> tuple[dict[str, Any], StackSpec, list[LevelSpec]]:
    path = _placed(folder, CONFIG, root)
    if not _is_there(path):
        raise FileError(f"no stack at {folder}: {_without_config(folder)}")
    config = read_json(path, largest=LARGEST_CONFIG)
    check_form(config, path)
    return config, *read_specs(config, path)


def _header(folder: Path, told: Mapping[str, Any], number: int | None, root: Path | None) -> Header:
    path = _placed(folder, told["file"], root)
    field = "bytes" if number is None else f"levels[{number}].bytes"
    if not _is_there(path):
        how = "is not a file" if path.exists() else "is missing"
        raise FileError(f"{path} {how}: {CONFIG} names it. Copy the whole folder.{_pickles(folder)}")
    size = path.stat().st_size
    if size != told["bytes"]:
        raise FileError(f"{path} has {size} bytes, {field} of {CONFIG} says {told['bytes']}: damaged or half copied")
    return read_header(path)


def _state(path: Path) -> tuple[int, ...]:
    """What is another once a file was exchanged."""
    try:
        told = path.stat()
    except (OSError, ValueError):
        return ()
    return told.st_ino, told.st_mtime_ns, told.st_size


def _placed(folder: Path, name: str, root: Path | None) -> Path:
    """A file of the folder, which is there or is a link that stays within bounds."""
    path = folder / name
    try:
        real, within = path.resolve(), [folder.resolve(), *([] if root is None else [root.resolve()])]
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a name with a NUL
        raise FileError(f"{str(path)!r} cannot be read: {error}") from error
    if within[0].parent.name == "snapshots":  # the Hub's cache: blobs/ and snapshots/COMMIT/, which links to them
        within.append(within[0].parents[1] / BLOBS)
    if not any(real.is_relative_to(place) for place in within):
        raise FileError(
            f"{path} is a link that leads out of its folder, to {str(real)!r}: put the file itself in its place"
        )
    return path


def _is_there(path: Path) -> bool:
    """Whether this is a file, and no folder, pipe or device."""
    try:
        return path.is_file()
    except OSError as error:  # a folder that may not be entered
        raise FileError(f"{path} cannot be read: {error}") from error


def _without_config(folder: Path) -> str:
    if _is_there(folder / RUN):
        return f"its training is not finished. The same 'zoo train' with --resume goes on, and ends with a {CONFIG}"
    return f"there is no {CONFIG}. A stack is a folder that stack.save() wrote.{_pickles(folder)}"


def _pickles(folder: Path) -> str:
    """A hint where a folder holds weights of another kind."""
    try:
        found = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in PICKLES)
    except OSError:
        return ""
    if not found:
        return ""
    return f" {found[0]!r} is a pickle, which can run code and which the zoo never reads: convert it to safetensors."


def _depth(tree: object) -> int:
    deepest, waiting = 0, [(1, tree)]
    while waiting:
        depth, value = waiting.pop()
        deepest = max(deepest, depth)
        if isinstance(value, dict | list):
            waiting += [(depth + 1, part) for part in (value.values() if isinstance(value, dict) else value)]
    return deepest
