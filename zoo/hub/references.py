"""Which repository at which revision: checked before the Hub's client builds paths and addresses of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from zoo.errors import HubError

PREFIX = "hf-hub:"
LONGEST = 96  # letters of a name, as on the Hub
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_STEP = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._+-]*[A-Za-z0-9_+-])?")  # of a revision, between slashes
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Reference:
    """A repository and a revision of it.

    Args:
        repo: "user/name".
        revision: a branch, a tag or a commit; None for the main branch.

    Raises:
        HubError: either is not one that the Hub would have.

    >>> Reference.parse("hf-hub:you/digits@v1")
    Reference(repo='you/digits', revision='v1')
    """

    repo: str
    revision: str | None = None

    def __post_init__(self) -> None:
        if problem := _repo_problem(self.repo):
            raise HubError(f"{_shown(self.repo)} is no repository: {problem}. One is user/name, as in you/digits.")
        if self.revision is not None:
            check_revision(self.revision)

    @classmethod
    def parse(cls, text: str) -> Reference:
        """From "user/name" or "user/name@revision", with or without "hf-hub:" before it."""
        repo, *revisions = text.removeprefix(PREFIX).split("@")
        if len(revisions) > 1:
            raise HubError(f"{_shown(text)} has {len(revisions)} '@': one, before the revision, as in you/digits@v1")
        return cls(repo, *revisions)

    @property
    def pinned(self) -> bool:
        """Whether the revision is a whole commit, which never changes."""
        return is_commit(self.revision)

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def check_revision(revision: str) -> None:
    """Refuse what is no branch, tag or commit.

    Raises:
        HubError: it says why.
    """
    if problem := _revision_problem(revision):
        raise HubError(
            f"{_shown(revision)} is no revision: {problem}. One is a branch, a tag or a commit, as in main or v1."
        )


def is_commit(revision: str | None) -> bool:
    """Whether this is a commit's whole number, 40 hex digits."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def _repo_problem(repo: str) -> str | None:
    parts = repo.split("/")
    if len(parts) != 2:
        return f"it has {len(parts) - 1} '/'"
    for part in parts:
        if not part:
            return "a part of it is empty"
        if not _NAME.fullmatch(part):
            return f"{_shown(part)} may hold letters, digits, '_', '-' and '.', the last two not at its ends"
        if "--" in part or ".." in part:
            return "it holds '--' or '..'"
        if len(part) > LONGEST:
            return f"a part of it is longer than {LONGEST} letters"
    return "it ends in .git" if repo.endswith(".git") else None


def _revision_problem(revision: str) -> str | None:
    if not revision:
        return "it is empty"
    if len(revision) > 2 * LONGEST:
        return f"it is longer than {2 * LONGEST} letters"
    for step in revision.split("/"):
        if not _STEP.fullmatch(step):
            return f"{_shown(step)} may hold letters, digits, '_', '-', '+' and '.', and does not begin with '-' or '.'"
        if ".." in step or step.endswith(".lock"):
            return "git has no revisions with '..' or '.lock'"
    return None


def _shown(text: str) -> str:
    """The text as it can be printed anywhere, long ones cut."""
    return ascii(text if len(text) <= 80 else f"{text[:80]}...")
