"""Where a backbone's weights come from: a file, a folder, a repository of the Hub, or timm's own. Safetensors only."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import FileError, HubError, SpecError
from zoo.networks.architectures import SAFE, read

if TYPE_CHECKING:
    from collections.abc import Mapping

HUB, FOLDER, SUFFIX = "hf-hub:", "local-dir:", ".safetensors"
FILE, CONFIG = f"model{SUFFIX}", "config.json"
OFFLINE = f'without a network, take a file that is here: weights="FILE{SUFFIX}"'
_SHOWN = 4


@dataclass(frozen=True)
class Place:
    """A place that ``weights=`` names.

    Args:
        text: as it was written.
        backbone: the network that it is of, where it says so.
        described: what it says of the network, as timm's ``pretrained_cfg`` has it.
    """

    text: str
    backbone: str | None
    described: Mapping[str, Any]


def look(text: str) -> Place:
    """What a place says of the network whose weights it has; a file alone says nothing.

    Raises:
        SpecError: it is no place, or its network is none that a spec can name.
        FileError, HubError: it cannot be read.
    """
    if not text.startswith((HUB, FOLDER)):
        if text.endswith(SUFFIX):
            return Place(text, None, {})
        raise SpecError(f"weights={text!r}: a {SUFFIX} file, {FOLDER}FOLDER or {HUB}user/name; the zoo reads no pickle")
    path = _had(text, CONFIG)
    try:
        told = json.loads(path.read_text("utf-8"))
        backbone, described, changes = (
            told["architecture"],
            told.get("pretrained_cfg", told),
            told.get("model_args", {}),
        )
        changes = {key: value for key, value in changes.items() if key != "img_size"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{path}: not the config of a network of timm ({_brief(error)})") from error
    if changes:
        raise SpecError(f"{text} changes its network by {changes}, which a spec cannot say: take a plain one")
    return Place(text, backbone, described)


def source(place: Place | None, classifier: str | tuple[str, ...] | None) -> dict[str, Any]:
    """Where timm takes the weights from, as its ``pretrained_cfg_overlay``: the tensors of a place, else timm's own.

    Args:
        place: timm's own weights of the network where None.
        classifier: the layers that are left out.

    Raises:
        FileError, HubError: the weights cannot be had.
    """
    if place is None:
        return dict(SAFE)
    tensors = read(_had(place.text, FILE))
    heads = tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier or ()))
    kept = {key: tensor for key, tensor in tensors.items() if not key.startswith(heads)}
    return {"state_dict": kept, "num_classes": 0, "classifier": None, "label_offset": 0}  # and so timm is strict


def refusal(name: str, place: Place | None, error: Exception) -> FileError | HubError:
    """What to say when timm could not give a network these weights."""
    if place is None:
        return HubError(f"timm's own weights of {name} cannot be had ({_brief(error)}); {OFFLINE}")
    text = str(error)
    found = [f"{kind} {_first(keys)}" for kind, keys in _keys(text)]
    return FileError(f"weights={place.text!r} do not fit {name}: {'; '.join(found) or _brief(error)}")


def _had(text: str, name: str) -> Path:
    """A file of a place, on this machine."""
    if text.startswith(FOLDER):
        return Path(text.removeprefix(FOLDER)) / name
    if not text.startswith(HUB):
        return Path(text)
    from huggingface_hub import hf_hub_download

    repository, _, revision = text.removeprefix(HUB).partition("@")
    try:
        return Path(hf_hub_download(repository, name, revision=revision or None))
    except Exception as error:  # the Hub's client and the network below it raise what they like
        raise HubError(f"{name} of {text} cannot be had ({_brief(error)}); {OFFLINE}") from error


def _keys(text: str) -> list[tuple[str, list[str]]]:
    """What torch says of weights that do not fit, by kind."""
    kinds = {
        "missing": r"Missing key\(s\) in state_dict: (.*)",
        "not expected": r"Unexpected key\(s\) in state_dict: (.*)",
    }
    lists = [(kind, re.search(form, text)) for kind, form in kinds.items()]
    found = [(kind, re.findall(r'"([^"]+)"', match[1])) for kind, match in lists if match is not None]
    other = re.findall(r"size mismatch for ([^:]+):", text)
    return [*found, *([("of another shape", other)] if other else [])]


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
