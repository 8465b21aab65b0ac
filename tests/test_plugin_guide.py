"""The package in docs/plugins.md works as it stands, and the page tells every hook."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from zoo import hookspecs

PAGE = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page, as an installer lays them out: beside a .dist-info with what their pyproject says."""
    site = tmp_path_factory.mktemp("site")
    files = dict(re.findall(r"^`([\w./]+)`\n\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
    for name, text in files.items():
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text(text)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = [f"{name} = {module}" for name, module in project["entry-points"]["zoo"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[zoo]", *points]))
    return site


def run(site: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=site)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_its_tests_pass(site: Path) -> None:
    assert "3 passed" in run(site, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "tests")


def test_it_is_listed_without_torch(site: Path) -> None:
    listing = "import sys, zoo; from zoo import registry; "
    listing += "print(zoo.list('[pe]*'), registry.find('edges').origin, 'torch' in sys.modules)"
    assert run(site, "-c", listing) == "['edges', 'patches'] zoo-patches 1.0 False\n"


def test_its_command_runs(site: Path) -> None:
    command = "from zoo import registry; registry.find('sizes', kinds=('command',)).load()(['8x8x3/patches2x2x5'])"
    assert run(site, "-c", command) == "level 1: 488\n"


def test_every_hook_is_on_the_page() -> None:
    hooks = [name for name in vars(hookspecs) if name.startswith("zoo_")]
    assert len(hooks) == 6
    assert [name for name in hooks if name not in PAGE] == []
