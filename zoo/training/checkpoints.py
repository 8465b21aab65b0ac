"""Checkpoints: all that a course needs to go on as if it had never stopped, in one safetensors file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from zoo import files
from zoo.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

KEPT = 2
BEST = "best.safetensors"


@dataclass
class Checkpoint:
    """Where a run stands.

    Args:
        course: which course of the plan, from 0.
        step: optimiser steps taken in it.
        finished: the course is over, its level frozen.
        facts: JSON-ready: elapsed seconds, precision, the best loss so far, the length of the history ...
        tensors: weights, averages, optimiser states and random state, by prefixed name.
    """

    course: int
    step: int
    finished: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def section(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with ``prefix/``, without it."""
        return {
            name[len(prefix) + 1 :]: tensor for name, tensor in self.tensors.items() if name.startswith(f"{prefix}/")
        }

    def put(self, prefix: str, tensors: dict[str, Tensor]) -> None:
        """Add tensors under a prefix."""
        self.tensors.update({f"{prefix}/{name}": tensor for name, tensor in tensors.items()})

    def let_go(self) -> None:
        """Forget the tensors: Windows neither replaces nor removes a file while any of it is mapped into memory."""
        self.tensors.clear()


class Shelf:
    """The checkpoints of a run: the last two, and the best of the course under way.

    Args:
        folder: where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def begun(self) -> bool:
        """Whether there is any checkpoint, sound or not."""
        return bool(self._all()) or (self.folder / BEST).is_file()

    @property
    def course(self) -> int:
        """The course under way, as the name of the last checkpoint says; 0 without any."""
        found = self._all()
        return int(found[-1].name.partition("-")[0]) if found else 0

    def save(self, checkpoint: Checkpoint, *, best: bool = False) -> Path:
        """Write a checkpoint whole, then let go of those that are no longer wanted."""
        path = self.folder / (BEST if best else _name(checkpoint))
        facts = {
            "course": checkpoint.course,
            "step": checkpoint.step,
            "finished": checkpoint.finished,
            **checkpoint.facts,
        }
        tensors, state = _apart(checkpoint.tensors), json.dumps(facts)
        files.write_tensors(path, tensors, {"state": state, "sha256": _digest(tensors, state)})
        self._prune()
        return path

    def load(self, which: str, say: Callable[[str], None] = lambda _: None) -> Checkpoint | None:
        """The ``last`` or the ``best`` checkpoint; None where there is none yet.

        Args:
            which: of them.
            say: told of a last one that is damaged, which is passed over for the one before it.

        Raises:
            FileError: none of them can be read.
        """
        if which == "best":
            return _read(self.folder / BEST) if (self.folder / BEST).is_file() else None
        found = self._all()
        for path in reversed(found):
            try:
                return _read(path)
            except FileError as error:
                if path == found[0]:
                    raise
                say(f"{error}; going on from the checkpoint before it")
        return None

    def forget_after(self, checkpoint: Checkpoint | None) -> None:
        """Remove what was saved later than this: damaged, or a future that a run resumed from here may not have.

        The best one, where it is what a run goes on from, becomes the last one. With None there is none to go on from,
        and what killed processes left half-written goes.
        """
        files.sweep(self.folder)
        if checkpoint is None:
            return
        for path in self._all():
            if path.name > _name(checkpoint):
                path.unlink()
        if not (self.folder / _name(checkpoint)).is_file():
            self.save(checkpoint)  # not before later ones are gone, or it is the oldest, which makes room
        self._prune()

    def _prune(self) -> None:
        for old in self._all()[:-KEPT]:
            old.unlink(missing_ok=True)

    def _all(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("[0-9]*.safetensors"))


def _name(checkpoint: Checkpoint) -> str:
    """So that names sort by time."""
    return f"{checkpoint.course:02d}-{checkpoint.step:09d}{'f' * checkpoint.finished}.safetensors"


def _read(path: Path) -> Checkpoint:
    tensors, metadata = files.read_tensors(path)
    state = metadata.get("state", "")
    if metadata.get("sha256") != _digest(tensors, state):
        raise FileError(f"{path} is damaged, or no checkpoint of a run: its sha256 is another")
    facts = json.loads(state)
    return Checkpoint(facts.pop("course"), facts.pop("step"), facts.pop("finished"), facts, tensors)


def _digest(tensors: dict[str, Tensor], state: str) -> str:
    """The sha256 of all that a checkpoint holds: safetensors itself finds no flipped bit."""
    return sha256((files.digest(dict(sorted(tensors.items()))) + state).encode()).hexdigest()


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share memory, each with its own: what safetensors asks for."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        pointer = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.detach().clone() if pointer in seen else tensor.detach()
        seen.add(pointer)
    return apart
