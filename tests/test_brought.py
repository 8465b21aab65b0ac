"""Levels that a spec brings: from a folder, from registry.json, from the Hub; and what is built on top of them."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from loopback import publish
from loopback.fixtures import *  # noqa: F403 - pytest finds them here

import zoo
from zoo import builder, files, registry
from zoo.errors import FileError, RegistryError, SpecError, TrainingError

SPEC = "8x8x1/conv2x2x4(blocks=0, width=4)/fc2(hidden=[16])+wae_mmd"  # what loopback.fixtures saves


def same(one, other):
    return all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


@pytest.fixture
def maps(tmp_path):
    """A saved stage whose code is a map, in colour."""
    stack = zoo.build("8x8x3/conv4x4x2(width=4, blocks=0)", seed=3)
    stack.level(1).trained.fill_(True)
    return stack.save(tmp_path / "maps")


# -- from a folder ---------------------------------------------------------------------------------------------------


def test_all_levels_of_a_folder_come_as_they_are(folder, stack):
    built = zoo.build(f"folder({folder})/fc1")
    assert str(built.spec) == f"{SPEC}/fc1"  # written out: the spec says what is there, not where it was
    assert built.input_shape == (1, 8, 8)
    assert same(stack.level(1), built.level(1))
    assert same(stack.level(2), built.level(2))
    assert built.brought == files.Brought(2, None, None, built.brought.sha256)
    assert not built.training


def test_the_first_levels_alone(folder, stack):
    built = zoo.build(f"folder({folder}, levels=1)/fc3+kl")
    assert str(built.spec) == "8x8x1/conv2x2x4(blocks=0, width=4)/fc3+kl"
    assert same(stack.level(1), built.level(1))
    assert built.brought.levels == 1


def test_the_first_levels_of_images_of_another_size(folder, stack):
    """Those above them, which would not go along, are not asked."""
    built = zoo.build(f"16x16x1/folder({folder}, levels=1)/fc3+kl")
    assert built.level(1).code_shape == (4, 4, 4)
    assert same(stack.level(1), built.level(1))
    with pytest.raises(SpecError, match="fc2 was trained for images of 8x8x1"):
        zoo.build(f"16x16x1/folder({folder})/fc3+kl")


def test_new_levels_have_fresh_weights_by_seed(folder):
    one, again, other = (zoo.build(f"folder({folder})/fc1", seed=seed) for seed in (0, 0, 1))
    assert same(one, again)
    assert not same(one.level(3), other.level(3))
    assert same(one.level(1), other.level(1))


def test_a_head_comes_with_the_whole_and_with_nothing_above(tmp_path):
    made = zoo.build("8x8x1/fc2(hidden=[8])/normal")
    made.head.mean.fill_(3)
    made.save(tmp_path / "whole")
    built = zoo.build(f"folder({tmp_path}/whole)")
    assert torch.equal(built.sample(4, seed=0), made.sample(4, seed=0))
    with pytest.raises(SpecError, match="ends in a head, so nothing stands above it: take its levels=1 alone"):
        zoo.build(f"folder({tmp_path}/whole)/fc1")
    assert zoo.build(f"folder({tmp_path}/whole, levels=1)/fc1").head is None


def test_images_of_another_size(maps):
    small = zoo.load(maps)
    large = zoo.build(f"16x12x3/folder({maps})/fc5")
    assert str(large.spec) == "16x12x3/conv8x6x2(blocks=0, width=4)/fc5"
    assert same(small.level(1), large.level(1))
    assert large.level(1).code_shape == (2, 8, 6)
    assert zoo.build(f"folder({maps})", input=(16, 16, 3)).code_shape == (2, 8, 8)
    x = torch.rand(2, 3, 16, 12)
    with torch.inference_mode():
        assert torch.equal(small.encode(x), large.encode(x, 1))


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("16x16x1/folder({folder})", "conv2x2x4 was trained for images of 8x8x1|fc2 was trained for images of 8x8x1"),
        ("8x8x1/folder({maps})", "of 8x8x3, not of 8x8x1: the number of channels stays"),
        ("9x9x3/folder({maps})", "its map would not be whole there"),
        ("folder({folder}, levels=3)", "has 2 levels, not 3"),
        ("folder({folder}, levels=0)", "levels=0: the number of levels to take"),
        ("folder({folder}, levels=true)", "levels=True: the number of levels to take"),
        ("folder({folder}, revision=v1)", "folder has no option 'revision' here"),
        ("folder({folder})+kl", r"brings its own terms: leave '\+kl' out"),
        ("folder8({folder})", r"takes one place, as in folder\(runs/mine\)"),
        ("folder", r"takes one place, as in folder\(runs/mine\)"),
        ("hub(8)", r"takes one place, as in hub\(user/name@revision\)"),
        ("hub(you/x, revision=7)", "a revision that looks like a number stands in double quotes"),
        ("8x8x1/fc4/folder({folder})", "stands for levels that begin at the pixels: it is the first"),
        ("8x8x1/fc4/hub(you/x)", "stands for levels that begin at the pixels: it is the first"),
        ("8x8x1/fc4/fc2.digits", "stands for levels that begin at the pixels: it is the first"),
    ],
)
def test_what_does_not_fit(spec, problem, folder, maps):
    with pytest.raises(SpecError, match=problem) as caught:
        zoo.build(spec.format(folder=folder, maps=maps))
    assert "^" in str(caught.value)


def test_damage_is_noticed_before_anything_is_built(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    weights = next(copy.glob("level-1-*"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(FileError, match="sha256"):
        zoo.build(f"folder({copy})/fc1")


# -- trained on top --------------------------------------------------------------------------------------------------


def test_what_was_brought_stays_as_it_is(folder, stack, tmp_path):
    built = zoo.build(f"folder({folder})/fc1(hidden=[4])")
    top = {name: tensor.clone() for name, tensor in built.level(3).state_dict().items()}
    zoo.fit(built, torch.rand(64, 1, 8, 8), steps=3, progress=False, out=tmp_path / "run")
    assert same(stack.level(1), built.level(1))
    assert same(stack.level(2), built.level(2))
    assert any(not torch.equal(tensor, built.level(3).state_dict()[name]) for name, tensor in top.items())
    lines = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert {line["level"] for line in lines} == {3}


def test_one_of_them_is_trained_on_when_it_is_named(folder, stack):
    built = zoo.build(f"folder({folder})/fc1")
    zoo.fit(built, torch.rand(64, 1, 8, 8), steps=2, level=1, progress=False)
    assert not same(stack.level(1), built.level(1))
    assert same(stack.level(2), built.level(2))


def test_nothing_left_to_train(folder):
    with pytest.raises(TrainingError, match=r"every level of .* came trained, so nothing is left to train"):
        zoo.fit(zoo.build(f"folder({folder})"), torch.rand(8, 1, 8, 8), steps=1, progress=False)


def test_a_run_is_not_resumed_on_other_levels_below(folder, tmp_path):
    x = torch.rand(64, 1, 8, 8)
    copy = shutil.copytree(folder, tmp_path / "below")
    zoo.fit(zoo.build(f"folder({copy})/fc1"), x, steps=2, progress=False, out=tmp_path / "run")
    other = zoo.load(folder)
    with torch.no_grad():
        other.level(1).shift.add_(1)
    other.save(copy)
    with pytest.raises(TrainingError, match=r"brought levels: .* then, .* now"):
        zoo.fit(zoo.build(f"folder({copy})/fc1"), x, steps=2, progress=False, out=tmp_path / "run", resume=True)


# -- from registry.json ----------------------------------------------------------------------------------------------


def test_the_stages_that_come_along_are_built_on_without_network():
    name = "conv7x7x10.fashion_mnist"
    stage, built = zoo.load(name), zoo.build(f"{name}/fc8+kl")
    assert str(built.spec) == "28x28x1/conv7x7x10/fc8+kl"
    assert same(stage.level(1), built.level(1))
    entry = registry.pretrained(name)
    weights = [file.sha256 for file in entry.files if file.name.startswith("level-")]
    assert built.brought == files.Brought(1, f"builtin:{name}", entry.revision, tuple(weights))


def test_a_name_that_is_not_published_names_the_nearest():
    with pytest.raises(RegistryError, match=r"did you mean conv7x7x10\.fashion_mnist|conv7x7x10\.fashion_mnist"):
        zoo.build("conv7x7x10.fashion_mnst/fc8")
    with pytest.raises(RegistryError, match=r"conv7x7x10\.fashion_mnist"):
        zoo.load("conv7x7x10.fashion_mnst")


def test_a_folder_of_that_name_is_a_folder(maps, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    maps.rename(tmp_path / "conv7x7x10.fashion_mnist")
    assert zoo.load("conv7x7x10.fashion_mnist").input_shape == (3, 8, 8)


def test_a_config_that_registry_json_does_not_know_is_refused(monkeypatch, tmp_path):
    entry = registry.pretrained("conv7x7x10.fashion_mnist")
    copy = shutil.copytree(entry.folder, tmp_path / "pretrained" / entry.name)
    config = copy / "config.json"
    config.write_text(config.read_text().replace('"stackzoo', '"stackzoo', 1) + " ")
    monkeypatch.setattr(type(entry), "folder", property(lambda self: copy))
    with pytest.raises(FileError, match=r"is not the one that .*registry\.json tells of conv7x7x10\.fashion_mnist"):
        builder.load(entry.name)


# -- saved again -----------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(folder, tmp_path):
    """A stack with a level of its own on two that came from a Hub, saved."""
    built = zoo.build(f"folder({folder})/fc1")
    built.brought = files.Brought(2, "hf-hub:you/digits", "0123456789abcdef" * 2 + "01234567", built.brought.sha256)
    return built, built.save(tmp_path / "recorded")


def test_where_levels_came_from_is_recorded_and_comes_back(recorded, folder):
    built, saved = recorded
    config = json.loads((saved / "config.json").read_text())
    assert config["brought"] == {
        "levels": 2,
        "source": "hf-hub:you/digits",
        "revision": built.brought.revision,
        "sha256": [level["sha256"] for level in json.loads((folder / "config.json").read_text())["levels"]],
    }
    again = zoo.load(saved)
    assert again.brought == built.brought
    assert same(built, again)
    # the very files, so that whoever has the one can check the other
    assert [level["sha256"] for level in config["levels"]][:2] == config["brought"]["sha256"]


def test_a_folder_of_ones_own_is_not_recorded(folder, tmp_path):
    saved = zoo.build(f"folder({folder})/fc1").save(tmp_path / "own")
    assert "brought" not in json.loads((saved / "config.json").read_text())
    assert str(folder) not in (saved / "config.json").read_text()


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        (None, 7, "brought is 7, not an object"),
        ("levels", 4, "brought.levels is 4, and the stack has 3"),
        ("levels", True, "brought.levels is True"),
        ("levels", 0, "brought.levels is 0"),
        ("source", "a b", "brought.source is 'a b'"),
        ("source", None, "brought.source is None"),
        ("revision", "v1", "brought.revision is 'v1'"),
        ("sha256", ["0" * 64], "brought.sha256 is .*; 64 hex digits for each"),
        ("sha256", "0" * 64, "brought.sha256 is"),
        ("sha256", ["0" * 64, 1], "brought.sha256 is"),
    ],
)
def test_a_record_that_is_none_is_refused(recorded, field, value, problem):
    path = recorded[1] / "config.json"
    config = json.loads(path.read_text())
    if field is None:
        config["brought"] = value
    else:
        config["brought"][field] = value
    path.write_text(json.dumps(config))
    with pytest.raises(FileError, match=problem):
        zoo.load(path.parent)


@pytest.mark.parametrize("first", ["folder(x)", "hub(you/digits)", "conv7x7x10.fashion_mnist"])
def test_a_saved_spec_does_not_reach_elsewhere(recorded, first):
    path = recorded[1] / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"spec": f"8x8x1/{first}/fc1"}))
    with pytest.raises(FileError, match="stands for the levels of another stack"):
        zoo.load(path.parent)


# -- from the Hub ----------------------------------------------------------------------------------------------------

STACKED = """
import torch, zoo
stack = zoo.build({spec!r})
print(stack.spec, stack.brought.levels, stack.brought.source, stack.brought.revision)
stack.save({out!r})
"""


def test_on_the_hub_at_the_commit_that_a_tag_is_now(other, folder, server, stack, tmp_path):
    commit = publish(server, folder)
    server.hub.repositories["you/digits"].tags["v1"] = commit.oid
    built = other.run(STACKED.format(spec="hub(you/digits@v1, levels=1)/fc3+kl", out=str(tmp_path / "mine")))
    spec = "8x8x1/conv2x2x4(blocks=0, width=4)/fc3+kl"
    assert built.lines[-1] == f"{spec} 1 hf-hub:you/digits {commit.oid}", built.text
    server.hub.repositories.clear()  # what was saved stands on its own
    mine = zoo.load(tmp_path / "mine")
    assert same(stack.level(1), mine.level(1))
    assert mine.brought.revision == commit.oid


def test_offline_and_by_a_revision_of_digits(other, folder, server, tmp_path):
    commit = publish(server, folder)
    server.hub.repositories["you/digits"].tags["1"] = commit.oid
    spec = 'hub(you/digits, revision="1")'
    code = STACKED.format(spec=spec, out=str(tmp_path / "mine"))
    online = other.run(code)
    offline = other.run(code, HF_HUB_OFFLINE="1")
    assert (offline.lines[-1], offline.requests) == (online.lines[-1], [])
    assert online.lines[-1] == f"{SPEC} 2 hf-hub:you/digits {commit.oid}"
