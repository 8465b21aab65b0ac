"""From a saved folder to the Hub: whole, in one commit, and none where nothing has changed."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.hf_api import RepoFile

from zoo import card, files
from zoo.errors import FileError, HubError
from zoo.hub import connection
from zoo.hub.failures import explained, status
from zoo.hub.pulling import git_hash
from zoo.hub.references import Reference, check_revision, is_commit

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ATTEMPTS = 3  # at a commit, when others commit at the same time
PICTURES = ("reconstructions.png", "samples.png")  # of zoo draw; the first there is goes along
LARGEST_PICTURE = 4 * 2**20  # bytes

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parcel:
    """What a push brings.

    Args:
        spec: the stack's spec.
        contents: by name, files or what would stand in them.
        hashes: sha256 by name, of those that the config names.
    """

    spec: str
    contents: dict[str, Path | bytes]
    hashes: dict[str, str]

    def is_at(self, name: str, there: RepoFile | None) -> bool:
        """Whether the Hub's file of this name is the same."""
        if there is None:
            return False
        content = self.contents[name]
        if there.lfs is not None and name in self.hashes:
            return bool(there.lfs.sha256 == self.hashes[name])
        whole = content.read_bytes() if isinstance(content, Path) else content
        if there.lfs is not None:
            return bool(there.lfs.sha256 == hashlib.sha256(whole).hexdigest())
        return bool(there.blob_id == git_hash(whole))


def push(
    folder: str | Path,
    repo: str,
    *,
    revision: str | None = None,
    private: bool = False,
    tag: str | None = None,
    message: str | None = None,
    licence: str | None = None,
) -> str:
    """Push a saved stack in one commit: config, weights, report, model card and a picture if the folder has one.

    What is there already is not sent, and where all of it is there is no commit. Weights that the new config does not
    name are deleted in the same commit.

    Args:
        folder: what ``stack.save`` wrote.
        repo: "user/name"; made where there is none.
        revision: a branch, made where there is none; the main one unless given.
        private: the repository is private. One that is there already and public is then refused.
        tag: a name for this commit, which stays at it.
        message: of the commit.
        licence: as the Hub writes it, as in "apache-2.0"; left out of the card unless given.

    Returns:
        The commit's address.

    Raises:
        FileError: the folder holds no whole stack.
        HubError: the Hub refuses, or cannot be reached.
    """
    target = Reference(repo, revision)
    if target.pinned:
        raise HubError(f"{target}: a commit stays as it is; push to a branch")
    if tag is not None:
        check_revision(tag)
    parcel = packed(Path(folder), f"hf-hub:{target}", licence)
    api = connection.api()
    with explained(target):
        _make_room(api, target, private=private)
        commit = _settle(api, target, parcel, tag, message or f"Push {parcel.spec[:200]}")
        return f"{connection.endpoint()}/{repo}/commit/{commit}"


def packed(folder: Path, source: str, licence: str | None) -> Parcel:
    """Everything that goes along, after a look at all of it: nothing half-done is pushed.

    Args:
        folder: what ``stack.save`` wrote.
        source: what ``zoo.load`` will take, for the card.
        licence: as the Hub writes it.
    """
    return files.undisturbed(folder, lambda: _packed(folder, source, licence))


def _packed(folder: Path, source: str, licence: str | None) -> Parcel:
    config = files.read_config(folder)
    _check_weights(folder, config)
    report = files.read_report(folder)
    picture = next((name for name in PICTURES if _is_picture(folder / name)), None)
    # Weights carry their hash in their names; what else goes along is read now, before another stack can take its place
    contents: dict[str, Path | bytes] = {files.CONFIG: (folder / files.CONFIG).read_bytes()}
    contents |= {level["file"]: folder / level["file"] for level in config["levels"]}
    if report is not None:
        contents[files.REPORT] = (folder / files.REPORT).read_bytes()
    if picture is not None:
        contents[picture] = folder / picture
    own = (folder / files.CARD).read_bytes() if (folder / files.CARD).is_file() else b""
    written = card.render(
        config, report, source=source, picture=picture, licence=licence, trained_on=files.trained_on(folder)
    )
    contents[files.CARD] = card.renewed(own, written)
    return Parcel(config["spec"], contents, {level["file"]: level["sha256"] for level in config["levels"]})


