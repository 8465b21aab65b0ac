"""From the Hub to a folder that can be loaded: at one commit, exactly the files that its config names."""

from __future__ import annotations

import hashlib
import logging
import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import errors, try_to_load_from_cache
from huggingface_hub.utils._fixes import WeakFileLock

from zoo import card, files
from zoo.errors import HubError
from zoo.hub import connection
from zoo.hub.failures import explained, is_away
from zoo.hub.references import Reference, is_commit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

ATTEMPTS = 2  # at a file that comes damaged: the first may have been the network's fault, the second is not

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pulled:
    """A saved stack that came from the Hub.

    Args:
        reference: as it was asked for.
        commit: what its revision was, 40 hex digits.
        folder: the snapshot in the client's cache, to be read only.
    """

    reference: Reference
    commit: str
    folder: Path


def pull(text: str | Reference) -> Pulled:
    """Have a saved stack in the client's cache, whole and checked.

    What is there already is not fetched again: a commit that is there costs no request, and with HF_HUB_OFFLINE=1
    neither does a branch or a tag.

    Args:
        text: "user/name", "user/name@revision", either with "hf-hub:" before it.

    Raises:
        HubError: there is no such thing, it may not be had, it comes damaged, or the Hub cannot be reached.
        FileError: what is there is not a saved stack.
    """
    reference = text if isinstance(text, Reference) else Reference.parse(text)
    with explained(reference):
        commit = _resolve(reference)
        at = Reference(reference.repo, commit)
        folder = _sound(at, files.CONFIG, _named_by_hash).parent
        for level in files.read_config(folder)["levels"]:
            _sound(at, level["file"], partial(_as_named, level), largest=level["bytes"])
        _fetch_if_there(at, files.REPORT)
        try:
            _fetch_if_there(at, files.CARD)
        except HubError as error:  # people read it, and nothing here does
            _log.warning("%s: without its model card: %s", reference, error)
        _sweep(folder)
    return Pulled(reference, commit, folder)


def copy(pulled: Pulled, out: str | Path) -> Path:
    """Copy what was pulled to a folder of its own, in the place of the stack that is there, if there is one.

    Where there is none, a README.md that somebody has written stays.

    Raises:
        FileError: the folder holds something else's config or report; it is as it was.
        UnwritableError: the disk is full, or the folder may only be read; what was there is there.
    """
    out = Path(out)
    named = [level["file"] for level in files.read_config(pulled.folder)["levels"]]
    extras = [name for name in (files.REPORT, files.CARD) if (pulled.folder / name).is_file()]
    with files.exchanging(out) as scratch:
        for name in (*named, *extras, files.CONFIG):
            with files.replacing(scratch / name) as temporary:
                shutil.copyfile(pulled.folder / name, temporary)
        own = out / files.CARD
        if own.is_file() and not (out / files.CONFIG).exists() and not card.is_generated(own.read_bytes()):
            shutil.copyfile(own, scratch / files.CARD)
        files.settle(scratch, out)
    return out


def _resolve(reference: Reference) -> str:
    """The commit that the revision is now; what the cache knows of it where the Hub is away."""
    local = connection.offline() or (reference.pinned and _is_cached(reference, files.CONFIG))
    if not local:
        try:
            connection.look(reference, files.CONFIG)
        except Exception as error:
            if not is_away(error):
                raise
            with suppress(errors.LocalEntryNotFoundError):
                commit = _commit_of(connection.fetch(reference, files.CONFIG, largest=files.LARGEST_JSON, local=True))
                _log.warning("%s: the Hub is away, the cache has it as of commit %s", reference, commit)
                return commit
            raise
    return _commit_of(connection.fetch(reference, files.CONFIG, largest=files.LARGEST_JSON, local=local))


def _commit_of(path: Path) -> str:
    commit = path.parent.name
    if not is_commit(commit):
        raise HubError(f"{path} is not in the folder of a commit: remove {path.parent}, and pull again")
    return commit


def _sound(at: Reference, file: str, check: Callable[[Path], str | None], *, largest: int = files.LARGEST_JSON) -> Path:
    """A file that is what it should be; what came damaged is removed and fetched once more."""
    for _ in range(ATTEMPTS):
        path = connection.fetch(at, file, largest=largest)
        damage = _damage(path, check)
        if damage is None:
            return path
        if connection.offline():
            raise HubError(f"{at}: {path} is damaged ({damage}): without HF_HUB_OFFLINE it is fetched again")
        _log.warning("%s: %s came damaged (%s)", at, file, damage)
        _discard(path, check)
    raise HubError(f"{at}: {file} came damaged {ATTEMPTS} times ({damage}): on its way, or it is so on the Hub")


def _fetch_if_there(at: Reference, file: str) -> None:
    """A file that a stack may be without; that it is, the cache remembers."""
    found = try_to_load_from_cache(at.repo, file, revision=at.revision)
    if isinstance(found, str) or (found is None and not connection.offline()):
        with suppress(errors.RemoteEntryNotFoundError):
            _sound(at, file, _named_by_hash)


def _is_cached(reference: Reference, file: str) -> bool:
    return isinstance(try_to_load_from_cache(reference.repo, file, revision=reference.revision), str)


def _as_named(level: Mapping[str, Any], path: Path) -> str | None:
    """What distinguishes a file from the one that config.json names.

    Who loads what was pulled has it hashed once more, by the gate. That is on purpose: here damage is still mended, by
    fetching the file again, and what the gate hashes is what is used, whoever wrote to the cache in between.
    """
    if path.stat().st_size != level["bytes"]:
        return f"{path.stat().st_size} bytes, config.json says {level['bytes']}"
    found = files.sha256(path)
    return None if found == level["sha256"] else f"sha256 {found}, config.json says {level['sha256']}"


def _named_by_hash(path: Path) -> str | None:
    """What is wrong with a file that no config names: the cache calls it by its hash, where it can make links."""
    name = path.readlink().name if path.is_symlink() else ""
    if len(name) == 64:
        return None if files.sha256(path) == name else f"its sha256 is not {name}"
    if len(name) == 40:
        return None if git_hash(path.read_bytes()) == name else f"its hash is not {name}"
    return None


def git_hash(content: bytes) -> str:
    """The name that git gives a file of this content, 40 hex digits."""
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()


def _damage(path: Path, check: Callable[[Path], str | None]) -> str | None:
    try:
        return check(path)
    except FileNotFoundError:  # another process, which found it damaged, is fetching it again
        return "it has gone"


def _discard(path: Path, check: Callable[[Path], str | None]) -> None:
    """Take a damaged file out of the cache, unless another process has put a sound one in its place meanwhile."""
    blob = path.resolve()
    with _alone_with(path.parents[2], blob.name):
        if _damage(path, check) is not None:
            path.unlink(missing_ok=True)
            blob.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Remove what pulls of these files that were killed have left: the client begins anew, under another name."""
    repo = folder.parents[1]
    for name in {path.resolve().name for path in folder.iterdir()}:
        if strays := [*(repo / "blobs").glob(f"{name}.*.incomplete")]:
            with suppress(OSError), _alone_with(repo, name, patience=0.1):  # unless somebody is fetching it now
                for stray in strays:
                    stray.unlink(missing_ok=True)


def _alone_with(repo: Path, blob: str, patience: float | None = None) -> AbstractContextManager[Any]:
    """The lock under which the client fetches this file of its cache."""
    return WeakFileLock(repo.parent / ".locks" / repo.name / f"{blob}.lock", timeout=patience)
