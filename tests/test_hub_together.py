"""The Hub's cache with several at it, with pulls that are killed, on a disk that is full or may only be read."""

from __future__ import annotations

import json
import time

import pytest
import volumes
from loopback import Fault, publish
from loopback.fixtures import *  # noqa: F403 - pytest finds them here
from pace import PATIENCE, slower

PULL = "from zoo import hub; print(hub.pull('you/digits@v1').folder)\n"
TURNS = """
import time
from pathlib import Path
from zoo.hub import pulling
def pause(name, where):
    real, calls = getattr(pulling, name), []
    def paused(*arguments):
        calls.append(name)
        if len(calls) == 1:
            (where / 'paused').touch()
            while not (where / 'go').exists():
                time.sleep(0.005)
        return real(*arguments)
    setattr(pulling, name, paused)
"""


@pytest.fixture
def commit(server, folder):
    """The stack is on the Hub, with a tag."""
    commit = publish(server, folder)
    server.hub.repositories["you/digits"].tags["v1"] = commit.oid
    return commit


def until(holds):
    late = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < late
        time.sleep(0.005)


def fetched(requests, part):
    return sum("GET /large/" in request and part in request for request in requests)


def damage(machine, commit, part):
    """Flip all bits of a file in somebody's cache."""
    (name,) = [name for name in commit.files if part in name]
    (blob,) = [path for path in machine.blobs() if path.name == commit.files[name].sha256]
    blob.write_bytes(bytes(byte ^ 255 for byte in blob.read_bytes()))
    return blob


# -- killed ----------------------------------------------------------------------------------------------------------

EVERY_MOMENT = """
from pathlib import Path
from moments import Moments
from zoo import hub
root = Path({root!r})
(root / 'home').mkdir()
Moments(root / 'home', root / 'shots')
hub.pull('you/digits@v1')
"""
AFTER_EVERY_MOMENT = """
import json
import re
from pathlib import Path
from huggingface_hub import constants
from zoo import hub
from zoo.errors import HubError
root = Path({root!r})
def names(cache):
    found = {{str(path.relative_to(cache)): path.stat().st_size for path in cache.rglob('*') if path.is_file()}}
    own = re.compile(r'CACHEDIR|[.]locks|refs/v1[.].*[.]tmp|blobs/tmp_|/tmp[^/]+/dummy_')
    assert all(size <= 40 for name, size in found.items() if own.search(name) and 'CACHEDIR' not in name)
    return {{name for name in found if not own.search(name)}}
wanted, files = names(root / 'home'), [path for path in hub.pull('you/digits@v1').folder.iterdir()]
offline = []
for shot in sorted((root / 'shots').iterdir(), key=lambda path: int(path.name))[::-2][::-1]:
    constants.HF_HUB_CACHE = str(shot)
    constants.HF_HUB_OFFLINE = True
    try:
        offline.append(hub.pull('you/digits@v1').commit)
    except HubError as error:
        offline.append(None)
        assert 'not all of it is in' in str(error), error
    constants.HF_HUB_OFFLINE = False
    pulled = hub.pull('you/digits@v1').folder
    assert all((pulled / path.name).read_bytes() == path.read_bytes() for path in files)
    assert names(shot) == wanted, (shot.name, names(shot) ^ wanted)
print(json.dumps(offline))
"""


def test_killed_at_any_moment(other, commit, tmp_path):
    """What lies there before every second change is no stack yet, or the whole one, and the next pull completes it."""
    cache = str(tmp_path / "home")
    watched = other.run(EVERY_MOMENT.format(root=str(tmp_path)), HF_HUB_CACHE=cache)
    assert watched.code == 0, watched.text
    said = other.run(AFTER_EVERY_MOMENT.format(root=str(tmp_path)), HF_HUB_CACHE=cache)
    assert said.code == 0, said.text
    offline = json.loads(said.lines[-1])
    assert len(offline) > 20
    assert offline[0] is None
    assert offline[-1] == commit.oid


# -- two at once -----------------------------------------------------------------------------------------------------


def test_two_find_the_same_damage(other, commit, outputs_of, tmp_path):
    """The first is about to throw the file away when the second has fetched it again: it stays."""
    assert other.run(PULL).code == 0
    damage(other, commit, "level-2")
    before = len(other.server.requests)
    turns = TURNS + f"pause('_discard', Path({str(tmp_path)!r}))\n"
    first = other.start(turns + PULL)
    until((tmp_path / "paused").exists)
    second = other.forks.wait(other.start(PULL))
    assert fetched(other.server.requests[before:], "level-2") == 1
    assert outputs_of(other) == 0
    (tmp_path / "go").touch()
    assert [other.forks.wait(first), second] == [0, 0]
    assert fetched(other.server.requests[before:], "level-2") == 1
    assert outputs_of(other) == 0


@pytest.fixture
def outputs_of():
    """Loads offline what somebody has in the cache; the exit code."""
    return lambda machine: machine.run("import zoo; zoo.load('hf-hub:you/digits@v1')", HF_HUB_OFFLINE="1").code


def test_what_another_throws_away_is_fetched_again(other, commit, outputs_of, tmp_path):
    assert other.run(PULL).code == 0
    blob = damage(other, commit, "level-2")
    first = other.start(TURNS + f"pause('_as_named', Path({str(tmp_path)!r}))\n" + PULL)
    until((tmp_path / "paused").exists)
    blob.unlink()  # as the other process does before it fetches
    damage(other, commit, "level-1").unlink()
    (tmp_path / "go").touch()
    assert other.forks.wait(first) == 0
    assert outputs_of(other) == 0


