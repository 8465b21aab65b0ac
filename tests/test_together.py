"""Several at once, and some of them killed: a saved stack is the old one or the new one, for everybody, always."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest
import torch
from children import ended, start, until
from moments import Moments

from zoo import files
from zoo.builder import build, load
from zoo.errors import FileError
from zoo.hub.pushing import packed

OLD, NEW, OTHER = "4x4x1/conv2x2x2(width=2, blocks=0)/fc3(hidden=[4])", "4x4x1/fc2(hidden=[4])", "4x4x1/fc5(hidden=[4])"
STACKS = {spec: build(spec) for spec in (OLD, NEW, OTHER)}
ROUNDS = 15


def save(folder, spec):
    """A stack whose report tells of which it is."""
    return STACKS[spec].save(folder, report={"levels": [], "spec": spec})


def told(folder):
    """Which of the stacks is in a folder, by its weights, its spec and its report."""
    found = load(folder)
    (spec,) = [spec for spec, stack in STACKS.items() if same(found, stack)]
    assert str(found.spec) == str(STACKS[spec].spec)
    assert found.report is None or found.report["spec"] == spec
    return spec


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def whole(folder):
    """Which stack is in a folder, where nothing else is."""
    named = {level["file"] for level in files.read_config(folder)["levels"]}
    assert {path.name for path in folder.iterdir()} == {"config.json", "README.md", "report.json", *named}
    spec = told(folder)
    assert files.read_report(folder)["spec"] == spec
    return spec


class Pausing(Moments):
    """Before its n-th change of the folder a process says so, and waits until it may go on."""

    def __init__(self, folder, moment, where):
        self.moment, self.where = moment, where
        super().__init__(folder)

    def before(self, number):
        if number == self.moment:
            (self.where / "paused").touch()
            until((self.where / "go").exists)


def save_watched(folder, spec, shots):
    Moments(folder, shots)
    save(folder, spec)


def save_pausing(folder, spec, moment, where):
    Pausing(folder, moment, where)
    save(folder, spec)


def save_often(folder, spec):
    os.fsync = lambda handle: None
    for _ in range(ROUNDS):
        save(folder, spec)


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    """What a folder is before every change that a new stack makes to it: what a kill at that moment leaves."""
    root = tmp_path_factory.mktemp("shots")
    save(root / "stack", OLD)
    assert ended(start(save_watched, root / "stack", NEW, root / "shots", log=root / "log", environ={})) == 0
    return sorted((root / "shots").iterdir(), key=lambda path: int(path.name))


class TestSaving:
    def test_at_every_moment_it_is_the_old_or_the_new(self, shots, tmp_path):
        found = [told(shot) for shot in shots]
        assert len(found) > 8
        assert found[0] == OLD
        assert found[-1] == NEW
        assert sorted(found, key=[OLD, NEW].index) == found
        for number, shot in enumerate(shots):
            again = shutil.copytree(shot, tmp_path / str(number))
            save(again, NEW)
            assert whole(again) == NEW

    def test_two_at_once(self, shots, tmp_path):
        """One waits at every second change that it makes, while another comes; half of them are then killed."""
        for moment in range(1, len(shots) + 1, 2):
            where, killed = tmp_path / str(moment), moment % 4 == 1
            folder = save(where / "stack", OLD)
            (where / "two").touch()
            one = start(save_pausing, folder, NEW, moment, where, log=where / "one", environ={})
            until((where / "paused").exists)
            two = start(save, folder, OTHER, log=where / "two", environ={})
            until(lambda two=two, log=where / "two": not two.is_alive() or "waiting" in log.read_text())
            assert told(folder) in (OLD, NEW)
            if killed:
                one.kill()
            (where / "go").touch()
            assert [ended(one), ended(two)] == [-signal.SIGKILL if killed else 0, 0]
            assert whole(folder) == OTHER

    def test_many_times_and_a_reader(self, tmp_path):
        folder = save(tmp_path / "stack", OLD)
        writers = [start(save_often, folder, spec, log=tmp_path / "log", environ={}) for spec in (NEW, OTHER)]
        read = []
        while any(writer.is_alive() for writer in writers):
            read.append(told(folder))
        assert [ended(writer) for writer in writers] == [0, 0]
        assert len(set(read)) > 1
        assert whole(folder) in (NEW, OTHER)

    def test_a_report_is_not_put_beside_other_weights(self, tmp_path):
        """Nor is it lost, when the same weights are saved again."""
        folder = save(tmp_path / "stack", OLD)
        build(OLD).save(folder)
        assert whole(folder) == OLD
        (folder / "level-9-00000000.safetensors").write_bytes(b"what a kill has left")
        build(OLD).save(folder)
        assert whole(folder) == OLD
        build(NEW).save(folder)
        assert files.read_report(folder) is None


class TestReading:
    @pytest.mark.parametrize("name", ["read_checked", "read_header"])
    def test_weights_that_go_meanwhile(self, tmp_path, monkeypatch, name):
        """Another stack is saved after the config was read."""
        folder = save(tmp_path / "stack", OLD)
        module = {"read_checked": files.weights, "read_header": files.gate}[name]
        exchange(monkeypatch, module, name, folder)
        assert told(folder) == NEW

    def test_a_report_that_comes_meanwhile(self, tmp_path, monkeypatch):
        """Another stack is saved after the weights were read."""
        folder = save(tmp_path / "stack", OLD)
        exchange(monkeypatch, files, "read_report", folder)
        assert told(folder) == NEW

    def test_what_is_pushed_is_one_of_them(self, tmp_path, monkeypatch):
        """Another stack is saved while everything is looked at, and one more before it is sent."""
        folder = save(tmp_path / "stack", OLD)
        exchange(monkeypatch, files, "read_report", folder)
        parcel = packed(folder, "hf-hub:you/stage", None)
        save(folder, OTHER)
        config, report = (json.loads(parcel.contents[name]) for name in ("config.json", "report.json"))
        assert parcel.spec == config["spec"] == str(STACKS[NEW].spec)
        assert report["spec"] == NEW
        assert parcel.hashes.keys() == {level["file"] for level in config["levels"]} < parcel.contents.keys()

    def test_what_is_broken_stays_broken(self, tmp_path):
        folder = save(tmp_path / "stack", OLD)
        next(folder.glob("level-1-*")).unlink()
        with pytest.raises(FileError, match="is missing"):
            told(folder)
        with pytest.raises(FileError, match="no stack at"):
            told(tmp_path / "nothing")

    def test_a_folder_that_never_rests(self, tmp_path):
        folder = save(tmp_path / "stack", OLD)

        def read():
            save(folder, NEW)

        with pytest.raises(FileError, match="again and again: wait until that is over"):
            files.undisturbed(folder, read)


def exchange(monkeypatch, module, name, folder):
    """Save another stack there the moment a function is called for the first time."""
    monkeypatch.undo()
    real, calls = getattr(module, name), []

    def called(*arguments, **options):
        calls.append(name)
        if len(calls) == 1:
            save(folder, NEW)
        return real(*arguments, **options)

    monkeypatch.setattr(module, name, called)
