"""What the gate lets in: a saved stack whose config and headers are checked, and whose weights are not read yet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zoo.files import weights
from zoo.files.texts import CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from zoo.files.brought import Brought
    from zoo.files.headers import Header
    from zoo.spec import LevelSpec, StackSpec


@dataclass(frozen=True)
class SavedLevel:
    """A level, or the head, of a saved stack.

    Args:
        spec: its part of the spec with every option written out.
        told: what config.json says of it.
        header: what its weight file says of itself.
    """

    spec: LevelSpec
    told: dict[str, Any]
    header: Header

    def check_fit(self, wanted: Mapping[str, Tensor], keep: Callable[[str], bool] | None = None) -> None:
        """Names, shapes and types are those of the module; see `weights.check_fit`."""
        weights.check_fit(self.header, wanted, keep)

    def tensors(self, keep: Callable[[str], bool] | None = None) -> dict[str, Tensor]:
        """The weights, read and hashed in one go; see `weights.read_checked`."""
        return weights.read_checked(self.header, self.told["sha256"], keep)


@dataclass(frozen=True)
class Saved:
    """A saved stack that may come in: its config is checked, and so is what its weight files say of themselves.

    Args:
        folder: where it is.
        config: as it stands in config.json.
        spec: its spec, as it was given.
        levels: pixels first, the head last.
        root: links of the folder may lead to what is under it.
        brought: where its lower levels came from, if somebody else has trained them.
    """

    folder: Path
    config: dict[str, Any]
    spec: StackSpec
    levels: tuple[SavedLevel, ...]
    root: Path | None = None
    brought: Brought | None = None

    def lower(self, levels: int) -> Saved:
        """The first of its levels alone; all of it where it has no more."""
        if levels >= len(self.levels):
            return self
        config = {**self.config, "levels": self.config["levels"][:levels]}
        spec = replace(self.spec, levels=self.spec.levels[:levels])
        return replace(self, config=config, spec=spec, levels=self.levels[:levels])

    @property
    def config_path(self) -> Path:
        """For messages: every one names the file."""
        return self.folder / CONFIG

    @property
    def plugins(self) -> dict[str, str]:
        """Which distribution, and which version of it, each name came from."""
        plugins: dict[str, str] = self.config["plugins"]
        return plugins

    @property
    def names(self) -> set[str]:
        """The stages, terms and heads that it takes."""
        levels = (*self.spec.levels, *(level.spec for level in self.levels))
        return {item.name for level in levels for item in level.items}

    @property
    def headers(self) -> list[Header]:
        """Of all weight files."""
        return [level.header for level in self.levels]
