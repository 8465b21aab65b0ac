"""Which texts name a stack on the Hub: nothing else ever reaches the client."""

from __future__ import annotations

import re
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from zoo import hub
from zoo.builder import locate
from zoo.errors import HubError
from zoo.hub import Reference, push
from zoo.hub.connection import _is_here

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [
        ("you/digits", "you/digits", None),
        ("hf-hub:you/digits", "you/digits", None),
        ("hf-hub:you/digits@v1.0", "you/digits", "v1.0"),
        ("you_2/conv8x8x64-openimages.v2@feature/wider", "you_2/conv8x8x64-openimages.v2", "feature/wider"),
        (f"you/digits@{COMMIT}", "you/digits", COMMIT),
        ("you/digits@refs/pr/1", "you/digits", "refs/pr/1"),
    ],
)
def test_references(text, repo, revision):
    found = Reference.parse(text)
    assert (found.repo, found.revision) == (repo, revision)
    assert Reference.parse(str(found)) == found
    assert found.pinned == (revision == COMMIT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no repository: it has 0 '/'"),
        ("digits", "it has 0 '/'"),
        ("a/../b", "'a/../b' is no repository: it has 2 '/'"),
        ("../b", "'..' may hold letters"),
        ("a/..", "'..' may hold letters"),
        ("a--b/c", "it holds '--' or '..'"),
        ("a/b..c", "it holds '--' or '..'"),
        ("/b", "a part of it is empty"),
        ("a/", "a part of it is empty"),
        ("-a/b", "'-a' may hold"),
        ("a/b.", "'b.' may hold"),
        ("a/b.git", "it ends in .git"),
        ("a/b\0", r"'b\x00' may hold"),
        ("a/b\n", r"'b\n' may hold"),
        ("a/%2e%2e", "'%2e%2e' may hold"),
        ("a/b?x=1", "'b?x=1' may hold"),
        ("a\\b/c", r"'a\\b' may hold"),
        ("ä/b", r"'\xe4' may hold"),
        (f"a/{'b' * 97}", "longer than 96 letters"),
        ("https://hub.example/a/b", "it has 4 '/'"),
        ("a/b@", "'' is no revision: it is empty"),
        ("a/b@v1@v2", "has 2 '@'"),
        ("a/b@../x", "'../x' is no revision: '..' may hold"),
        ("a/b@x/../y", "'..' may hold"),
        ("a/b@/x", "'' may hold"),
        ("a/b@x..y", "git has no revisions with '..'"),
        ("a/b@x.lock", "or '.lock'"),
        ("a/b@%2e%2e%2fx", "may hold letters"),
        ("a/b@v1\0", r"'v1\x00' may hold"),
        ("a/b@-x", "does not begin with '-'"),
        (f"a/b@{'x' * 193}", "longer than 192 letters"),
    ],
)
def test_what_is_refused(text, message):
    for prefix in ("", "hf-hub:"):
        with pytest.raises(HubError) as error:
            Reference.parse(prefix + text)
        assert message in str(error.value)


@given(st.text(alphabet="ab.-_/@\\%:\0\n~ é", max_size=12))
def test_whatever_passes_stays_inside_the_cache(text):
    try:
        found = Reference.parse(text)
    except HubError:
        return
    assert found.repo.count("/") == 1
    steps = [*found.repo.split("/"), *(found.revision or "main").split("/")]
    assert all(step and not step.startswith(("-", ".")) and ".." not in step for step in steps)
    assert all(re.fullmatch(r"[A-Za-z0-9._+-]+", step) for step in steps)


def test_they_are_refused_wherever_they_are_given(tmp_path):
    stack = zoo.build("8x8x1/fc2(hidden=[4])")
    with pytest.raises(HubError, match="is no revision"):
        zoo.load("hf-hub:you/digits@../x")
    with pytest.raises(HubError, match="is no repository"):
        stack.push_to_hub("digits")
    with pytest.raises(HubError, match="is no revision"):
        stack.push_to_hub("you/digits", tag="v 1")
    with pytest.raises(HubError, match="a commit stays as it is"):
        push(tmp_path, "you/digits", revision=COMMIT)


def test_a_path_that_windows_makes_of_one_is_still_one(monkeypatch):
    asked = []

    def pull(reference):
        asked.append(reference)
        return SimpleNamespace(folder=Path("pulled"), reference=Reference.parse(reference), commit=COMMIT)

    monkeypatch.setattr(hub, "pull", pull)
    assert locate(PureWindowsPath("hf-hub:you/digits@v1")).name == "hf-hub:you/digits"
    assert asked == ["hf-hub:you/digits@v1"]


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("0.0.0.0", False),  # noqa: S104
     ("10.0.0.1", False), ("localhost.example", False), ("127.0.0.1.example", False), ("2130706433", False)],
)  # fmt: skip
def test_which_hosts_are_this_machine(host, here):
    assert _is_here(host) is here
