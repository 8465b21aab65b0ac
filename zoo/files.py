"""Folders of stacks: config.json, safetensors and nothing else, written whole and read with suspicion."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from zoo import card
from zoo.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

FORMAT_VERSION = 1
CONFIG, REPORT, CARD = "config.json", "report.json", "README.md"
UNFINISHED = ".unfinished-"  # begins the names of what is still being written
LARGEST_JSON = 8 * 2**20  # bytes; a config of the deepest stack is a thousandth of this


def write(
    folder: str | Path, description: Mapping[str, Any], tensors: list[dict[str, Tensor]], report: dict[str, Any] | None
) -> Path:
    """Write a stack into a folder, which may exist and hold other files.

    Weight files carry their hash in their names and config.json, which names them, is replaced last: until then the
    folder is the old stack, from then on the new one. Weight files that nothing names any more are then removed.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    levels = [
        {**level, **_write_level(folder, number, weights)}
        for number, (level, weights) in enumerate(zip(description["levels"], tensors, strict=True), 1)
    ]
    config = {"format_version": FORMAT_VERSION, "zoo": zoo_version(), **description, "levels": levels}
    if report is not None:
        write_json(folder / REPORT, report)
    write_text(folder / CARD, card.render(config, report))
    write_json(folder / CONFIG, config)
    named = {level["file"] for level in levels}
    for stale in folder.glob("level-*.safetensors"):
        if stale.name not in named:
            stale.unlink()
    return folder


def read_config(folder: str | Path) -> dict[str, Any]:
    """The config of a saved stack, checked for its form.

    Raises:
        FileError: no stack there, a newer format, or a config that is not what ``write`` writes.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise FileError(f"no stack at {folder}: there is no {CONFIG}. A stack is a folder that stack.save() wrote.")
    config = read_json(folder / CONFIG)
    found = config.get("format_version")
    if found != FORMAT_VERSION:
        advice = "upgrade stackzoo" if isinstance(found, int) and found > FORMAT_VERSION else "save the stack again"
        raise FileError(f"{folder / CONFIG}: format_version {found!r}, this zoo reads {FORMAT_VERSION}: {advice}")
    _check_form(config, folder / CONFIG)
    return config


def read_report(folder: str | Path) -> dict[str, Any] | None:
    """The report beside a saved stack, None where there is none."""
    path = Path(folder) / REPORT
    return read_json(path) if path.is_file() else None


def write_report(folder: str | Path, report: dict[str, Any]) -> Path:
    """Put a report beside a saved stack, whose weights stay as they are, and into its model card."""
    folder = Path(folder)
    config = read_config(folder)
    write_json(folder / REPORT, report)
    write_text(folder / CARD, card.render(config, report))
    return folder / REPORT


def read_level(
    folder: str | Path, level: Mapping[str, Any], keep: Callable[[str], bool] | None = None
) -> dict[str, Tensor]:
    """The tensors of one level of a config, after its size and sha256 are checked; ``keep`` picks by key.

    Raises:
        FileError: the file is missing, has another size or hash, or is not safetensors.
    """
    path = Path(folder) / level["file"]
    if not path.is_file():
        raise FileError(f"{path} is missing: {CONFIG} names it. Copy the whole folder.")
    if path.stat().st_size != level["bytes"]:
        raise FileError(
            f"{path} has {path.stat().st_size} bytes, {CONFIG} says {level['bytes']}: damaged or half copied"
        )
    if sha256(path) != level["sha256"]:
        raise FileError(f"{path}: its sha256 is not the one in {CONFIG}: damaged or exchanged")
    return read_tensors(path, keep)[0]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file whole: to a temporary name beside it, then renamed."""
    with replacing(path) as temporary:
        try:
            save_file(
                {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()},
                temporary,
                dict(metadata or {}),
            )
        except SafetensorError as error:  # a full disk, say
            raise OSError(f"{path} cannot be written: {error}") from error


def read_tensors(path: Path, keep: Callable[[str], bool] | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file (those ``keep`` picks) and its metadata."""
    try:
        with safe_open(path, framework="pt") as handle:
            keys = [key for key in handle.keys() if keep is None or keep(key)]  # noqa: SIM118 - not a dict
            return {key: handle.get_tensor(key) for key in keys}, handle.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise FileError(f"{path} cannot be read as safetensors: {error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, *, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """A JSON object from a file of at most ``largest`` bytes, refusing duplicate keys and NaN."""
    try:
        if path.stat().st_size > largest:
            raise FileError(f"{path} has {path.stat().st_size} bytes; no file of the zoo is that large")
        value = json.loads(path.read_text("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{path} is not JSON that the zoo wrote: {error}") from error
    if not isinstance(value, dict):
        raise FileError(f"{path} holds a JSON {type(value).__name__}, not an object")
    return value


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole: to a temporary name beside it, then renamed."""
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, which takes its place if all went well and is removed if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED, suffix=f"-{path.name}")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def sweep(folder: Path) -> None:
    """Remove what processes that were killed left half-written here; for a folder that is this process's to write."""
    for stray in folder.glob(f"{UNFINISHED}*"):
        if stray.is_dir():
            shutil.rmtree(stray)
        else:
            stray.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The sha256 of a file, 64 hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 over the names, types, shapes and bytes of tensors, in their order, 64 hex digits."""
    whole = hashlib.sha256()
    for name, tensor in tensors.items():
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        whole.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return whole.hexdigest()


def zoo_version() -> str:
    """The installed version of the zoo."""
    try:
        return version("stackzoo")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0+unknown"


def _write_level(folder: Path, number: int, weights: dict[str, Tensor]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=folder, prefix=UNFINISHED) as scratch:
        written = Path(scratch) / "level.safetensors"
        write_tensors(written, weights)
        digest = sha256(written)
        file = folder / f"level-{number}-{digest[:8]}.safetensors"
        size = written.stat().st_size
        written.replace(file)
    return {"file": file.name, "bytes": size, "sha256": digest}


def _check_form(config: dict[str, Any], path: Path) -> None:
    levels = config.get("levels")
    if not isinstance(config.get("spec"), str) or not isinstance(levels, list):
        raise FileError(f"{path}: wants a text 'spec' and a list 'levels'")
    for number, level in enumerate(levels, 1):
        for key, kind in {"spec": str, "file": str, "bytes": int, "sha256": str}.items():
            if not isinstance(level, dict) or not isinstance(level.get(key), kind):
                raise FileError(f"{path}: levels[{number - 1}] wants {key!r}, {kind.__name__}")
        file = level["file"]
        if Path(file).name != file or "\\" in file or "\0" in file or not file.endswith(".safetensors"):
            raise FileError(f"{path}: levels[{number - 1}].file {file!r} is not a plain name of a .safetensors file")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return dict(pairs)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
