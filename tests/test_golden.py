"""Saved stacks of every version of the format load, for ever, to the outputs that they had (tests/golden/README.md)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, get_args

import pytest
import torch
from golden.make import GOLDEN, HERE, STACKS, differing, outputs

import zoo
from zoo import files, registry
from zoo.posterior import Noise

if TYPE_CHECKING:
    from pathlib import Path

FOLDERS = sorted(HERE.glob("version-*/*"))
golden = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")


def recorded(folder: Path) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The images, and what the stack made of them when it was saved."""
    tensors, _ = files.read_tensors(folder / GOLDEN)
    return tensors.pop("images"), tensors


@golden
def test_it_loads_to_the_same_outputs(folder: Path) -> None:
    images, wanted = recorded(folder)
    found = outputs(zoo.load(folder), images)
    assert not differing(found, wanted)


@golden
def test_either_half_loads_to_the_same_outputs(folder: Path) -> None:
    images, wanted = recorded(folder)
    encoder, decoder = zoo.load(folder, part="encoder"), zoo.load(folder, part="decoder")
    with torch.inference_mode():
        for number in range(1, len(encoder.levels) + 1):
            mean, pixels = f"level-{number}.mean", f"level-{number}.pixels"
            assert not differing({mean: encoder.encode(images / 255, number)}, {mean: wanted[mean]})
            assert not differing({pixels: decoder.to_pixels(wanted[mean], number)}, {pixels: wanted[pixels]})
    if "samples" in wanted:
        samples = decoder.sample(len(wanted["samples"]), seed=0)
        assert not differing({"samples": samples}, {"samples": wanted["samples"]})


@golden
def test_it_can_be_saved_again(folder: Path, tmp_path: Path) -> None:
    images, wanted = recorded(folder)
    again = zoo.load(zoo.load(folder).save(tmp_path))
    assert not differing(outputs(again, images), wanted)
    assert str(again.spec) == config(folder)["spec"]


def test_a_stack_that_means_something_else_is_seen() -> None:
    """The comparison sees what a careless change would do: here another slope of every nonlinearity."""
    folder = HERE / "version-1" / "grey-two-levels"
    images, wanted = recorded(folder)
    stack = zoo.load(folder)
    for module in [module for module in stack.modules() if isinstance(module, torch.nn.SiLU)]:
        module.forward = torch.nn.functional.relu
    assert {"level-1.mean", "level-2.logvar", "level-2.kl", "samples"} <= {*differing(outputs(stack, images), wanted)}


def test_every_name_of_the_zoos_own_is_in_some_stack() -> None:
    """A new stage, term or head takes a new golden stack: a row in tests/golden/make.py."""
    own = {entry.name for plugin in registry.plugins() if plugin.distribution == "stackzoo"
           for entry in plugin.offers if entry.kind != "command"}  # fmt: skip
    assert sorted(own - {name for folder in FOLDERS for name in config(folder)["plugins"]}) == []


def test_every_kind_of_noise_is_in_some_stack() -> None:
    seen = set()
    for folder in FOLDERS:
        images, _ = recorded(folder)
        stack = zoo.load(folder)
        posteriors = [stack.posterior(images / 255, number) for number in range(1, len(stack.levels) + 1)]
        seen |= {posterior.noise for posterior in posteriors if posterior.logvar is not None}
    assert seen == set(get_args(Noise))


def test_every_version_of_the_format_has_its_stacks() -> None:
    assert {folder.parent.name for folder in FOLDERS} == {f"version-{n}" for n in range(1, files.FORMAT_VERSION + 1)}
    assert [
        folder.name for folder in FOLDERS if f"version-{config(folder)['format_version']}" != folder.parent.name
    ] == []


def test_every_row_of_the_script_is_there() -> None:
    assert {*STACKS} == {folder.name for folder in FOLDERS}


def test_they_are_small() -> None:
    assert sum(path.stat().st_size for path in HERE.rglob("*.*") if path.suffix != ".pyc") < 800_000


def config(folder: Path) -> dict:
    """The config of a saved stack as it is on disk."""
    return json.loads((folder / "config.json").read_text("utf-8"))
