"""Somebody's machine, as the Hub sees it: an environment, a cache, and processes that use them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loopback.repositories import MAIN, Blob, Commit

if TYPE_CHECKING:
    from pathlib import Path

    from loopback.forks import Forks
    from loopback.server import Server


@dataclass
class Said:
    """What a process left behind: its exit code, what it said, and what it asked of the Hub."""

    code: int
    text: str
    requests: list[str]

    @property
    def error(self) -> str:
        """The last error's kind and message, as in "HubError: ..."."""
        found = list(re.finditer(r"^(?:[\w.]+\.)?(?=\w+Error: )", self.text, re.M))
        return self.text[found[-1].end() :].strip() if found else ""

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


@dataclass
class Machine:
    """A home of its own, somebody's token, and the Hub's address: all that a client knows."""

    server: Server
    forks: Forks
    home: Path
    environ: dict[str, str] = field(default_factory=dict)

    def start(self, code: str, **environ: str) -> int:
        """A process that runs this code; its number."""
        self.home.mkdir(parents=True, exist_ok=True)
        known = {
            "HF_ENDPOINT": self.server.endpoint,
            "HF_HOME": str(self.home),
            "HF_TOKEN": "hf_you",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        return self.forks.start(code, self.home / "said.txt", {**known, **self.environ, **environ})

    def run(self, code: str, **environ: str) -> Said:
        """The same, when it has ended."""
        before = len(self.server.requests)
        code_of_exit = self.forks.wait(self.start(code, **environ))
        text = (self.home / "said.txt").read_text("utf-8")
        return Said(code_of_exit, text, self.server.requests[before:])

    def zoo(self, *words: object, **environ: str) -> Said:
        """A command of the program."""
        arguments = [str(word) for word in words]
        return self.run(f"from zoo.cli import main; main({arguments!r}, prog_name='zoo')", **environ)

    def blobs(self) -> list[Path]:
        """What the client's cache holds, and what it left unfinished."""
        return sorted(self.home.glob("hub/models--*/blobs/*"))


def publish(server: Server, folder: Path, name: str = "you/digits", **files: bytes) -> Commit:
    """A saved folder as a repository, without a client; ``files`` stand in for those of the folder."""
    if name not in server.hub.repositories:
        server.hub.create(name, name.partition("/")[0], private=False)
    contents = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} | files
    blobs = {path: Blob(content, path.endswith((".safetensors", ".png"))) for path, content in contents.items()}
    server.hub.large |= {blob.sha256: blob.content for blob in blobs.values() if blob.large}
    return server.hub.repositories[name].add(MAIN, "a stack", blobs)
