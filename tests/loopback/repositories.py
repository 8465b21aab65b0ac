"""What a Hub keeps: repositories of commits, branches and tags, large files by their sha256, and who may do what."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

MAIN = "main"
ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.png filter=lfs diff=lfs merge=lfs -text\n"


class Refused(Exception):  # noqa: N818 - what is refused is no fault of the server
    """An answer that is an error: status, the code the client looks at, and the message it shows."""

    def __init__(self, status: int, message: str, code: str | None = None, commit: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.commit = status, message, code, commit


@dataclass(frozen=True)
class Blob:
    """A file's content, kept as git keeps it or as a large file."""

    content: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def git_sha1(self) -> str:
        kept = b"oid sha256:" + self.sha256.encode() if self.large else self.content
        return hashlib.sha1(b"blob %d\0%b" % (len(kept), kept), usedforsecurity=False).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.git_sha1

    def describe(self, path: str) -> dict[str, object]:
        """As the tree lists it."""
        entry = {"type": "file", "path": path, "size": len(self.content), "oid": self.git_sha1}
        if self.large:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": 130}
        return entry


@dataclass(frozen=True)
class Commit:
    """The files after it; its number follows from them and from what came before."""

    title: str
    files: dict[str, Blob]
    parent: str | None = None

    @property
    def oid(self) -> str:
        said = f"{self.parent} {self.title} {sorted((path, blob.git_sha1) for path, blob in self.files.items())}"
        return hashlib.sha1(said.encode(), usedforsecurity=False).hexdigest()


@dataclass
class Repository:
    """One repository. ``gated`` lets only those in who are ``granted``, ``private`` only its owner."""

    name: str
    private: bool = False
    gated: bool = False
    granted: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.add(MAIN, "initial commit", {".gitattributes": Blob(ATTRIBUTES, large=False)})

    def find(self, revision: str) -> Commit:
        """The commit that a branch, a tag or a number means."""
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def add(
        self, branch: str, title: str, files: dict[str, Blob], deleted: tuple[str, ...] = (), parent: str | None = None
    ) -> Commit:
        """One more commit on a branch; ``parent`` must be its last, if given."""
        head = self.branches.get(branch)
        if parent is not None and parent != head:
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        before = self.commits[head].files if head else {}
        kept = {path: blob for path, blob in before.items() if path not in deleted}
        commit = Commit(title, {**kept, **files}, head)
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit

    def history(self, revision: str = MAIN) -> list[Commit]:
        """From the last commit back to the first."""
        found = [self.find(revision)]
        while found[-1].parent is not None:
            found.append(self.commits[found[-1].parent])
        return found


@dataclass
class Hub:
    """Everything there is. A token names its user; ``expired`` ones are refused wherever they are shown."""

    tokens: dict[str, str] = field(default_factory=lambda: {"hf_you": "you", "hf_friend": "friend"})
    expired: set[str] = field(default_factory=set)
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)

    def user(self, token: str | None) -> str | None:
        """Whose token this is; nobody's where there is none."""
        if token is None:
            return None
        if token in self.expired or token not in self.tokens:
            raise Refused(401, "Invalid credentials in Authorization header")
        return self.tokens[token]

    def visible(self, name: str, user: str | None) -> Repository:
        """The repository, if this user may know of it."""
        repository = self.repositories.get(name)
        if repository is None or (repository.private and user != name.partition("/")[0]):
            raise Refused(404 if user else 401, "Repository not found", "RepoNotFound")
        return repository

    def readable(self, name: str, user: str | None) -> Repository:
        """The repository, if this user may have its files."""
        repository = self.visible(name, user)
        if repository.gated and user not in {name.partition("/")[0], *repository.granted}:
            raise Refused(403, f"Access to model {name} is restricted", "GatedRepo")
        return repository

    def writable(self, name: str, user: str | None) -> Repository:
        """The repository, if this user may change it."""
        if user is None:
            raise Refused(401, "Invalid username or password.")
        repository = self.visible(name, user)
        if user != name.partition("/")[0]:
            raise Refused(403, f"You are not {name.partition('/')[0]}")
        return repository

    def create(self, name: str, user: str | None, *, private: bool) -> Repository:
        """A new repository of this user's."""
        if user is None:
            raise Refused(401, "Invalid username or password.")
        if user != name.partition("/")[0]:
            raise Refused(403, f"You don't have the rights to create a model under this namespace: {name}")
        if name in self.repositories:
            raise Refused(409, "You already created this model repo")
        self.repositories[name] = Repository(name, private)
        return self.repositories[name]
