"""Saved folder to stack: built as its config says, on ``meta``, and filled when everything fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from zoo import files
from zoo.builder.assembly import assemble
from zoo.errors import FileError, RegistryError, SpecError
from zoo.spec import StackSpec
from zoo.stack import Absent, Level, Stack

if TYPE_CHECKING:
    from torch import nn


def load(
    folder: str | Path, *, part: Literal["encoder", "decoder"] | None = None, root: str | Path | None = None
) -> Stack:
    """Load a saved stack, strictly: every size, hash, name and shape must be what its config says.

    It is built as its config says, on ``meta``, and only when everything fits are its weights read. docs/security.md
    lists what is refused.

    Args:
        folder: what ``stack.save`` wrote; or, of the Hub, ``"hf-hub:user/name@revision"``.
        part: only the encoders or only the decoders; the other half's weights are not kept.
        root: links in the folder may lead to files under it; the folder itself where not given.

    Raises:
        FileError: the folder is missing, damaged or of a newer format, or its files contradict each other.
        HubError: the Hub has no such stack, or does not give it.
        RegistryError: a name that no installed plugin offers, or one of another plugin or a later version.
    """
    if part not in (None, "encoder", "decoder"):
        raise FileError(f"part={part!r}: 'encoder', 'decoder', or None for both")
    saved = files.enter(_local(folder), None if root is None else Path(root))
    stack = _rebuild(saved)
    modules: list[nn.Module] = [*stack.levels, *([] if stack.head is None else [stack.head])]
    other = {"encoder": "decoder", "decoder": "encoder", None: None}[part]

    def kept(key: str) -> bool:
        return other is None or not key.startswith(f"stage.{other}.")

    for module, level in zip(modules, saved.levels, strict=True):
        if other and isinstance(module, Level):
            setattr(module.stage, other, Absent(other, saved.folder))
        level.check_fit(module.state_dict(), kept)
    for module, level in zip(modules, saved.levels, strict=True):
        _fill(module, level.tensors(kept), level.header.path)
    stack.report = files.read_report(saved.folder, saved.root)
    return stack.eval()


def _local(folder: str | Path) -> Path:
    """The folder itself, or that of what a reference to the Hub names."""
    if not str(folder).startswith("hf-hub:"):
        return Path(folder)
    from zoo import hub  # and with it the Hub's client, which is seldom needed

    return hub.pull(str(folder)).folder


def _rebuild(saved: files.Saved) -> Stack:
    """The stack of a config on ``meta``, without weights, as large as its files at most, and as the config says."""
    where = saved.config_path
    files.check_plugins(saved)
    files.check_sentences(saved)
    try:
        full = StackSpec(tuple(level.spec for level in saved.levels), saved.spec.input)
        with files.within_budget(saved.headers, f"{where}: levels"), torch.device("meta"):
            stack = assemble(full)
    except FileError:
        raise
    except RegistryError as error:
        raise RegistryError(f"{where}: {files.cleaned(error)}") from error
    except Exception as error:  # whatever a plugin's constructor makes of a stranger's options
        kind = "" if isinstance(error, SpecError) else f"{type(error).__name__}: "
        raise FileError(f"{where}: levels cannot be built: {kind}{files.cleaned(error)}") from error
    stack.spec = saved.spec
    _check_told(stack, saved)
    return stack


def _check_told(stack: Stack, saved: files.Saved) -> None:
    """What the config says of shapes, range, posterior and prior is so of the stack that it builds."""
    built = stack.description()
    told, made = saved.config["input"], built["input"]
    fields = [(f"input.{key}", told.get(key), made[key]) for key in ("shape", "layout", "range")]
    for number, (level, made) in enumerate(zip(saved.levels, built["levels"], strict=True)):
        fields += [
            (f"levels[{number}].{key}", level.told.get(key), made[key])
            for key in ("input_shape", "code_shape", "posterior", "prior")
            if key in made
        ]
    for field, said, right in fields:
        if not _same(said, right):
            raise FileError(
                f"{saved.config_path}: {field} is {files.shown(said)}, the stack that its spec builds has "
                f"{files.shown(right)}"
            )


def _same(said: Any, right: Any) -> bool:
    """Equal, and not as True is equal to 1."""
    if isinstance(said, list) and isinstance(right, list):
        return len(said) == len(right) and all(map(_same, said, right))
    return type(said) is type(right) and bool(said == right)


def _fill(module: nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Give a module built on ``meta`` its tensors, which fit."""
    module.load_state_dict(weights, strict=True, assign=True)
    for name, buffer in module.named_buffers():
        if buffer.is_meta:
            raise FileError(
                f"{path}: the plugin's buffer {name} is not saved, so it cannot be loaded; make it persistent"
            )
