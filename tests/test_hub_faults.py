"""What can go wrong between here and the Hub: each is survived, or ends in an error that says what to do."""

from __future__ import annotations

import socket

import pytest
from loopback import Fault, publish
from loopback.fixtures import *  # noqa: F403 - pytest finds them here
from loopback.repositories import Blob

PULL = "from zoo import hub; print(hub.pull({reference!r}).folder)"


@pytest.fixture
def commit(server, folder):
    """The stack is on the Hub, with a tag."""
    commit = publish(server, folder)
    server.hub.repositories["you/digits"].tags["v1"] = commit.oid
    return commit


def pull(machine, reference="you/digits@v1", **environ):
    return machine.run(PULL.format(reference=reference), **environ)


# -- survived --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault("drop", "GET /large/.*level-2"),
        Fault("status", "HEAD .*level-1", value=500),
        Fault("slow", "GET /large/.*level-2", value=2),
        Fault("flip", "GET .*config.json"),
        Fault("flip", "GET .*report.json"),
    ],
    ids=lambda fault: f"{fault.kind} {fault.on}",
)
def test_what_happens_once_is_survived(other, folder, commit, server, fault):
    fault.times = 1
    server.faults.append(fault)
    said = pull(other, HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert said.code == 0, said.text
    assert fault.times == 0  # it did happen
    snapshot = other.home / "hub" / "models--you--digits" / "snapshots" / commit.oid
    for path in folder.iterdir():
        assert (snapshot / path.name).read_bytes() == path.read_bytes()


def test_what_was_cut_off_is_gone_on_with(other, commit, server):
    weights = next(name for name in commit.files if name.startswith("level-2"))
    server.faults.append(Fault("drop", "GET /large/.*level-2"))
    said = pull(other)
    assert said.code == 0
    assert "Trying to resume" in said.text
    assert sum(f"GET /large/{commit.files[weights].sha256}/{weights}" == request for request in said.requests) == 2


# -- said ------------------------------------------------------------------------------------------------------------

ALWAYS = [
    (
        Fault("status", "HEAD .*config.json", None, 500),
        "the Hub is in trouble: try again later (HTTP 500: Out of order)",
    ),
    (Fault("status", "GET /large/", None, 503), "the Hub is in trouble: try again later (HTTP 503"),
    (Fault("status", "GET .*config.json", None, 418), "the Hub refuses (HTTP 418: Out of order)"),
    (Fault("silent", "HEAD .*config.json", None, 3), "does not answer in time: try again later"),
    (Fault("flip", "GET .*config.json", None), "config.json came damaged 2 times (its hash is not "),
    (Fault("short", "GET /large/", None), "came with another length than the Hub had said: try again"),
    (Fault("endless", "GET /large/", None), "the Hub sends more than the "),
    (Fault("header", "HEAD .*config.json", None, 'ETag: "../../../../evil"'), "a file's hash that is none: '\"../"),
    (Fault("header", "HEAD .*level-1", None, 'X-Linked-Etag: "/tmp/evil"'), "a file's hash that is none: '\"/tmp"),
    (Fault("header", "HEAD .*config.json", None, "X-Repo-Commit: ../../evil"), "a commit that is none: '../../evil'"),
]


@pytest.mark.parametrize(("fault", "message"), ALWAYS, ids=lambda value: getattr(value, "kind", ""))
def test_what_goes_on_is_said(other, commit, server, tmp_path, fault, message):
    server.faults.append(fault)
    said = pull(other, HF_HUB_ETAG_TIMEOUT="1")
    assert said.code == 1
    assert said.error.startswith("HubError: ")
    assert message in said.error
    assert "you/digits" in said.error or "127.0.0.1 answers" in said.error
    assert not list(tmp_path.rglob("*evil*"))
    assert not [path for path in other.blobs() if path.suffix == ".incomplete"]


def nothing(hub):
    pass


def gated(hub):
    hub.repositories["you/digits"].gated = True


def private(hub):
    hub.repositories["you/digits"].private = True


def expired(hub):
    hub.expired.add("hf_friend")


def without_config(hub):
    digits = hub.repositories["you/digits"]
    digits.tags["v1"] = digits.add("main", "a mistake", {}, ("config.json",)).oid


def without_weights(hub):
    digits = hub.repositories["you/digits"]
    name = next(name for name in digits.find("v1").files if name.startswith("level-1"))
    digits.tags["v1"] = digits.add("main", "a mistake", {}, (name,)).oid


@pytest.mark.parametrize(
    ("change", "reference", "message"),
    [
        (nothing, "you/digits@v2", "you/digits@v2: the repository has no such revision: its branches and tags are at "),
        (nothing, f"you/digits@{'0' * 40}", "the repository has no such revision"),
        (nothing, "you/nothing", "you/nothing: there is no such repository, or it is private: check the name, and log"),
        (private, "you/digits@v1", "there is no such repository, or it is private"),
        (gated, "you/digits@v1", "the repository is gated: accept its conditions at http://127.0.0.1"),
        (expired, "you/digits@v1", "the Hub refuses the token, which may have expired: log in with 'hf auth login'"),
        (without_config, "you/digits@v1", "there is no config.json in it: this is no stack of the zoo"),
        (without_weights, "you/digits@v1", "there is no level-1-"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_the_hub_does_not_give(other, commit, server, change, reference, message):
    change(server.hub)
    said = pull(other, reference)
    assert said.error.startswith("HubError: ")
    assert message in said.error


def test_a_card_that_cannot_be_had_stops_nobody(other, commit, server):
    digits = server.hub.repositories["you/digits"]
    digits.tags["v1"] = digits.add("main", "a book", {"README.md": Blob(b"x" * 9 * 2**20, large=False)}).oid
    said = pull(other)
    assert said.code == 0, said.text
    assert "without its model card" in said.text


def test_what_a_server_says_moves_no_cursor(other, commit, server):
    server.faults.append(Fault("header", "HEAD .*config.json", None, "X-Error-Message: \x1b[2J" + "much " * 500))
    server.faults.append(Fault("status", "HEAD .*config.json", None, 418))
    error = pull(other).error
    assert "HTTP 418:  [2Jmuch" in error or "HTTP 418: [2Jmuch" in error
    assert "\x1b" not in error
    assert len(error) < 500


def test_granted_and_owned(machine, other, commit, server):
    server.hub.repositories["you/digits"].gated = True
    server.hub.repositories["you/digits"].granted.add("friend")
    assert pull(other).code == 0
    server.hub.repositories["you/digits"].private = True
    assert pull(machine).code == 0


@pytest.mark.parametrize(
    ("change", "environ", "message"),
    [
        (nothing, {"HF_TOKEN": "hf_friend"}, "the Hub does not allow this"),
        (expired, {"HF_TOKEN": "hf_friend"}, "the Hub refuses the token, which may have expired"),
        (nothing, {"HF_TOKEN": ""}, "log in with 'hf auth login'"),
    ],
    ids=["not mine", "expired", "nobody"],
)
def test_whose_push_is_refused(machine, folder, server, change, environ, message):
    change(server.hub)
    said = machine.run(f"from zoo import hub; hub.push({str(folder)!r}, 'you/digits')", **environ)
    assert said.error.startswith("HubError: you/digits: ")
    assert message in said.error
    assert server.hub.repositories == {}


def test_an_upload_that_breaks_leaves_no_commit(machine, folder, server):
    server.faults.append(Fault("status", "PUT /large/", None, 403))
    said = machine.run(f"from zoo import hub; hub.push({str(folder)!r}, 'you/digits')")
    assert said.error.startswith("HubError: you/digits: the Hub does not allow this")
    assert len(server.hub.repositories["you/digits"].history()) == 1


def test_nobody_there(other):
    with socket.socket() as taken:  # a port on which nobody listens
        taken.bind(("127.0.0.1", 0))
        said = pull(other, HF_ENDPOINT=f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert "cannot be reached: check the network and HF_ENDPOINT" in said.error
    offline = pull(other, HF_HUB_OFFLINE="1")
    assert "HubError: you/digits@v1: not all of it is in" in offline.error
    assert offline.requests == []


@pytest.mark.parametrize(
    "endpoint", ["http://hub.example", "http://127.0.0.1@hub.example", "http://10.0.0.1:80", "ftp://127.0.0.1", "hub"]
)
def test_a_token_never_travels_in_clear(machine, folder, endpoint):
    push = f"from zoo import hub; hub.push({str(folder)!r}, 'you/digits')"
    for code in (push, PULL.format(reference="you/digits")):
        said = machine.run(code, HF_ENDPOINT=endpoint)
        assert f"HubError: HF_ENDPOINT={endpoint}: only https:// endpoints are used." in said.error


def test_a_full_disk_and_a_cache_that_is_a_file(other, commit, tmp_path):
    full = "import errno, tempfile, huggingface_hub.file_download as file_download\n"
    full += "def no_room(*_, **__): raise OSError(errno.ENOSPC, 'No space left on device')\n"
    full += "file_download.http_get = no_room\n"
    said = other.run(full + PULL.format(reference="you/digits@v1"))
    assert "the disk is full. Make room there, or set HF_HOME to another folder." in said.error
    (tmp_path / "file").write_text("not a folder")
    blocked = pull(other, HF_HUB_CACHE=str(tmp_path / "file"))
    assert blocked.error.startswith("HubError: you/digits@v1: ")
