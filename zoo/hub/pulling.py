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

from zoo import files
from zoo.errors import HubError
from zoo.hub import connection
from zoo.hub.failures import explained, is_away
from zoo.hub.references import Reference, is_commit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
        for extra in (files.REPORT, files.CARD):
            _fetch_if_there(at, extra)
    return Pulled(reference, commit, folder)


def copy(pulled: Pulled, out: str | Path) -> Path:
    """Copy what was pulled to a folder of its own, config.json last: until then it is no stack, or the old one."""
    out = Path(out)
    with explained(pulled.reference):
        named = [level["file"] for level in files.read_config(pulled.folder)["levels"]]
        extras = [name for name in (files.REPORT, files.CARD) if (pulled.folder / name).is_file()]
        for name in (*named, *extras, files.CONFIG):
            with files.replacing(out / name) as temporary:
                shutil.copyfile(pulled.folder / name, temporary)
        for stale in (*out.glob("level-*.safetensors"), out / files.REPORT, out / files.CARD):
            if stale.name not in (*named, *extras):
                stale.unlink(missing_ok=True)
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
        damage = check(path)
        if damage is None:
            return path
        if connection.offline():
            raise HubError(f"{at}: {path} is damaged ({damage}): without HF_HUB_OFFLINE it is fetched again")
        _log.warning("%s: %s came damaged (%s)", at, file, damage)
        _remove(path)
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
    """What distinguishes a file from the one that config.json names."""
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


def _remove(path: Path) -> None:
    """Take a file out of the cache, and what the link leads to."""
    target = path.resolve()
    path.unlink(missing_ok=True)
    target.unlink(missing_ok=True)
