"""The header of a safetensors file, read before any of its tensors: bounded, and checked to be all that it says.

The format (https://github.com/huggingface/safetensors): eight bytes, the length n of the header, little-endian; n bytes
of JSON, ``{"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {...}}``; the tensors,
without gaps. Its own reader takes the last of two tensors with one name, a header of 100 MB, and shapes of any rank.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from zoo.errors import FileError
from zoo.files.texts import parse_json, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import BinaryIO

LARGEST_HEADER = 16 * 2**20  # bytes; a tensor takes about 120
MOST_TENSORS = 2**16
MOST_METADATA = 1024
MOST_SIDES = 8
MOST_COMMAS = (MOST_SIDES + 4) * MOST_TENSORS
"""Between the parts of so many tensors: beyond it, a header is not worth being parsed."""
LARGEST_SIDE = 2**40
LONGEST_NAME = 512
METADATA = "__metadata__"

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class Slot:
    """A tensor of a file: its type and shape, and how many bytes it takes."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself, checked.

    Args:
        path: the file.
        begin: where the tensors begin, in bytes.
        slots: the tensors by name, in the order of their bytes, which lie without gaps from ``begin`` to the end.
        metadata: texts by name.
        hashed: the sha256 up to ``begin``, so that who reads on hashes the very header that was checked.
    """

    path: Path
    begin: int
    slots: dict[str, Slot]
    metadata: dict[str, str]
    hashed: Any = field(repr=False)

    @property
    def numbers(self) -> int:
        """The elements of all tensors together."""
        return sum(prod(slot.shape) for slot in self.slots.values())


def read_header(path: Path) -> Header:
    """The header of a safetensors file.

    Raises:
        FileError: the file cannot be read, or its header is not one; the message names the file and the tensor.
    """
    try:
        with path.open("rb") as handle:
            head, size = _head(handle, path), handle.seek(0, 2)
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read: {error}") from error
    if head.count(b",") > MOST_COMMAS:
        raise FileError(f"{path}: the header has more parts than one of {MOST_TENSORS} tensors: not safetensors")
    try:
        tree = parse_json(head[8:].rstrip(b" "), most=MOST_TENSORS + 2)
    except ValueError as error:
        raise FileError(f"{path}: the header is not one of safetensors: {error}") from error
    if not isinstance(tree, dict):
        raise FileError(f"{path}: the header holds a JSON {type(tree).__name__}, not an object")
    metadata = _metadata(tree.pop(METADATA, {}), path)
    return Header(path, len(head), _slots(tree, size - len(head), path), metadata, hashlib.sha256(head))


def _head(handle: BinaryIO, path: Path) -> bytes:
    """The first eight bytes and as many more as they say."""
    begin = handle.read(8)
    length = int.from_bytes(begin, "little")
    if len(begin) == 8 and begin[:4] in (b"PK\x03\x04", b"\x80\x02\x8a\x0a"):
        raise FileError(f"{path} is a pickle with another name: the zoo never reads one. Convert it to safetensors.")
    if len(begin) < 8:
        raise FileError(f"{path}: {len(begin)} bytes are no safetensors file")
    if length > LARGEST_HEADER:
        raise FileError(f"{path}: a header of {length} bytes, more than {LARGEST_HEADER}: damaged, or not safetensors")
    text = handle.read(length)
    if len(text) < length:
        raise FileError(f"{path}: a header of {length} bytes goes beyond the end of the file: damaged or half copied")
    return begin + text


def _metadata(tree: object, path: Path) -> dict[str, str]:
    if not isinstance(tree, dict) or not all(isinstance(value, str) for value in tree.values()):
        raise FileError(f"{path}: {METADATA} of the header is not an object of texts")
    if len(tree) > MOST_METADATA:
        raise FileError(f"{path}: {METADATA} of the header has {len(tree)} entries, more than {MOST_METADATA}")
    return tree


def _slots(tree: Mapping[str, Any], size: int, path: Path) -> dict[str, Slot]:
    """The tensors in the order of their bytes, each where the one before it ends, the last at the end of the file."""
    if len(tree) > MOST_TENSORS:
        raise FileError(f"{path}: {len(tree)} tensors, more than {MOST_TENSORS}: this is no file of weights")
    found = [(*_offsets(entry, name, path), name, _slot(entry, name, path)) for name, entry in tree.items()]
    found.sort(key=lambda place: place[:2])
    at = 0
    for start, end, name, slot in found:
        if (start, end) != (at, at + slot.bytes):
            raise FileError(
                f"{path}: {shown(name)} has its bytes from {start} to {end}; {slot.bytes} bytes from {at} on are due"
            )
        at = end
    if at != size:
        raise FileError(f"{path}: the tensors end after {at} bytes, the file after {size}: damaged or half copied")
    return {name: slot for _, _, name, slot in found}


def _offsets(entry: object, name: str, path: Path) -> tuple[int, int]:
    if len(name) > LONGEST_NAME or not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise FileError(f"{path}: the header's entry {shown(name)} is not a tensor's: dtype, shape and data_offsets")
    offsets = entry["data_offsets"]
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise FileError(f"{path}: {shown(name)} has the data_offsets {shown(offsets)}, not two places in the file")
    return offsets[0], offsets[1]


def _slot(entry: Mapping[str, Any], name: str, path: Path) -> Slot:
    kind, shape = entry["dtype"], entry["shape"]
    if not isinstance(kind, str) or kind not in DTYPES:
        raise FileError(f"{path}: {shown(name)} is of dtype {shown(kind)}; the zoo reads {', '.join(DTYPES)}")
    if not isinstance(shape, list) or len(shape) > MOST_SIDES:
        count = f"{len(shape)} sides, more than {MOST_SIDES}" if isinstance(shape, list) else shown(shape)
        raise FileError(f"{path}: the shape of {shown(name)} has {count}")
    if not all(map(_is_size, shape)):
        raise FileError(f"{path}: the shape of {shown(name)} is {shown(shape)}; a side is 0 to 2^40")
    dtype = DTYPES[kind]
    return Slot(dtype, tuple(shape), prod(shape) * dtype.itemsize)


def _is_size(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= LARGEST_SIDE
