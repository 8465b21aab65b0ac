"""Codes as files: `zoo encode` and `zoo decode`."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.targets import FOLDER, check_apart, loaded, split_option
from zoo.errors import EvaluationError, FileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

    from zoo.data import Images
    from zoo.stack import Stack

CODES, FILES = "codes.safetensors", "files.json"
WRITER = "stackzoo"  # what a PNG file of ours says that it was written by
LARGEST_LIST = 2**30  # bytes of files.json: the names of some ten million images
BATCH = 256
LONGEST_STEM = 200  # bytes; file systems take 255, and a number and an ending are to come
_UNSAFE = re.compile(r"[^\w.+ -]|^\.+")


@click.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--data", required=True, metavar="NAME|DIR|FILE", help="Images.")
@split_option("all", "The part of the images that is encoded; all of a named set begins with its training images.")
@click.option("--level", type=click.IntRange(min=1), metavar="N", help="Codes of this level, not of the top one.")
@click.option("--out", required=True, type=FOLDER, metavar="CODES", help="The folder for the codes.")
def encode(folder: Path, data: str, split: str, level: int | None, out: Path) -> None:
    """Encode images to codes of a saved stack.

    CODES is a folder of codes.safetensors, with "codes" (N, ...) in float32 and, where the data has them, "labels"; and
    files.json, which says what they are codes of: file names in the order of the codes, classes, data, stack.
    """
    import torch

    from zoo import builder, files
    from zoo.data import images

    check_apart(out, data)
    _check_free(out)
    folder = builder.locate(folder).folder
    stack = loaded(folder, part="encoder")
    if level is not None and level > len(stack.levels):
        raise click.UsageError(f"--level {level}: {stack.spec} has levels 1 to {len(stack.levels)}.")
    shown = images(data, stack.input_shape, split=split)
    with torch.inference_mode(), _bar(len(shown), "encode") as bar:
        batches = []
        for part in _batches(len(shown)):
            batches.append(stack.encode(shown.batch(part).to(stack.device), level).float().cpu())
            bar.update(len(batches[-1]))
    tensors = {"codes": torch.cat(batches)} | ({} if shown.labels is None else {"labels": shown.labels})
    (out / FILES).unlink(missing_ok=True)  # whatever happens now, it says nothing of other codes
    files.write_tensors(out / CODES, tensors)
    files.write_json(out / FILES, _told(shown, stack, folder, level or len(stack.levels)))
    click.echo(f"{len(shown):,} codes of {' x '.join(map(str, tensors['codes'].shape[1:]))} numbers are in {out}.")


@click.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.argument("codes", metavar="CODES", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=FOLDER, help="The folder for the images.")
def decode(folder: Path, codes: Path, out: Path) -> None:
    """Decode codes to PNG files, by the stack that made them.

    CODES is a folder that `zoo encode` wrote, whose images keep their names, or a safetensors file with a tensor
    "codes" (N, ...). No file is replaced but those of an earlier decoding.
    """
    import torch

    from zoo import builder, files

    folder = builder.locate(folder).folder
    stack = loaded(folder, part="decoder")
    path = codes / CODES if codes.is_dir() else codes
    tensors, _ = files.read_tensors(path, lambda key: key == "codes")
    told = _read(codes / FILES)
    level = _level(told, stack, codes / FILES)
    z = _checked(tensors.get("codes"), stack, level, path)
    names = _names(told, codes / FILES, len(z), folder)
    _make_room(out, names)
    with torch.inference_mode(), _bar(len(z), "decode") as bar:
        for part in _batches(len(z)):
            for name, image in zip(names[part], stack.decode(z[part].to(stack.device), level).cpu(), strict=True):
                _write_png(image, out / name)
                bar.update()
    click.echo(f"{len(z):,} images are in {out}.")


def _check_free(out: Path) -> None:
    """Refuse to replace a files.json that says nothing of codes: it is somebody else's."""
    if not (out / FILES).is_file():
        return
    try:
        told = _read(out / FILES)
    except FileError:
        told = {}
    if "weights" not in told or "fingerprint" not in told:
        raise FileError(f"{out / FILES} is there already, and no encoding wrote it: choose another --out")


def _make_room(out: Path, names: list[str]) -> None:
    """The folder, which has no files of these names but those that an earlier decoding wrote: others are not replaced,
    as those that were encoded."""
    out.mkdir(parents=True, exist_ok=True)
    for path in (out / name for name in names):
        if path.exists() and not _is_decoded(path):
            raise FileError(f"{path} is there already, and no decoding wrote it: choose another --out")


