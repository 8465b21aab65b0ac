"""Configs and weight files with something wrong in them, by the thousand: each is refused, or means what it says.

    python tests/fuzz_gate.py --examples 1000000

runs for hours and tells what it found; tests/test_fuzz.py runs a few thousand. Every batch has a seed of its own, which
is told when it fails.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from forgeries import Forgery, packed, prefixed
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from pace import slower

from zoo import files
from zoo.builder import build, load
from zoo.errors import ZooError
from zoo.spec import parse

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC = "4x4x1/conv2x2x2(width=2)+stl/fc2(hidden=[2])+kl"
BATCH = 5_000
SECONDS = 2.0

WORDS = [
    *"x/+(),=[]. ", "conv", "fc", "kl", "stl", "mse", "gaussian", "normal", "wae_mmd", "ssim", "true", "false", "0",
    "1", "2", "3", "4", "64", "1000000000", "0.5", "-1", "1e9", "width", "blocks", "hidden", "noise", "shared", "local",
    "norm", "group", "up", "nearest", "linear", "weight", "weights", "overcomplete", '"a b"', "\x00", "é", "\ud800",
]  # fmt: skip
KEYS = ["", "spec", "_target_", "file", "dtype", "shape", "data_offsets", "__metadata__", "trained", "a.b"]
NUMBERS = [0, 1, 2, 4, -1, 2**31, 2**62, 2**63, 10**20, 10**400, 0.0, 1.0, 0.5, -0.0, 1e308]
TEXTS = [*WORDS, "F64", "F16", "BOOL", "F4", "../x", "C:\\x", "1" * 64, "level-1.safetensors", "x" * 5000]
keys = st.sampled_from(KEYS) | st.text(max_size=4)
plain = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.integers(-10, 100) | st.sampled_from(TEXTS)
values = st.recursive(
    plain | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything below a tree of JSON."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [found for key, part in pairs for found in [(*path, key), *places(part, (*path, key))]]


@st.composite
def altered(draw: Any, tree: Any) -> Any:
    """A tree with one to three changes."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        found = places(tree)
        if not found:
            break
        *path, last = draw(st.sampled_from(found))
        holder = tree
        for key in path:
            holder = holder[key]
        change(draw, tree, holder, last)
    return tree


def change(draw: Any, tree: Any, holder: Any, key: Any) -> None:
    """Change what a list or an object holds at a key."""
    how = draw(st.sampled_from(["replace", "replace", "remove", "copy", "add", "spell", "spell", "spell"]))
    if how == "remove":
        del holder[key]
    elif how == "copy":
        path, other = draw(st.sampled_from(places(tree))), tree
        for step in path:
            other = other[step]
        holder[key] = copy.deepcopy(other)
    elif how == "add" and isinstance(holder, dict):
        holder[draw(keys)] = draw(values)
    elif how == "spell" and isinstance(holder[key], str):
        holder[key] = respelt(draw, holder[key])
    elif how == "spell" and type(holder[key]) is int:
        holder[key] += draw(st.sampled_from([-1, 1, 4, -4, 2**32]))
    else:
        holder[key] = draw(values)


def respelt(draw: Any, text: str) -> str:
    """A text with a word exchanged, left out, put in or said twice."""
    parts = re.findall(r"[A-Za-z_]+|[0-9.]+|.", text, re.S)
    at = draw(st.integers(0, len(parts)))
    how = draw(st.sampled_from(["exchange", "remove", "insert", "double"]))
    word = draw(st.sampled_from(WORDS) | st.text(max_size=3))
    middle = {"exchange": [word], "remove": [], "insert": [word, *parts[at : at + 1]], "double": parts[at : at + 1] * 2}
    return "".join([*parts[:at], *middle[how], *parts[at + 1 :]])


def scratched(draw: Any, data: bytes) -> bytes:
    """Bytes of which some are changed, left out, put in or said twice."""
    for _ in range(draw(st.integers(0, 2))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(0, 12))
        part = data[at : at + length]
        new = draw(st.sampled_from([b"", part * 2, bytes(length)]) | st.binary(max_size=6))
        data = data[:at] + new + data[at + length :]
    return data


@st.composite
def configs(draw: Any, original: dict[str, Any]) -> bytes:
    """What may stand in config.json."""
    if draw(st.integers(0, 4)) == 0:
        return scratched(draw, json.dumps(original).encode())
    return json.dumps(draw(altered(original))).encode()


