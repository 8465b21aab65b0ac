"""The published stages: names that registry.json tells, and a file of another form refused."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from zoo import registry
from zoo.errors import RegistryError
from zoo.registry import published

if TYPE_CHECKING:
    from pathlib import Path


def test_pretrained_names_come_from_the_file(tmp_path: Path) -> None:
    assert registry.names(pretrained=True) == []
    path = tmp_path / "registry.json"
    stages: dict[str, object] = {"conv7x7x10.fashion_mnist": {}, "fc8.a1": {}}
    path.write_text(json.dumps({"format": 1, "stages": stages}))
    assert published.read(path) == stages


@pytest.mark.parametrize("kind", ["stage", "head"])
def test_pretrained_names_are_of_stages(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("zoo.registry.lookup.published", lambda: {"conv7x7x10.a": {}, "fc8.a": {}})
    assert registry.names("conv*", kind=kind, pretrained=True) == ["conv7x7x10.a"] * (kind == "stage")


@pytest.mark.parametrize("tree", [[], {}, {"stages": {}}, {"format": 2, "stages": {}}, {"format": 1, "stages": []}])
def test_a_registry_file_of_another_form_is_named(tmp_path: Path, tree: object) -> None:
    path = tmp_path / "registry.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(RegistryError, match=re.escape(f'{path} is not of the form {{"format": 1')):
        published.read(path)


@pytest.mark.parametrize(("name", "stage"), [("conv", {}), ("Conv.a", {}), ("conv8/fc.a", {}), ("conv.a", "you/x")])
def test_a_registry_file_with_an_odd_stage_is_named(tmp_path: Path, name: str, stage: object) -> None:
    path = tmp_path / "registry.json"
    path.write_text(json.dumps({"format": 1, "stages": {name: stage}}))
    with pytest.raises(RegistryError, match=f"{name!r} is not a name.tag with an object behind it"):
        published.read(path)


def test_a_damaged_registry_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    for text in (b"", b"{", b"\xff"):
        path.write_bytes(text)
        with pytest.raises(RegistryError, match=re.escape(f"{path} cannot be read")):
            published.read(path)
    with pytest.raises(RegistryError, match="cannot be read"):
        published.read(tmp_path / "missing.json")
