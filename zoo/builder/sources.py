"""Where a saved stack is: in a folder, on the Hub, or under a name of registry.json."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePath

from zoo import files, registry
from zoo.errors import FileError

HUB = "hf-hub:"
_PUBLISHED = re.compile(r"[A-Za-z_]+[0-9x]*\.[a-z0-9_]+")


@dataclass(frozen=True)
class Source:
    """A saved stack on this machine, and where it came from.

    Args:
        folder: its files.
        name: ``hf-hub:user/name`` or ``builtin:name``; None for a folder of one's own.
        revision: the commit, where it has a name.
    """

    folder: Path
    name: str | None = None
    revision: str | None = None


def locate(text: str | Path) -> Source:
    """Have the saved stack that a text names on this machine: a folder, ``hf-hub:user/name@revision``, ``name.tag``.

    Raises:
        HubError: the Hub has no such stack, or does not give it.
        RegistryError: registry.json has no stage of that name.
        FileError: what is there is not what registry.json says.
    """
    name = text.as_posix() if isinstance(text, PurePath) else str(text)  # on Windows a path turns the slashes of a name
    if name.startswith(HUB):
        return _pulled(name)
    if _PUBLISHED.fullmatch(name) and not files.exists(Path(text)):
        return _published(name)
    return Source(files.expanded(text))


def _pulled(reference: str) -> Source:
    from zoo import hub  # and with it the Hub's client, which is seldom needed

    pulled = hub.pull(reference)
    return Source(pulled.folder, f"{HUB}{pulled.reference.repo}", pulled.commit)


def _published(name: str) -> Source:
    stage = registry.pretrained(name)
    if stage.folder is not None:
        source = Source(stage.folder, f"builtin:{name}", stage.revision)
    else:
        source = _pulled(f"{stage.source}@{stage.revision}")
    told = {file.name: file.sha256 for file in stage.files}
    config = source.folder / files.CONFIG
    # config.json has the hashes of all weights, so whoever vouches for it vouches for them
    if not config.is_file() or files.sha256(config) != told.get(files.CONFIG):
        raise FileError(f"{config} is not the one that {stage.registry} tells of {name}: install or pull it again")
    return source