@st.composite
def weights(draw: Any, original: bytes) -> bytes:
    """What may stand in a weight file."""
    length = int.from_bytes(original[:8], "little")
    header, data = original[8 : 8 + length], original[8 + length :]
    how = draw(st.sampled_from(["tree", "tree", "tree", "header", "data", "all", "length", "twice"]))
    if how == "all":
        return scratched(draw, original)
    if how == "header":
        return prefixed(scratched(draw, header), data)
    if how == "data":
        return prefixed(header, scratched(draw, data))
    if how == "length":
        return draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little") + header + data
    entries = list(json.loads(header).items())
    if how == "twice":
        return packed([*entries, draw(st.sampled_from(entries))], data)
    return packed(draw(altered(dict(entries))).items(), data)


class Bench:
    """A sound stack, and a copy of it that is tampered with again and again."""

    def __init__(self, folder: Path) -> None:
        self.sound = Forgery(build(SPEC).save(folder / "sound"))
        self.forged = Forgery(build(SPEC).save(folder / "forged"))
        self.config = self.sound.config
        self.stack = load(self.sound.folder)
        self.found: Counter[str] = Counter()
        self.slowest = 0.0

    def try_config(self, data: bytes) -> None:
        """A config, with sound weights."""
        self.forged.config_path.write_bytes(data)
        self.judge()

    def try_weights(self, data: bytes) -> None:
        """A weight file, with a config that gives its true size and hash."""
        config = copy.deepcopy(self.config)
        path = self.forged.folder / config["levels"][0]["file"]
        kept = path.read_bytes()
        config["levels"][0].update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        self.forged.config_path.write_text(json.dumps(config))
        path.write_bytes(data)
        try:
            self.judge()
        finally:
            path.write_bytes(kept)

    def judge(self) -> None:
        """It is refused with a message that can be shown, or loads to what the config and the files say."""
        started = time.process_time()
        try:
            stack = load(self.forged.folder)
        except ZooError as error:
            stack, said = None, str(error)
            assert str(self.forged.folder) in said, said
            assert all(line.isprintable() for line in said.splitlines()), said
            assert len(said) < 4000, said
        seconds = time.process_time() - started
        self.slowest = max(self.slowest, seconds)
        assert seconds < SECONDS * slower(), seconds
        self.found["refused" if stack is None else "loaded"] += 1
        if stack is not None:
            self.check(stack)

    def check(self, stack: Any) -> None:
        """A stack that was let in is the one that the config describes, with the numbers that the files hold."""
        config, built = self.forged.config, stack.description()
        assert built["spec"] == str(parse(config["spec"]))
        assert built["input"].items() <= config["input"].items()
        for number, (told, made) in enumerate(zip(config["levels"], built["levels"], strict=True)):
            assert {key: told[key] for key in made if key != "spec"} == {k: v for k, v in made.items() if k != "spec"}
            full, given_ = parse(made["spec"]).levels[0], parse(told["spec"]).levels[0]
            assert [item.name for item in given_.items] == [item.name for item in full.items]
            for one, other in zip(given_.items, full.items, strict=True):
                assert one.options.items() <= other.options.items() or one.value is not None
            held = files.read_tensors(self.forged.weights(number))[0]
            module = stack.levels[number]
            assert held.keys() == module.state_dict().keys()
            assert all(torch.equal(tensor, held[key]) for key, tensor in module.state_dict().items())
        if built == self.stack.description() and self.same_files(config):
            x = torch.linspace(0, 1, 32).reshape(2, 1, 4, 4)
            with torch.inference_mode():
                assert torch.equal(stack(x), self.stack(x))

    def same_files(self, config: dict[str, Any]) -> bool:
        """Whether the weights are those of the sound stack."""
        return [level["sha256"] for level in config["levels"]] == [level["sha256"] for level in self.config["levels"]]


def fuzz(bench: Bench, examples: int, *, start: int = 0) -> None:
    """Try so many configs, and as many weight files."""
    sound = bench.sound.weights().read_bytes()
    for attempt, data in ((bench.try_config, configs(bench.config)), (bench.try_weights, weights(sound))):
        seed(start)(quietly(examples)(given(data)(one(attempt))))()


def one(attempt: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """A test, as hypothesis wants it."""

    def test(data: bytes) -> None:
        attempt(data)

    return test


def quietly(examples: int) -> settings:
    """So many examples, however long each takes, and none from the last run."""
    return settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def main() -> None:
    """Fuzz for long, in batches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench, started, batch = Bench(Path(folder)), time.monotonic(), 0
        while sum(bench.found.values()) < asked.examples:
            fuzz(bench, min(BATCH, asked.examples // 2), start=asked.seed + batch)
            batch += 1
            told = ", ".join(f"{count} {kind}" for kind, count in sorted(bench.found.items()))
            print(f"{told}; slowest {bench.slowest:.2f} s; {time.monotonic() - started:.0f} s", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
