"""What commands are given: a spec or the folder of a saved stack, and how either is completed in a shell."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
from click.shell_completion import CompletionItem

from zoo import registry
from zoo.errors import FileError, RegistryError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zoo.stack import Stack

F = TypeVar("F", bound="Callable[..., Any]")
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
HUB = "hf-hub:"  # begins what is on the Hub; as in zoo.builder, which imports torch
CONFIG, RUN = "config.json", "run.json"  # of a saved stack, and of its training; as in zoo.files, which imports torch


def split_option(default: str, meaning: str) -> Callable[[F], F]:
    """The option ``--split``, of commands that read a part of the images."""
    parts = click.Choice(["train", "val", "test", "all"])  # as in zoo.data, which imports torch
    return click.option("--split", type=parts, default=default, show_default=True, help=meaning)


def saved(target: str) -> bool:
    """Whether this is a saved stack, in a folder or on the Hub, rather than a spec."""
    return target.startswith(HUB) or (Path(target) / CONFIG).is_file()


def opened(target: str, *, seed: int = 0) -> Stack:
    """The stack in this folder, or a fresh one from this spec."""
    from zoo.builder import build, load

    if saved(target):
        return load(target)
    with _as_a_folder(target):
        return build(target, seed=seed)


def loaded(folder: str | Path, *, part: Literal["encoder", "decoder"] | None = None) -> Stack:
    """The saved stack in this folder or of this name, on the device that training would take."""
    from accelerate.state import PartialState

    from zoo.builder import load

    return load(folder, part=part).to(PartialState().device)


def outlined(target: str) -> Stack:
    """The stack in this folder; or that of this spec without its weights, at once however large it is."""
    import torch

    from zoo.builder import build, load

    if saved(target):
        return load(target)
    with _as_a_folder(target), torch.device("meta"):
        return build(target)


def check_apart(out: Path, data: str, *, drawn: bool = False) -> None:
    """Refuse to write into the folder that images are read from, where what is written would become data.

    Args:
        out: a folder.
        data: what was given for images.
        drawn: pictures are written, so that a folder below the data's is refused too, unless it is passed over when
            images are read, as that of a run.

    Raises:
        click.UsageError: what is written would become data.
    """
    if not Path(data).is_dir():
        return
    if out.is_dir() and out.samefile(data):
        raise click.UsageError(f"--out {out} is the folder of the images: what is written there would be read as data.")
    if drawn:
        from zoo.data.listing import reads  # and with it torch

        if reads(Path(data), out):
            raise click.UsageError(
                f"--out {out} is below the folder of the images, {data}: the pictures would be read as data. Take a "
                "folder beside it."
            )


def png(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """A picture's path, as a callback of its option."""
    if value is not None and value.suffix.lower() != ".png":
        raise click.BadParameter("a picture is a .png file")
    return value


def complete_target(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The folders there are, and the names that could stand at the end of this spec."""
    begun = re.fullmatch(r"(?:.*(?P<joint>[/+]))?(?P<name>[A-Za-z_]*)", incomplete)
    names: list[str] = []
    if begun is not None:
        kinds = ("regularizer", "reconstruction") if begun["joint"] == "+" else ("stage", "head")
        names = [name for kind in kinds for name in registry.names(f"{begun['name']}*", kind=kind)]
    start = incomplete[: begun.start("name")] if begun is not None else incomplete
    found = [start + name for name in names] + registry.names(f"{incomplete}*", pretrained=True)
    return [CompletionItem(name) for name in found] or [CompletionItem(incomplete, type="dir")]


def complete_saved(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The folders there are, and the names of published stages."""
    found = registry.names(f"{incomplete}*", pretrained=True) if incomplete else []
    return [CompletionItem(name) for name in found] or [CompletionItem(incomplete, type="dir")]


@contextmanager
def _as_a_folder(target: str) -> Iterator[None]:
    """Where a spec cannot be understood, say that it is no folder of a saved stack either."""
    try:
        yield
    except (SpecError, RegistryError) as error:
        if (Path(target) / RUN).is_file():
            raise FileError(
                f"no stack at {target} yet: its training is not finished. The same 'zoo train' with --resume goes on"
            ) from error
        if Path(target).is_dir():
            raise FileError(f"no stack at {target}: there is no {CONFIG} in this folder") from error
        if isinstance(error, RegistryError) or target.startswith((".", "/", "~")):
            raise type(error)(f"{error}\nNor is {target} a folder: a saved stack would be one.") from error
        raise
