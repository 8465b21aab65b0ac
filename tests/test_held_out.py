"""A level on codes is validated, and brought to scale, without encoding the same images again and again."""

from __future__ import annotations

import json

import pytest
import torch

from zoo import codes
from zoo.builder import build
from zoo.training import HISTORY, fit, held_out
from zoo.training import run as runs

SPEC = "8x8x1/conv4x4x3(width=4, blocks=1)/fc4(hidden=[16])+kl"
TRAIN, HELD = (torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(count)) for count in (96, 30))


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "trackers", lambda **_: [])
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def train(stack=None, **options):
    return fit(stack or build(SPEC), TRAIN, val=HELD, steps=25, batch_size=4, progress=False, **options)


@pytest.fixture
def encoded(monkeypatch):
    """How many images every call of the first level's stage has encoded while the upper parts are trained."""

    def count(stack):
        def encode(x):
            found.append(len(x))
            return own(x)

        found, own = [], stack.level(1).stage.encode
        monkeypatch.setattr(stack.level(1).stage, "encode", encode)
        return found

    return count


@pytest.mark.parametrize("spec", [SPEC, "8x8x1/conv4x4x3(width=4, blocks=1)/flow(width=8, blocks=1)"])
def test_the_level_below_encodes_everything_once(encoded, spec):
    stack = fit(build(spec), TRAIN, val=HELD, level=1, steps=2, progress=False)
    found = encoded(stack)
    train(stack, level=2)
    assert sum(found) == 1 + len(TRAIN) + len(HELD)  # the one tells what a code is like


def test_what_does_not_fit_is_encoded_for_every_look(encoded, monkeypatch):
    stack = fit(build(SPEC), TRAIN, val=HELD, level=1, steps=2, progress=False)
    found = encoded(stack)
    monkeypatch.setattr(held_out, "KEPT_BYTES", 4 * 16 * 48)  # one batch of 16 codes of 4x4x3, not the other of 14
    train(stack, level=2)
    looks = found.count(14)
    assert looks >= 3  # at its start, on the way, at its end
    assert sum(found) == 1 + len(TRAIN) + 16 + 14 * looks


def test_and_nothing_else_differs(tmp_path, monkeypatch):
    kept = train(out=tmp_path / "kept").state_dict()
    monkeypatch.setattr(held_out, "KEPT_BYTES", 0)
    again = train(out=tmp_path / "again").state_dict()
    assert all(torch.equal(kept[name], again[name]) for name in kept)
    looks = [
        [json.loads(line).get("val") for line in (tmp_path / run / HISTORY).read_text("utf-8").splitlines()]
        for run in ("kept", "again")
    ]
    assert looks[0] == looks[1]


@pytest.mark.parametrize(("kept", "within"), [("float32", 1e-5), ("float16", 1e-3)])
def test_the_scale_of_codes_is_that_of_images(monkeypatch, kept, within):
    level = train(code_dtype=kept).level(2)
    monkeypatch.setattr(codes.Coding, "plain", False)
    from_images = train(code_dtype=kept).level(2)
    torch.testing.assert_close(level.scale, from_images.scale, rtol=within, atol=within)
    torch.testing.assert_close(level.shift, from_images.shift, rtol=within, atol=within)
    assert not torch.equal(level.scale, torch.ones_like(level.scale))


@pytest.mark.parametrize("options", [{"codes": "moments"}, {"augment": "flip", "views": 2}, {"loss_in": "pixels"}])
def test_codes_that_are_drawn_or_of_views_do_not_set_it(encoded, options):
    spec = "8x8x1/conv4x4x3(width=4, blocks=1)+kl/fc4(hidden=[16])+kl"
    stack = fit(build(spec), TRAIN, val=HELD, level=1, steps=2, progress=False)
    found = encoded(stack)
    train(stack, level=2, **options)
    assert found[-1] == len(TRAIN)