def test_two_copy_to_the_same_folder(machine, other, commit, folder, tmp_path):
    words = ["pull", "you/digits@v1", "--out", str(tmp_path / "out")]
    code = f"from zoo.cli import main; main({words!r}, prog_name='zoo')"
    processes = [machine.start(code), other.start(code)]
    assert [machine.forks.wait(process) for process in processes] == [0, 0]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in folder.iterdir()}


# -- full, and only to be read ---------------------------------------------------------------------------------------

SCARCE = """
import resource
from pathlib import Path
import volumes
from zoo import hub
from zoo.errors import HubError
cache = Path({cache!r})
def tried():
    try:
        hub.pull('you/digits@v1')
    except HubError as error:
        said = str(error)
        assert {message!r} in said, said
        assert 'Make room there, or set HF_HOME to another folder.' in said, said
        assert not [path for path in cache.rglob('*.incomplete')]
        return False
    return True
"""
FULL = """
volumes.apart()
volumes.small(cache, 2**20)
found = []
while not (found and found[-1]):
    with volumes.nearly_full(cache, len(found)):
        found.append(tried())
assert 2 < len(found) < 60, found
"""
LIMITED = """
found = []
for size in (0, 1, 30, 100, 1000, 3000, 2**20):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    found.append(tried())
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert found[-1] and not found[2], found
"""
LOAD = "import zoo; zoo.load(hub.pull('you/digits@v1').folder)\n"


@pytest.mark.parametrize(("scarce", "message"), [(FULL, "the disk is full"), (LIMITED, "too large for this disk")])
def test_a_full_disk(other, commit, tmp_path, scarce, message):
    cache = str(tmp_path / "cache")
    code = SCARCE.format(cache=cache, message=message) + scarce + LOAD
    said = other.run(code, HF_HUB_CACHE=cache)
    assert volumes.mounted(said.code) == 0, said.text


def test_a_cache_that_may_only_be_read(other, commit, server, folder, tmp_path):
    assert other.run(PULL).code == 0
    publish(server, folder, "you/others")
    cache = other.home / "hub"
    sealed = f"import volumes; from pathlib import Path; volumes.apart(); volumes.read_only(Path({str(cache)!r}))\n"
    load = sealed + "import zoo; print(zoo.load('hf-hub:you/digits@v1').spec)\n"
    for environ in ({}, {"HF_HUB_OFFLINE": "1"}):
        said = other.run(load, **environ)
        assert volumes.mounted(said.code) == 0, said.text
        assert said.lines[-1].startswith("8x8x1/")
    new = other.run(sealed + "from zoo import hub; hub.pull('you/others')")
    assert new.error.startswith("HubError: you/others: ")
    assert "it is read-only. Make room there, or set HF_HOME to another folder." in new.error
    damage(other, commit, "level-2")
    broken = other.run(sealed + PULL)
    assert "it is read-only. Make room there, or set HF_HOME to another folder." in broken.error


# -- silence ---------------------------------------------------------------------------------------------------------

SILENT = [
    ("silent", "GET /api/models/you/digits"),
    ("silent", "POST .*/preupload"),
    ("silent", "PUT /large"),
    ("silent", "POST .*/commit"),
    ("mute", "POST .*/commit"),  # it was made, and nobody said so
    ("mute", "POST .*/tag"),
]
HASTY = """
from huggingface_hub.utils import _http
from zoo.hub import connection
_http.time.sleep = lambda seconds: None  # between the client's own attempts
connection.PATIENCE = 0.1
"""


def push(folder):
    return f"from zoo import hub; hub.push({str(folder)!r}, 'you/digits', tag='v1')"


def test_a_hub_that_never_answers(machine, folder, server):
    """The user's own setting bounds what the client itself would wait for without end."""
    server.faults.append(Fault("silent", "POST /api/repos/create", None, 600))
    started = time.monotonic()
    said = machine.run(push(folder), HF_HUB_ETAG_TIMEOUT="1", HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert time.monotonic() - started < 30 * slower()
    assert said.error.startswith("HubError: you/digits: http://127.0.0.1:")
    assert said.error.endswith("does not answer in time: try again later, or raise HF_HUB_ETAG_TIMEOUT")


@pytest.mark.parametrize(("kind", "where"), SILENT)
def test_a_hub_that_falls_silent(machine, folder, server, kind, where):
    """Wherever it does, the push ends, and the next one completes it."""
    server.faults.append(Fault(kind, f"^{where}", None, 600))
    said = machine.run(HASTY + push(folder), HF_HUB_ETAG_TIMEOUT="1", HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert "does not answer in time: try again later, or raise HF_HUB_ETAG_TIMEOUT" in said.error
    server.faults.clear()
    again = machine.run(push(folder))
    assert again.code == 0, again.text
    assert len(server.hub.repositories["you/digits"].history()) == 2
    assert "v1" in server.hub.repositories["you/digits"].tags


def test_a_connection_that_is_made_anew_is_watched_too(other, commit, server, tmp_path):
    """The client throws its connections away when one cannot be made, and with them all that was set on them."""
    server.faults.append(Fault("header", "HEAD .*level-1", None, 'X-Linked-Etag: "/tmp/evil"'))
    anew = (
        "from huggingface_hub import close_session\n"
        "from zoo.hub import connection\n"
        "real = connection.hf_hub_download\n"
        "connection.hf_hub_download = lambda *words, **options: (close_session(), real(*words, **options))[1]\n"
    )
    said = other.run(anew + PULL)
    assert "a file's hash that is none: '\"/tmp" in said.error
    assert not list(tmp_path.rglob("*evil*"))
