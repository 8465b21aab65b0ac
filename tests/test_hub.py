"""Stacks travel: pushed by one, pulled and loaded without network by another. The real client, and a Hub of ours."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from loopback import Fault, publish
from loopback.fixtures import *  # noqa: F403 - pytest finds them here
from pace import PATIENCE

import zoo

LOAD = """
import hashlib, sys, torch, zoo
stack = zoo.load({source!r})
images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    z = stack.encode(images)
    print(hashlib.sha256(z.numpy().tobytes() + stack.decode(z).numpy().tobytes()).hexdigest())
"""
V1 = "hf-hub:you/digits@v1"


def load(source=V1):
    """Code that loads a stack and prints a hash of what it makes of images."""
    return LOAD.format(source=source)


def pushing(folder, **options):
    return f"import zoo; print(zoo.load({str(folder)!r}).push_to_hub('you/digits', **{options!r}))"


@pytest.fixture(scope="session")
def outputs(folder, forks, tmp_path_factory):
    """What the stack of the folder makes of images, in a process like all others."""
    log = tmp_path_factory.mktemp("outputs") / "said.txt"
    assert forks.wait(forks.start(load(str(folder)), log, {})) == 0
    return log.read_text().splitlines()[-1]


# -- there and back --------------------------------------------------------------------------------------------------


def test_push_tag_pull_elsewhere_and_load_offline(machine, other, folder, outputs, server):
    pushed = machine.run(pushing(folder, tag="v1", message="The first"))
    repository = server.hub.repositories["you/digits"]
    commit = repository.find("v1")
    assert pushed.lines[-1] == f"{server.endpoint}/you/digits/commit/{commit.oid}"
    assert [commit.title for commit in repository.history()] == ["The first", "initial commit"]
    config = json.loads((folder / "config.json").read_text())
    names = {"config.json", "README.md", "report.json", *(level["file"] for level in config["levels"])}
    assert commit.files.keys() == names | {".gitattributes"}
    assert not repository.private

    pulled = other.run(load())
    assert pulled.lines[-1] == outputs
    offline = other.run(load(), HF_HUB_OFFLINE="1")
    assert (offline.lines[-1], offline.requests) == (outputs, [])
    assert other.run(load(f"hf-hub:you/digits@{commit.oid}")).requests == []  # a commit never changes
    unreachable = other.run(load(), HF_ENDPOINT="http://127.0.0.1:9")
    assert unreachable.lines[-1] == outputs
    assert "the Hub is away" in unreachable.text


def test_what_is_taken_is_what_is_named_at_one_commit(other, folder, outputs, server):
    first = publish(server, folder, **{"level-9-00000000.safetensors": b"not named", "pytorch_model.bin": b"never"})
    server.hub.repositories["you/digits"].tags["v1"] = first.oid
    pulled = other.run(load())
    assert pulled.lines[-1] == outputs
    fetched = {request.rpartition("/")[2] for request in pulled.requests}
    config = json.loads((folder / "config.json").read_text())
    assert fetched == {"config.json", "report.json", "README.md", *(level["file"] for level in config["levels"])}
    later = [request for request in pulled.requests if "/resolve/" in request and "config.json" not in request]
    assert all(f"/resolve/{first.oid}/" in request for request in later)


def test_the_commands(machine, other, folder, server, tmp_path):
    said = machine.zoo("push", folder, "you/digits", "--tag", "v1", "--private")
    assert said.code == 0, said.text
    assert "To load it: zoo.load('hf-hub:you/digits@v1')" in said.text
    assert server.hub.repositories["you/digits"].private
    refused = other.zoo("pull", "you/digits@v1")
    assert refused.code == 1
    assert "there is no such repository, or it is private" in refused.text

    out = tmp_path / "copied"
    publish_old = out / "level-1-00000000.safetensors"
    out.mkdir()
    publish_old.write_bytes(b"of an older stack")
    pulled = machine.zoo("pull", "you/digits@v1", "--out", out, HF_HOME=str(tmp_path / "another"))
    assert pulled.code == 0, pulled.text
    assert str(out) in pulled.lines
    assert {path.name for path in out.iterdir()} == {path.name for path in folder.iterdir()}
    assert all((out / path.name).read_bytes() == path.read_bytes() for path in folder.iterdir() if path.suffix != ".md")
    assert zoo.load(out).report["summary"] == "It was measured."
    assert machine.zoo("push", tmp_path / "nothing", "you/digits").code == 1


# -- pushing ---------------------------------------------------------------------------------------------------------


def test_pushing_the_same_twice_makes_one_commit(machine, folder, server):
    first, second = machine.run(pushing(folder, tag="v1")), machine.run(pushing(folder, tag="v1"))
    assert first.lines[-1] == second.lines[-1]
    assert len(server.hub.repositories["you/digits"].history()) == 2
    assert not [request for request in second.requests if "commit" in request or request.startswith("PUT")]


def test_another_stack_replaces_the_old_one_in_one_commit(machine, folder, server, tmp_path):
    before = publish(server, folder, **{"notes.txt": b"mine"})
    server.hub.repositories["you/digits"].tags["v1"] = before.oid
    changed = zoo.build("8x8x1/fc2(hidden=[8])+wae_mmd").save(tmp_path / "changed")
    taken = machine.run(pushing(changed, tag="v1"))
    assert taken.error == (
        f"HubError: you/digits: the tag v1 is at commit {before.oid}, and stays there: take another one"
    )
    assert len(server.hub.repositories["you/digits"].history()) == 2
    said = machine.run(pushing(changed, tag="v2"))
    assert said.code == 0, said.text
    files = server.hub.repositories["you/digits"].find("v2").files
    config = json.loads(files["config.json"].content)
    kept = {".gitattributes", "notes.txt", "README.md", "config.json", config["levels"][0]["file"]}
    assert files.keys() == kept  # the old weights are gone, and so is the report, which was of them
    assert len(server.hub.repositories["you/digits"].history()) == 3
    pinned = load(f"hf-hub:you/digits@{server.hub.repositories['you/digits'].tags['v2']}")
    assert machine.run(pinned).code == 0
    assert machine.run(pinned).requests == []  # that there is no report, the cache knows too


def test_a_branch_is_made_where_there_is_none(machine, folder, server):
    said = machine.run(pushing(folder, revision="wider/try"))
    repository = server.hub.repositories["you/digits"]
    assert said.lines[-1].endswith(repository.branches["wider/try"])
    assert len(repository.history("main")) == 1
    assert 'zoo.load("hf-hub:you/digits@wider/try")' in repository.find("wider/try").files["README.md"].content.decode()
    assert machine.run(load("hf-hub:you/digits@wider/try")).code == 0


def test_the_card_on_the_hub(machine, folder, server, tmp_path):
    shutil.copytree(folder, tmp_path / "drawn")
    (tmp_path / "drawn" / "samples.png").write_bytes(b"\x89PNG")
    machine.run(f"from zoo import hub; hub.push({str(tmp_path / 'drawn')!r}, 'you/digits', licence='apache-2.0')")
    files = server.hub.repositories["you/digits"].find("main").files
    text = files["README.md"].content.decode()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert metadata["license"] == "apache-2.0"
    assert "datasets" not in metadata  # there is no run that says what it was trained on
    assert 'zoo.load("hf-hub:you/digits")' in text
    assert "(samples.png)" in text
    assert files["samples.png"].large
    (tmp_path / "drawn" / "README.md").write_text("My own words.")
    machine.run(pushing(tmp_path / "drawn"))  # which saves anew, and so writes a card
    machine.run(f"from zoo import hub; hub.push({str(tmp_path / 'drawn')!r}, 'you/digits')")
    assert server.hub.repositories["you/digits"].find("main").files["README.md"].content == b"My own words."
    machine.run(f"from zoo import hub; hub.push({str(folder)!r}, 'you/digits')")  # with a generated card
    files = server.hub.repositories["you/digits"].find("main").files
    assert files["README.md"].content == b"My own words."
    assert "samples.png" not in files


def test_a_private_push_never_ends_in_public(machine, folder, server):
    before = publish(server, folder)
    said = machine.run(pushing(folder, private=True))
    assert "is there already, and public" in said.error
    assert server.hub.repositories["you/digits"].branches["main"] == before.oid


@pytest.mark.parametrize(("times", "commits"), [(1, 3), (None, 4)])
def test_somebody_else_commits_first(machine, folder, server, times, commits):
    server.faults.append(Fault("overtake", "POST .*/commit/main", times))
    said = machine.run(pushing(folder))
    repository = server.hub.repositories["you/digits"]
    assert len(repository.history()) == commits
    if times is None:
        assert said.error.startswith("HubError: you/digits: others commit at the same time")
    else:
        assert said.code == 0, said.text
        assert "notes.txt" in repository.find("main").files


def half_copied(folder):
    next(folder.glob("level-1-*")).unlink()


def damaged(folder):
    path = next(folder.glob("level-2-*"))
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")


def half_trained(folder):
    stack = zoo.load(folder)
    stack.level(2).trained.fill_(False)
    stack.save(folder)


@pytest.mark.parametrize(
    ("harm", "message"),
    [(half_copied, "is missing"), (damaged, "sha256 is not"), (half_trained, "level 2 is not trained yet")],
)
def test_nothing_half_done_is_pushed(machine, folder, tmp_path, harm, message):
    shutil.copytree(folder, tmp_path / "harmed")
    harm(tmp_path / "harmed")
    said = machine.run(f"from zoo import hub; hub.push({str(tmp_path / 'harmed')!r}, 'you/digits')")
    assert message in said.error
    assert said.error.startswith("FileError")
    assert said.requests == []


# -- damage, death, company ------------------------------------------------------------------------------------------


def test_a_flipped_byte_is_caught_by_us_and_not_by_the_client(machine, other, folder, outputs, server):
    commit = publish(server, folder)
    server.hub.repositories["you/digits"].tags["v1"] = commit.oid
    weights = next(name for name in commit.files if name.startswith("level-2"))
    server.faults.append(Fault("flip", "GET /large/.*level-2", times=None))
    client = (
        "import hashlib, huggingface_hub\n"
        f"path = huggingface_hub.hf_hub_download('you/digits', {weights!r}, revision={commit.oid!r})\n"
        "print(hashlib.sha256(open(path, 'rb').read()).hexdigest())"
    )
    alone = machine.run(client)
    assert alone.code == 0
    assert alone.lines[-1] != commit.files[weights].sha256  # it is content with what it got

    ours = other.run(load())
    assert f"HubError: you/digits@{commit.oid}: {weights} came damaged 2 times (sha256 " in ours.text
    assert commit.files[weights].sha256 not in {path.name for path in other.blobs()}
    assert sum("GET /large/" in request and "level-2" in request for request in ours.requests) == 2

    server.faults[:] = [Fault("flip", "GET /large/.*level-2"), Fault("flip", "GET .*/config.json")]
    assert other.run(load()).lines[-1] == outputs  # once is nothing
    inherited = machine.run(load())  # what the client alone has put into the cache is found out as well
    assert inherited.lines[-1] == outputs
    assert machine.run(load(), HF_HUB_OFFLINE="1").lines[-1] == outputs


def test_damage_in_the_cache(other, folder, outputs, server):
    commit = publish(server, folder)
    server.hub.repositories["you/digits"].tags["v1"] = commit.oid
    assert other.run(load()).code == 0
    blob = next(path for path in other.blobs() if path.name == sorted(
        blob.sha256 for name, blob in commit.files.items() if name.startswith("level-"))[0])  # fmt: skip
    blob.write_bytes(b"\0" * blob.stat().st_size)
    offline = other.run(load(), HF_HUB_OFFLINE="1")
    assert "is damaged (sha256 " in offline.error
    assert offline.error.endswith("without HF_HUB_OFFLINE it is fetched again")
    assert other.run(load()).lines[-1] == outputs


def test_killed_in_the_middle_of_a_pull(other, folder, outputs, server):
    commit = publish(server, folder)
    server.hub.repositories["you/digits"].tags["v1"] = commit.oid
    server.faults.append(Fault("slow", "GET /large/.*level-2", value=30))
    process = other.start(load())
    late = time.monotonic() + PATIENCE
    while not ([path for path in other.blobs() if path.suffix == ".incomplete"] and "level-2" in server.requests[-1]):
        assert time.monotonic() < late
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    assert other.forks.wait(process) == -signal.SIGKILL
    partial = other.run(load(), HF_HUB_OFFLINE="1")
    assert partial.error.startswith("HubError: you/digits@v1: not all of it is in ")
    assert "'zoo pull you/digits@v1' fetches the rest" in partial.error
    assert other.run(load()).lines[-1] == outputs


def test_two_pull_at_once(other, folder, outputs, server):
    commit = publish(server, folder)
    server.hub.repositories["you/digits"].tags["v1"] = commit.oid
    server.faults.append(Fault("slow", "GET /large/.*level-1", value=0.5))
    first, second = other.start(load()), other.start(load())
    assert [other.forks.wait(process) for process in (first, second)] == [0, 0]
    assert other.run(load(), HF_HUB_OFFLINE="1").lines[-1] == outputs
    assert not [path for path in other.blobs() if path.suffix == ".incomplete"]


def test_the_client_is_imported_only_when_it_is_used():
    code = (
        "import sys, zoo; from zoo.cli import main; zoo.list()\n"
        "for words in (['--help'], ['list'], ['push', '--help']): main(words, standalone_mode=False)\n"
        "print('huggingface_hub' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.stdout.splitlines()[-1] == "False", said.stderr