def _is_decoded(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return bool(image.info.get("Software") == WRITER)
    except (OSError, SyntaxError):  # no image at all
        return False


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, min(start + BATCH, count)) for start in range(0, count, BATCH))


def _bar(total: int, title: str) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc=title, unit="img")


def _told(shown: Images, stack: Stack, folder: Path, level: int) -> dict[str, Any]:
    """What files.json says of the codes."""
    return {
        "spec": str(stack.spec),
        "weights": _weights(folder),
        "level": level,
        "data": shown.name,
        "split": shown.split,
        "fingerprint": shown.fingerprint,
        "files": None if shown.files is None else list(shown.files),
        "classes": None if shown.classes is None else list(shown.classes),
        "skipped": list(shown.skipped),
    }


def _weights(folder: Path) -> list[str]:
    """The sha256 of every level's file."""
    from zoo import files

    return [level["sha256"] for level in files.read_config(folder)["levels"]]


def _read(path: Path) -> dict[str, Any]:
    """What ``zoo encode`` says of the codes; nothing where it did not write them."""
    from zoo import files

    return files.read_json(path, largest=LARGEST_LIST) if path.is_file() else {}


def _level(told: dict[str, Any], stack: Stack, path: Path) -> int:
    """The level that the codes are of: the top one unless ``zoo encode`` says otherwise; 0 of a head alone."""
    top = len(stack.levels)
    level = told.get("level", top)
    if not isinstance(level, int) or not min(1, top) <= level <= top:
        raise FileError(
            f"{path}: the codes are of level {level!r}, and {stack.spec} has levels 1 to {top}: encode again"
        )
    return level


def _checked(codes: Tensor | None, stack: Stack, level: int, path: Path) -> Tensor:
    """Codes that this level can decode, or an error that says what they are instead."""
    if codes is None:
        raise FileError(f"{path} holds no tensor 'codes'")
    if codes.is_floating_point() and not codes.isfinite().all():
        raise FileError(f"{path} holds codes that are not finite")
    wanted, found = tuple(stack.level(level).code_shape if level else stack.code_shape), tuple(codes.shape[1:])
    if not codes.is_floating_point() or found != wanted:
        raise FileError(
            f"{path} holds {codes.dtype} codes of {found}; {stack.spec} decodes floating-point ones of {wanted}"
        )
    return codes.float()


def _names(told: dict[str, Any], path: Path, count: int, folder: Path) -> list[str]:
    """The names of the PNG files, those of the original images where they are known; no two are the same."""
    if told.get("weights", _weights(folder)) != _weights(folder):
        click.echo(f"Note: {path} says that the codes are those of another stack, {told.get('spec')}.", err=True)
    originals = told.get("files") or []
    if not isinstance(originals, list) or (originals and len(originals) != count):
        raise FileError(f"{path}: 'files' does not name one file for each of {count} codes: encode again")
    digits = max(5, len(str(count - 1)))
    return distinct([_stem(str(name)) for name in originals] or [f"{number:0{digits}}" for number in range(count)])


def _stem(name: str) -> str:
    """The stem of a file's name, safe as a name here whatever system or person it comes from."""
    stem = _UNSAFE.sub("_", PurePosixPath(name.replace("\\", "/")).stem)
    return stem.encode()[:LONGEST_STEM].decode(errors="ignore") or "_"


def distinct(stems: Iterable[str], ending: str = ".png") -> list[str]:
    """Names from stems, a number behind those that came before; also where a file system ignores case.

    >>> distinct(["a", "b", "A", "a-2"])
    ['a.png', 'b.png', 'A-2.png', 'a-2-2.png']
    """
    taken: dict[str, int] = {}
    names = []
    for stem in stems:
        name, copies = stem, taken.get(stem.casefold(), 0)
        while name.casefold() in taken:
            copies += 1
            name = f"{stem}-{copies + 1}"
        taken[stem.casefold()] = copies
        taken.setdefault(name.casefold(), 0)
        names.append(name + ending)
    return names


def _write_png(image: Tensor, path: Path) -> None:
    """Write one image (C, H, W) in [0, 1], pixel by pixel."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    if pixels.shape[2] > 4:
        raise EvaluationError(f"a PNG file has 1 to 4 channels, these images have {pixels.shape[2]}")
    told = PngInfo()
    told.add_text("Software", WRITER)
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(path, "PNG", pnginfo=told)
