"""What a run is: written down when it begins, compared when it is resumed."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from zoo import files, registry
from zoo.errors import FileError, TrainingError
from zoo.training.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from zoo.data import Images
    from zoo.stack import Stack
    from zoo.training.material import Material
    from zoo.training.members import Members

RATES = "learning_rates"
"""What ``lr="auto"`` found, by level: added to the record when it is found."""


def describe(
    stacks: Sequence[Stack],
    options: Options,
    material: Material,
    members: Members | None = None,
    *,
    device: torch.device,
) -> dict[str, Any]:
    """Everything that decides about the numbers of a run, JSON-ready."""
    stack = stacks[0]
    names = {item.name for level in stack.spec.levels for item in level.items}
    own = {} if members is None else {"seeds": [*members.seeds], "rates": [*members.rates]}
    return {
        "spec": " and ".join(str(stack.spec) for stack in stacks),
        "levels": [str(level.written_out or "") for stack in stacks for level in stack.lower()],
        "brought": [] if stack.brought is None else [*stack.brought.sha256],
        "data": _named(material.train),
        "val": _named(material.held),
        "options": options.describe() | own,
        "weights": files.digest({f"{n}.{name}": t for n, s in enumerate(stacks) for name, t in s.state_dict().items()}),
        "setting": {
            "zoo": files.zoo_version(),
            "plugins": {name: registry.find(name).origin for name in sorted(names)},
            "torch": version("torch"),
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "device": _named_device(device),
        },
    }


def read(folder: Path) -> dict[str, Any]:
    """What was written down of the run in a folder.

    Raises:
        TrainingError: there is none.
        FileError: it is damaged.
    """
    path = folder / files.RUN
    if not path.is_file():
        raise TrainingError(
            f"there is no run to resume in {folder}: {files.RUN} is missing. Without --resume one begins"
        )
    run = files.read_json(path)
    kinds = {"spec": str, "levels": list, "data": dict, "val": dict, "options": dict, "weights": str, "setting": dict}
    for key, kind in kinds.items():
        if not isinstance(run.get(key), kind):
            raise FileError(
                f"{path}: wants {key!r}, a {kind.__name__}: it is damaged, or of another version of the zoo"
            )
    return run


def compare(
    then: dict[str, Any], now: dict[str, Any], folder: Path, *, begun: bool, warn: Callable[[str], None]
) -> None:
    """Refuse to resume another run, and warn where the same run would not come to the same numbers.

    Args:
        then: what the folder says.
        now: what was asked for.
        folder: of the run.
        begun: there is a checkpoint, which replaces the weights that the run began with.
        warn: told of another version or machine.

    Raises:
        TrainingError: the spec, the data, an option or the first weights are others; it says which, and how.
    """
    defaults = Options(epochs=None).describe()
    old, new = ({**_flat(run), **defaults, **run["options"]} for run in (then, now))
    if not begun:
        old["first weights"], new["first weights"] = then["weights"][:12], now["weights"][:12]
    differing = [
        f"{name}: {old.get(name)!r} then, {value!r} now" for name, value in new.items() if old.get(name) != value
    ]
    if differing:
        raise TrainingError(
            f"{folder} holds another run, which cannot be resumed as this one: {'; '.join(differing)}. Repeat what "
            "it was given, or begin in another folder"
        )
    earlier = {"device": now["setting"]["device"], **then["setting"]}  # at first the device was not written down
    changed = [
        f"{name} {earlier.get(name)} then, {value} now"
        for name, value in now["setting"].items()
        if earlier.get(name) != value
    ]
    if changed:
        warn(f"resumed under another setting ({'; '.join(changed)}): the numbers may differ in their last digits")


def _flat(run: dict[str, Any]) -> dict[str, Any]:
    images = {
        part: f"{run[part].get('count')} images of {run[part].get('name')}, {str(run[part].get('sha256'))[:12]}, "
        f"labels {str(run[part].get('labels'))[:12]}"
        for part in ("data", "val")
    }
    brought = [str(digest)[:12] for digest in run.get("brought", [])]
    return {"spec": run["spec"], "levels": run["levels"], "brought levels": brought, **images}


def _named_device(device: torch.device) -> str:
    """Its kind, and which GPU it is."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def _named(images: Images) -> dict[str, Any]:
    return {
        "name": images.name,
        "split": images.split,
        "count": len(images),
        "sha256": images.fingerprint,
        "labels": None if images.labels is None else files.digest({"labels": images.labels}),
    }
