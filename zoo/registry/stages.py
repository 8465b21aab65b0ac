"""A published stage: what registry.json says of one, which is data and never code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BUILTIN = "builtin:"
PRETRAINED = "pretrained"
"""The folder beside a registry file that holds its builtin stages, each in a folder of its name."""

METRICS = ("mse", "mae", "psnr", "ssim")
"""What is recorded of a stage: the numbers of a report that come out the same, to 1e-4, on another machine."""


@dataclass(frozen=True)
class File:
    """A file of a published stage.

    Args:
        name: in the stage's folder.
        bytes: how many.
        sha256: 64 hex digits.
    """

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Data:
    """What a stage was trained on.

    Args:
        name: as ``zoo train --data`` takes it.
        licence: of the images, an SPDX identifier.
        url: where they are from.
        attribution: whom to name.
    """

    name: str
    licence: str
    url: str | None = None
    attribution: str | None = None


@dataclass(frozen=True)
class Measured:
    """What a stage was measured to do, and what it takes to do it again.

    Args:
        values: of ``METRICS``, each by its name.
        version: of the protocol of docs/evaluation.md.
        data: the images' name.
        split: the part of them.
        count: how many.
        fingerprint: the sha256 of their pixels, brought to the stage's size.
    """

    values: Mapping[str, float]
    version: int
    data: str
    split: str
    count: int
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """As registry.json has it."""
        protocol = {key: value for key, value in vars(self).items() if key != "values"}
        return {"values": dict(self.values), "protocol": protocol}


@dataclass(frozen=True)
class Published:
    """An entry of a registry file.

    Args:
        name: ``conv7x7x10.fashion_mnist``: the top stage of its spec with its shape, and a tag.
        spec: the spec, with its input.
        code_shape: of tensors: channels, height, width.
        source: ``"builtin:"``, or ``"hf-hub:user/name"``.
        revision: the commit, 40 hex digits: of the Hub's repository, or of the project that trained a builtin stage.
        files: all that are taken.
        data: what it was trained on.
        licence: of the weights, an SPDX identifier.
        metrics: the first is what it is known by.
        plugins: which distribution offers each name of the spec with all its terms.
        recipe: the command that trained it.
        registry: the file that names it.
    """

    name: str
    spec: str
    code_shape: tuple[int, ...]
    source: str
    revision: str
    files: tuple[File, ...]
    data: Data
    licence: str
    metrics: tuple[Measured, ...]
    plugins: Mapping[str, str]
    recipe: str
    registry: Path

    @property
    def folder(self) -> Path | None:
        """Where a builtin stage is, saved as any stack; None for one of the Hub."""
        return self.registry.parent / PRETRAINED / self.name if self.source == BUILTIN else None

    @property
    def reference(self) -> str | None:
        """What ``hub.pull`` takes: ``hf-hub:user/name@commit``; None for a builtin stage."""
        return None if self.source == BUILTIN else f"{self.source}@{self.revision}"

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(file.bytes for file in self.files)

    @property
    def code(self) -> str:
        """The code's shape as a spec writes it: height x width x channels."""
        shape = self.code_shape
        return "x".join(map(str, [*shape[1:], shape[0]] if len(shape) == 3 else shape))

    def to_json(self) -> dict[str, Any]:
        """The entry as registry.json has it."""
        data = {key: value for key, value in vars(self.data).items() if value is not None}
        return {
            "spec": self.spec,
            "code_shape": list(self.code_shape),
            "source": self.source,
            "revision": self.revision,
            "files": [dict(vars(file)) for file in self.files],
            "data": data,
            "licence": self.licence,
            "metrics": [measured.to_json() for measured in self.metrics],
            "plugins": dict(self.plugins),
            "recipe": self.recipe,
        }
