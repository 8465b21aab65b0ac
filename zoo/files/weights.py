"""Tensors in and out of safetensors files."""

from __future__ import annotations

import os
import re
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from zoo.errors import FileError
from zoo.files.headers import Header, Slot, read_header
from zoo.files.texts import CONFIG, named
from zoo.files.writing import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import Any, BinaryIO

    from torch import Tensor

CHUNK = 2**20
"""Bytes that are read, hashed and looked at in one go: they stay in the processor's cache."""

EXPONENTS = {
    torch.float64: (np.uint64, np.uint64(0x7FF0 << 48)),
    torch.float32: (np.uint32, np.uint32(0x7F80 << 16)),
    torch.bfloat16: (np.uint16, np.uint16(0x7F80)),
    torch.float16: (np.uint16, np.uint16(0x7C00)),
}
"""The bits of a number, and those of them that are its exponent."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file whole: to a temporary name beside it, then renamed.

    Raises:
        UnwritableError: the disk is full, or the folder may only be read.
    """
    with replacing(path) as temporary:
        try:
            save_file(
                {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()},
                temporary,
                dict(metadata or {}),
            )
        except SafetensorError as error:  # a full disk, say: "... No space left on device (os error 28)"
            found = re.search(r"\(os error (\d+)\)", str(error))
            number = None if found is None else int(found[1])
            raise OSError(number, str(error) if number is None else os.strerror(number)) from error


def read_tensors(path: Path, keep: Callable[[str], bool] | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file (those ``keep`` picks) and its metadata. Their values are not looked at.

    Raises:
        FileError: the file is missing, or not safetensors.
    """
    header = read_header(path)
    try:
        with safe_open(path, framework="pt") as handle:
            keys = [key for key in header.slots if keep is None or keep(key)]
            return {key: handle.get_tensor(key) for key in keys}, header.metadata
    except (SafetensorError, OSError) as error:
        raise FileError(f"{path} cannot be read as safetensors: {error}") from error


def check_fit(header: Header, wanted: Mapping[str, Tensor], keep: Callable[[str], bool] | None = None) -> None:
    """Every name, shape and type of a file (of those ``keep`` picks) is what a module wants.

    Raises:
        FileError: something is missing, too much or different; no weight has been read by then.
    """
    slots = {name: slot for name, slot in header.slots.items() if keep is None or keep(name)}
    missing, extra = wanted.keys() - slots.keys(), slots.keys() - wanted.keys()
    if missing or extra:
        raise FileError(f"{header.path} does not fit its spec: missing {_some(missing)}, not expected {_some(extra)}")
    for name, slot in slots.items():
        if slot.shape != wanted[name].shape or slot.dtype != wanted[name].dtype:
            raise FileError(
                f"{header.path}: {named(name)} is {slot.dtype} {slot.shape}, "
                f"its spec wants {wanted[name].dtype} {tuple(wanted[name].shape)}"
            )


def read_checked(header: Header, sha256: str, keep: Callable[[str], bool] | None = None) -> dict[str, Tensor]:
    """The tensors of a weight file (those ``keep`` picks): read once, hashed on the way, each number checked.

    What is hashed is what is returned: the tensors are the process's own memory, and a file that is exchanged or cut
    off later changes nothing.

    Raises:
        FileError: the file has another hash, or holds NaN, infinity, or a truth that is neither 0 nor 1.
    """
    whole, odd = header.hashed.copy(), None
    tensors: dict[str, Tensor] = {}
    try:
        with header.path.open("rb", buffering=0) as handle:
            handle.seek(header.begin)
            for name, slot in header.slots.items():
                kept = keep is None or keep(name)
                tensor, sound = _read(handle, slot, whole, kept=kept)
                if kept:
                    tensors[name] = tensor
                    odd = odd if sound else odd or name
    except OSError as error:
        raise FileError(f"{header.path} cannot be read: {error}") from error
    if whole.hexdigest() != sha256:
        raise FileError(f"{header.path}: its sha256 is not the one in {CONFIG}: damaged or exchanged. Copy it again.")
    if odd is not None:
        kind = "a truth that is neither 0 nor 1" if tensors[odd].dtype == torch.bool else "NaN or infinity"
        raise FileError(f"{header.path}: {named(odd)} holds {kind}: its training has diverged, or it was damaged")
    return tensors


def _read(handle: BinaryIO, slot: Slot, whole: Any, *, kept: bool) -> tuple[Tensor, bool]:
    """A tensor, and whether all its numbers are sound. One that is not kept is hashed and comes back empty."""
    memory = torch.empty(slot.bytes if kept else min(slot.bytes, CHUNK), dtype=torch.uint8, device="cpu")
    view, sound = memory.numpy().data, True
    for start, stop in _pieces(slot.bytes):
        first, last = (start, stop) if kept else (0, stop - start)
        _fill(handle, view[first:last])
        whole.update(view[first:last])
        if kept:
            sound = sound and _sound(memory[first:last], slot.dtype)
    return (memory.view(slot.dtype).reshape(slot.shape) if kept else memory), sound


def _pieces(size: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + CHUNK, size)) for start in range(0, size, CHUNK))


def _fill(handle: BinaryIO, view: memoryview) -> None:
    """Read until the memory is full; the system may give less at a time."""
    while len(view):
        got = handle.readinto(view)  # type: ignore[attr-defined]
        if not got:
            raise OSError("it ends before its last tensor: it was cut off while it was read")
        view = view[got:]


def _sound(piece: Tensor, dtype: torch.dtype) -> bool:
    if dtype == torch.bool:
        return bool((piece <= 1).all())
    if not (dtype.is_floating_point or dtype.is_complex):
        return True
    if dtype.itemsize == 1:  # NaN and infinity look different in each of the 8-bit floats
        return bool(piece.view(dtype).float().isfinite().all())
    # NaN and infinity have all bits of the exponent set. NumPy looks for them, as a thread of torch's that has helped
    # once would wait for its next piece, busy all the while that this one is hashed.
    bits, exponent = EXPONENTS[dtype.to_real()]
    return bool((piece.numpy().view(bits) & exponent).max() < exponent)


def _some(names: set[str]) -> list[str]:
    return [named(name) for name in islice(sorted(names), 5)]
