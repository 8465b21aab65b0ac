"""From a saved folder to an entry of a registry file: its weights on the Hub, or in a folder beside that file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import files, registry
from zoo.errors import FileError, RegistryError
from zoo.hub.pulling import pull
from zoo.hub.pushing import packed, push
from zoo.hub.references import PREFIX, Reference
from zoo.registry import BUILTIN, METRICS, PRETRAINED, Data, File, Measured, Published

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOT_YET = "0" * 40  # a revision, before there is one


@dataclass(frozen=True)
class Notice:
    """What is said of a stack where it is published, beside what its folder says.

    Args:
        name: ``conv7x7x10.fashion_mnist``: the top stage with its shape, and a tag.
        licence: of the weights, an SPDX identifier.
        data: what it was trained on.
        recipe: the command that trained it.
        reports: files of reports beside the folder's own, each on other images.
    """

    name: str
    licence: str
    data: Data
    recipe: str
    reports: Sequence[Path] = ()


def publish(
    folder: str | Path,
    repo: str,
    notice: Notice,
    *,
    registry_file: str | Path,
    tag: str | None = None,
    replacing: bool = False,
) -> Published:
    """Push a saved stack to the Hub, and write its entry.

    What is recorded is what came back: the files are pulled at the commit, and their sizes and hashes taken.

    Args:
        folder: what ``stack.save`` wrote, with a report.
        repo: "user/name"; made where there is none.
        notice: what else the entry says.
        registry_file: written whole, and made where there is none.
        tag: a name for the commit; that of the stage unless given.
        replacing: the entry may be there already.

    Raises:
        RegistryError: the entry is there already, or a field of it is not what it should be. Nothing was sent.
        FileError: the folder holds no whole stack, or no report of it.
        HubError: the Hub refuses, or cannot be reached.
    """
    folder, target = Path(folder), Path(registry_file)
    entry = _drafted(folder, f"{PREFIX}{Reference(repo).repo}", NOT_YET, notice, target)
    stages = _others(entry, replacing=replacing)
    pushed = push(folder, repo, tag=tag or notice.name, licence=notice.licence.lower())
    pulled = pull(f"{repo}@{pushed.rpartition('/')[2]}")
    config = files.read_config(pulled.folder)
    names = [files.CONFIG, *(level["file"] for level in config["levels"]), files.REPORT, files.CARD]
    entry = replace(entry, revision=pulled.commit, files=tuple(_told(pulled.folder / name) for name in names))
    return _written(entry, stages)


def bundle(
    folder: str | Path,
    notice: Notice,
    *,
    revision: str,
    registry_file: str | Path,
    replacing: bool = False,
) -> Published:
    """Copy a saved stack to ``pretrained/NAME`` beside a registry file, and write its entry there.

    Args:
        folder: what ``stack.save`` wrote, with a report.
        notice: what else the entry says.
        revision: the commit of the project that trained it, 40 hex digits.
        registry_file: written whole, and made where there is none.
        replacing: the entry may be there already.

    Raises:
        RegistryError: the entry is there already, or a field of it is not what it should be. Nothing was written.
        FileError: the folder holds no whole stack, or no report of it.
    """
    folder, target = Path(folder), Path(registry_file)
    entry = _drafted(folder, BUILTIN, revision, notice, target)
    stages = _others(entry, replacing=replacing)
    contents = packed(folder, notice.name, notice.licence.lower()).contents
    out = target.parent / PRETRAINED / notice.name
    with files.exchanging(out) as scratch:
        for name, content in contents.items():
            (scratch / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        files.settle(scratch, out)
    for stale in out.iterdir():  # a picture that is not made any more
        if stale.name not in contents and stale.is_file():
            stale.unlink()
    return _written(replace(entry, files=tuple(_told(out / name) for name in contents)), stages)


def _measured(report: Mapping[str, Any], where: str | Path) -> Measured:
    """What an entry says of a report.

    Raises:
        FileError: it lacks what that takes.
    """
    try:
        protocol, found = report["protocol"], report["end_to_end"]
        data = protocol["data"]
        return Measured(
            values={name: found[name] for name in METRICS if found[name] is not None},
            version=protocol["version"],
            data=data["name"],
            split=data["split"],
            count=data["count"],
            fingerprint=data["fingerprint"],
        )
    except (KeyError, TypeError) as error:
        raise FileError(f"{where} is no report of a stack ({error!r}): 'zoo eval DIR --data ...' writes one") from error


def _drafted(folder: Path, source: str, revision: str, notice: Notice, target: Path) -> Published:
    """The entry with the files as they are here, checked before anything is sent or written."""
    config = files.read_config(folder)
    shapes = [level["code_shape"] for level in config["levels"] if "code_shape" in level]
    named = [files.CONFIG, *(level["file"] for level in config["levels"])]
    return registry.checked(
        Published(
            name=notice.name,
            spec=config["spec"],
            code_shape=tuple(shapes[-1] if shapes else config["input"]["shape"]),
            source=source,
            revision=revision,
            files=tuple(_told(folder / name) for name in named),
            data=notice.data,
            licence=notice.licence,
            metrics=_reported(folder, config["spec"], notice.reports),
            plugins={name: origin.partition(" ")[0] for name, origin in config["plugins"].items()},
            recipe=notice.recipe,
            registry=target,
        )
    )


def _reported(folder: Path, spec: str, others: Sequence[Path]) -> tuple[Measured, ...]:
    """What the folder's own report says, and the others, each of this stack."""
    own = files.read_report(folder)
    if own is None:
        raise FileError(f"{folder} holds no {files.REPORT}: measure it first, with 'zoo eval {folder} --data ...'")
    found: list[Measured] = []
    for path, report in [(folder / files.REPORT, own), *((path, files.read_json(path)) for path in others)]:
        one = _measured(report, path)
        if report["protocol"].get("stack") != spec:
            raise FileError(f"{path} is the report of {files.shown(report['protocol'].get('stack'))}, not of {spec}")
        if any((one.fingerprint, one.split) == (other.fingerprint, other.split) for other in found):
            raise FileError(f"{path} is of the same images as another report: {one.data}, {one.split}")
        found.append(one)
    return tuple(found)


def _others(entry: Published, *, replacing: bool) -> dict[str, Published]:
    """The entries that are in the file already, but for this one."""
    stages = registry.read(entry.registry) if entry.registry.exists() else {}
    if entry.name in stages and not replacing:
        raise RegistryError(f"{entry.registry} has {entry.name} already: take another tag, or replace it (--replace)")
    return {name: other for name, other in stages.items() if name != entry.name}


def _told(path: Path) -> File:
    return File(path.name, path.stat().st_size, files.sha256(path))


def _written(entry: Published, stages: dict[str, Published]) -> Published:
    entry = registry.checked(entry)
    files.write_text(entry.registry, registry.written({**stages, entry.name: entry}))
    return entry
