"""Saved folder to stack: built as its config says, on ``meta``, and filled when everything fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from zoo import files
from zoo.builder.assembly import assemble
from zoo.builder.resizing import resized
from zoo.builder.sources import locate
from zoo.errors import FileError, RegistryError, SpecError
from zoo.level import Level
from zoo.spec import StackSpec
from zoo.stack import Absent, Stack

if TYPE_CHECKING:
    from torch import nn

    from zoo.builder.sources import Source


Half = Literal["encoder", "decoder"]


def load(source: str | Path, *, part: Half | None = None, root: str | Path | None = None) -> Stack:
    """Load a saved stack, strictly: every size, hash, name and shape must be what its config says.

    It is built as its config says, on ``meta``, and only when everything fits are its weights read. docs/security.md
    lists what is refused.

    Args:
        source: a folder that ``stack.save`` wrote; of the Hub, ``"hf-hub:user/name@revision"``; or the name of a
            pretrained stage, as ``zoo list --pretrained`` has it.
        part: only the encoders or only the decoders; the other half's weights are not kept.
        root: links in the folder may lead to files under it; the folder itself where not given.

    Raises:
        FileError: the folder is missing, damaged or of a newer format, or its files contradict each other.
        HubError: the Hub has no such stack, or does not give it.
        RegistryError: a name that no installed plugin offers, or one of another plugin or a later version.
    """
    if part not in (None, "encoder", "decoder"):
        raise FileError(f"part={part!r}: 'encoder', 'decoder', or None for both")
    folder, within = locate(source).folder, None if root is None else Path(root)
    return files.undisturbed(folder, lambda: _opened(folder, part, within))


def _opened(folder: Path, part: Half | None, root: Path | None) -> Stack:
    saved = files.enter(folder, root)
    stack = _rebuild(saved)
    _fill(stack, saved, part)
    stack.report = files.read_report(saved.folder, saved.root)
    return stack.eval()


def open_for(source: Source, input: tuple[int, int, int] | None, levels: int | None = None) -> tuple[Stack, list[str]]:
    """A saved stack for images of another size, where its stages take any; and the sha256 of each level's weights.

    Args:
        source: where it is.
        input: height, width and channels of the images; those that it was saved for where None.
        levels: only so many of them, from the pixels up; all where None, or where there are fewer.

    Raises:
        SpecError: it is only for images of its own size.
        FileError, RegistryError: as by ``load``.
    """
    return files.undisturbed(source.folder, lambda: _opened_for(source.folder, input, levels))


def _opened_for(folder: Path, input: tuple[int, int, int] | None, levels: int | None) -> tuple[Stack, list[str]]:
    saved = files.enter(folder)
    if levels is not None:
        saved = saved.lower(levels)
    stack = _rebuild(saved)
    if input not in (None, saved.spec.input):
        with torch.device("meta"):
            full = resized(StackSpec(tuple(level.spec for level in saved.levels), saved.spec.input), input)
            stack = assemble(full)
        stack.spec = resized(saved.spec, input)
    _fill(stack, saved, None)
    return stack.eval(), [level.told["sha256"] for level in saved.levels]


def _rebuild(saved: files.Saved) -> Stack:
    """The stack of a config on ``meta``, without weights, as large as its files at most, and as the config says."""
    where = saved.config_path
    files.check_plugins(saved)
    files.check_specs(saved)
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
    stack.spec, stack.brought = saved.spec, saved.brought
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
        if not files.same(said, right):
            raise FileError(
                f"{saved.config_path}: {field} is {files.shown(said)}, the stack that its spec builds has "
                f"{files.shown(right)}"
            )


def _fill(stack: Stack, saved: files.Saved, part: Half | None) -> None:
    """Give a stack built on ``meta`` its tensors, once all of them fit."""
    modules: list[nn.Module] = [*stack.levels, *([] if stack.head is None else [stack.head])]
    other = {"encoder": "decoder", "decoder": "encoder", None: None}[part]

    def kept(key: str) -> bool:
        return other is None or not key.startswith(f"stage.{other}.")

    for module, level in zip(modules, saved.levels, strict=True):
        if other and isinstance(module, Level):
            setattr(module.stage, other, Absent(other, saved.folder))
        level.check_fit(module.state_dict(), kept)
    for module, level in zip(modules, saved.levels, strict=True):
        module.load_state_dict(level.tensors(kept), strict=True, assign=True)
        for name, buffer in module.named_buffers():
            if buffer.is_meta:
                raise FileError(
                    f"{level.header.path}: the plugin's buffer {name} is not saved, so it cannot be loaded; make it "
                    "persistent"
                )