def _check_weights(folder: Path, config: dict[str, Any]) -> None:
    trained = [
        bool(flag.item())
        for level in config["levels"]
        if (flag := files.read_level(folder, level).get("trained")) is not None
    ]
    if any(trained) and not all(trained):
        number = trained.index(False) + 1
        raise FileError(f"{folder}: level {number} is not trained yet, others are: 'zoo train ... --resume' goes on")


def _is_picture(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST_PICTURE


def _make_room(api: HfApi, target: Reference, *, private: bool) -> None:
    """The repository and the branch, where they are not there yet."""
    api.create_repo(target.repo, private=private, exist_ok=True)
    if private and not api.model_info(target.repo).private:
        raise HubError(f"{target.repo} is there already, and public: make it private on the Hub, or push without that")
    if target.revision is not None and target.revision != "main":
        api.create_branch(target.repo, branch=target.revision, exist_ok=True)


def _settle(
    api: HfApi, target: Reference, parcel: Parcel, tag: str | None, message: str, attempts: int = ATTEMPTS
) -> str:
    """The commit that holds the parcel: a new one, or the last where it does already."""
    head = api.model_info(target.repo, revision=target.revision).sha
    if head is None or not is_commit(head):
        raise HubError(f"{target}: the Hub answers with a commit that is none: {ascii(head)[:80]}")
    operations = _operations(api, target.repo, head, parcel)
    tagged = None if tag is None else _tagged(api, target.repo, tag)
    if tagged is not None and (operations or tagged != head):
        raise HubError(f"{target}: the tag {tag} is at commit {tagged}, and stays there: take another one")
    if operations:
        try:
            head = api.create_commit(
                target.repo, operations, commit_message=message, revision=target.revision, parent_commit=head
            ).oid
        except Exception as error:
            if status(error) != 412 or attempts == 1:
                raise
            return _settle(api, target, parcel, tag, message, attempts - 1)
    if tag is not None and tagged is None:
        api.create_tag(target.repo, tag=tag, revision=head, tag_message=message)
    return head


def _operations(api: HfApi, repo: str, commit: str, parcel: Parcel) -> list[CommitOperationAdd | CommitOperationDelete]:
    """What makes this commit's files those of the parcel."""
    there = {entry.path: entry for entry in api.list_repo_tree(repo, revision=commit) if isinstance(entry, RepoFile)}
    stale = [name for name in there if _is_ours(name) and name not in parcel.contents]
    missing = {name: content for name, content in parcel.contents.items() if not parcel.is_at(name, there.get(name))}
    if files.CARD in missing and files.CARD in there and _is_kept(there[files.CARD], Reference(repo, commit), parcel):
        _log.warning("%s: the model card that is there was written by hand, and stays", repo)
        del missing[files.CARD]
    return [
        *(CommitOperationAdd(name, content) for name, content in missing.items()),
        *(CommitOperationDelete(name, is_folder=False) for name in stale),
    ]


def _is_kept(there: RepoFile, at: Reference, parcel: Parcel) -> bool:
    """Whether the Hub's card is one that its owner has written, and the parcel's is generated."""
    ours = parcel.contents[files.CARD]
    if not card.is_generated(ours.read_bytes() if isinstance(ours, Path) else ours):
        return False
    if there.size > files.LARGEST_JSON:  # the zoo writes none as large
        return True
    return not card.is_generated(connection.fetch(at, files.CARD, largest=files.LARGEST_JSON).read_bytes())


def _is_ours(name: str) -> bool:
    """Whether the zoo writes files of this name: an old one says nothing about the new stack."""
    return name in (files.REPORT, *PICTURES) or files.is_weights(name)


def _tagged(api: HfApi, repo: str, tag: str) -> str | None:
    """The commit that the tag is at, if there is one."""
    return next((str(ref.target_commit) for ref in api.list_repo_refs(repo).tags if ref.name == tag), None)
