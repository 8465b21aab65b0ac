"""The moments of a process just before each change that it makes to a folder: what a kill would leave is there."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}


class Moments:
    """A file opened for writing, renamed or removed, a folder made or removed; ``kinds`` are the changes in turn.

    What lies there after one change is what lies there before the next, so nothing is left out that a kill could find.
    With ``shots`` it copies the folder into that one before every change, under the change's number.
    """

    def __init__(self, folder: Path, shots: Path | None = None) -> None:
        self.folder, self.shots, self.kinds = folder, shots, []
        self.busy = False
        sys.addaudithook(self.hear)

    def before(self, number: int) -> None:
        """What is done before a change, the first of which is 1."""

    def hear(self, event: str, arguments: tuple) -> None:
        if event not in CHANGES or self.busy or not isinstance(arguments[0], str | os.PathLike):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        path = os.fspath(arguments[0])
        if Path(path).exists() is (event == "os.mkdir") and event in ("os.mkdir", "os.remove"):
            return  # a folder that is there already, a file that is not: nothing changes
        if event == "open" and Path(path).name.startswith("."):
            return  # a temporary file: a kill before its renaming finds what one now would find, and it
        # rmtree names what it removes relative to a folder's descriptor, and links are relative too.
        if path.startswith(str(self.folder)) or not Path(path).is_absolute():
            self.kinds.append(event)
            self.busy = True
            self.before(len(self.kinds))
            if self.shots is not None:
                shutil.copytree(self.folder, self.shots / str(len(self.kinds)), symlinks=True)
            self.busy = False
