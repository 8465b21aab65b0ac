"""What lies in a folder of images: which files belong to which split and class."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from zoo import files
from zoo.data.decoding import SUFFIXES
from zoo.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""The subfolders that hold a split, in capitals or not."""

STAND_INS = {"train": ("train",), "val": ("val", "test"), "test": ("test", "val")}
"""What a folder with splits of its own gives for the one asked for, the best first."""

HELD_OUT = 0.05
"""The share of a folder without splits of its own that is its test part."""


@dataclass(frozen=True)
class Listing:
    """The images of a folder that were asked for.

    Args:
        files: relative to the folder, with ``/``, sorted.
        labels: a place in ``classes`` for each; None where there are no class folders.
        classes: the names of the class folders in all splits, sorted.
        split: what these files are: a split, or ``"all"``.
        ignored: how many other files there are: no images, or outside the splits.
    """

    files: tuple[str, ...]
    labels: tuple[int, ...] | None
    classes: tuple[str, ...] | None
    split: str
    ignored: int


def list_folder(folder: Path, split: str) -> Listing:
    """Find the images of a folder, its splits and its classes.

    Raises:
        DataError: there is no image, images and class folders are mixed, or the split asked for is not there.
    """
    found, others = _scan(folder)
    if not found:
        kinds = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in others.most_common(5))
        raise DataError(f"{folder}: no image here or below ({f'files: {kinds}' if kinds else 'no file at all'})")
    parts = _split(folder, found)
    chosen, kind = _choose(folder, parts, split)
    class_of = _classify(folder, parts)
    classes = sorted({name for name in class_of.values() if name is not None})
    labelled = len(classes) > 1 and all(class_of[file] is not None for file in chosen)
    places = {name: place for place, name in enumerate(classes)}
    return Listing(
        tuple(chosen),
        labels=tuple(places[class_of[file] or ""] for file in chosen) if labelled else None,
        classes=tuple(classes) if labelled else None,
        split=kind,
        ignored=others.total() + len(found) - len(class_of),
    )


def hold_out(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split files into (kept, held), by a hash of each name: more files move none from one to the other.

    Only in a folder so small that a twentieth of it is no image does the rule give way: there it is one image.

    >>> files = [f"{number}.png" for number in range(2000)]
    >>> kept, held = hold_out(files[:1000])
    >>> set(held) < set(hold_out(files)[1])
    True
    """
    draws = {file: _draw(file) for file in files}
    held = {file for file in files if draws[file] < HELD_OUT}
    if not held:
        held = {min(files, key=draws.__getitem__)}
    elif len(held) == len(files):
        held.remove(max(files, key=draws.__getitem__))
    return [file for file in files if file not in held], [file for file in files if file in held]


def _draw(file: str) -> float:
    """A number in [0, 1) that only the name decides."""
    return int.from_bytes(hashlib.sha256(b"held out:" + os.fsencode(file)).digest()[:6], "big") / 2**48


def _scan(folder: Path) -> tuple[list[str], Counter[str]]:
    """Every image below a folder, sorted, and how many other files there are by suffix.

    Hidden ones are passed over, and so are folders in it that the zoo has written, whose pictures are no data.
    """
    found: list[str] = []
    others: Counter[str] = Counter()
    waiting = [("", frozenset[str]())]
    while waiting:
        below, above = waiting.pop()
        here = os.path.realpath(folder / below)
        if here in above:  # a link that leads back to where it lies
            continue
        try:
            entries = list(os.scandir(here))
        except OSError as error:
            raise DataError(f"{folder / below}: cannot be listed: {error.strerror}") from error
        if below and _is_written(entry.name for entry in entries):
            continue
        for entry in entries:
            path = f"{below}{entry.name}"
            suffix = PurePosixPath(entry.name).suffix.lower()
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                waiting.append((f"{path}/", above | {here}))
            elif suffix in SUFFIXES:
                found.append(path)
            else:
                others[suffix] += 1
    return sorted(found), others


def reads(folder: Path, place: Path) -> bool:
    """Whether images in a place, which need not be there yet, would be among those of a folder.

    They are where the place is the folder or below it, and neither is hidden nor in one that the zoo has written.
    """
    place = place.resolve()
    above = [place, *place.parents]
    end = next((number for number, each in enumerate(above) if each.is_dir() and each.samefile(folder)), None)
    if end is None:
        return False
    return not any(
        each.name.startswith(".") or (each.is_dir() and _is_written(entry.name for entry in each.iterdir()))
        for each in above[:end]
    )


def _is_written(names: Iterable[str]) -> bool:
    """Whether files of these names stand for a run of the zoo's, a saved stack or codes."""
    there = {*names}
    return files.RUN in there or (files.CONFIG in there and any(map(files.is_weights, there)))


def _split(folder: Path, found: list[str]) -> dict[str, list[str]]:
    """The images of each split that the folder has of its own, or all of them under "all"."""
    names = {name.lower(): part for part, names in SPLITS.items() for name in names}
    tops = sorted(path.name for path in folder.iterdir() if path.is_dir())
    places = {names[top.lower()]: top for top in tops if top.lower() in names}
    parts = {part: [file for file in found if file.startswith(f"{place}/")] for part, place in places.items()}
    inside = sum(map(len, parts.values()))
    if parts and (inside == len(found) or (len(parts) > 1 and "train" in parts)):
        return parts
    return {"all": found}  # no splits, or a class that happens to be called like one


def _choose(folder: Path, parts: dict[str, list[str]], split: str) -> tuple[list[str], str]:
    """The images asked for and what they are."""
    everything = sorted(file for files in parts.values() for file in files)
    if split == "all":
        return everything, "all"
    if parts.keys() <= {"all", "train"}:  # nothing set apart for testing
        if split == "val":
            return everything, "all"
        if len(everything) > 1:
            return hold_out(everything)[split == "test"], split
        if split == "train":
            return everything, split
        raise DataError(f"{folder}: holds one image, so none can be set apart for testing")
    for part in STAND_INS[split]:
        if part in parts:
            if not parts[part]:
                raise DataError(f"{folder}: no image in its {part} folder")
            return parts[part], part
    raise DataError(f"{folder}: has {' and '.join(parts)} but no {split} folder")


def _classify(folder: Path, parts: dict[str, list[str]]) -> dict[str, str | None]:
    """The class folder that each image lies in, None for those that lie in none."""
    class_of: dict[str, str | None] = {}
    depth = 0 if "all" in parts else 1
    inside = {part: {file: _class(file, depth) for file in files} for part, files in parts.items()}
    for part, classes in inside.items():
        names = {name for name in classes.values() if name is not None}
        loose = [file for file, name in classes.items() if name is None]
        if names and loose:
            raise DataError(
                f"{folder}: images lie both in folders ({min(names)}) and beside them ({loose[0]}): "
                "put every image into the folder of its class, or all into one folder"
            )
        elsewhere = {name for other in inside if other != part for name in inside[other].values()}
        if len(names) == 1 and not names <= elsewhere:  # one folder for everything is no class
            classes = dict.fromkeys(classes)
        class_of |= classes
    return class_of


def _class(file: str, depth: int) -> str | None:
    steps = file.split("/")
    return steps[depth] if len(steps) > depth + 1 else None
