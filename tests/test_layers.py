"""Who may import whom: the contracts of pyproject.toml hold, cover every module, and see a violation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS = {contract["id"]: contract for contract in PROJECT["tool"]["importlinter"]["contracts"]}
PLUGINS = {folder.name for folder in ROOT.glob("plugins/*") if (folder / "__init__.py").exists()}
LINT = "from importlinter.cli import lint_imports_command as lint; lint(['--no-cache', '--no-logo'])"


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the sources below ``root``; they come before the installed ones."""
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'plugins'}", "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-c", LINT], cwd=root, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("zoo", *sorted(PLUGINS), include_external_packages=True, cache_dir=None)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources")
    for folder in ("zoo", "plugins"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def test_the_contracts_hold() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_module_has_its_layer() -> None:
    layers = [name.strip(" ()") for layer in CONTRACTS["layers"]["layers"] for name in layer.split("|")]
    modules = {f"zoo.{path.stem}" for path in (ROOT / "zoo").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert (modules | PLUGINS) - {"zoo.__init__", "zoo.__pycache__"} <= set(layers)


def test_every_plugin_is_named_wherever_plugins_are_named() -> None:
    assert set(PROJECT["project"]["entry-points"]["zoo"]) == PLUGINS
    assert set(PROJECT["tool"]["importlinter"]["root_packages"]) == PLUGINS | {"zoo"}
    assert set(CONTRACTS["plugins"]["protected_modules"]) == PLUGINS
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == {
        "zoo",
        *(f"plugins/{name}" for name in PLUGINS),
    }
    assert set(PROJECT["tool"]["mypy"]["packages"]) == PLUGINS | {"zoo"}


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("zoo/stack.py", "import zoo.builder", "layers"),
        ("zoo/posterior.py", "from zoo import interfaces", "layers"),
        ("zoo/errors.py", "if TYPE_CHECKING:\n    from zoo.spec import Item", "layers"),
        ("zoo/registry/lookup.py", "def later():\n    from zoo.stack import Stack", "layers"),
        ("zoo/evaluation/__init__.py", "from zoo.testing import check_stage", "layers"),
        ("zoo/testing/__init__.py", "import zoo.evaluation.report", "layers"),
        ("plugins/zoo_conv/conv.py", "from zoo.training import fit", "layers"),
        ("plugins/zoo_losses/ssim.py", "from zoo import registry", "layers"),
        ("plugins/zoo_losses/ssim.py", "from zoo_conv import blocks", "plugins"),
        ("zoo/builder/assembly.py", "def conv():\n    from zoo_conv.conv import Conv", "plugins"),
        ("zoo/training/loop.py", "import zoo", "facade"),
        ("plugins/zoo_heads/normal.py", "from zoo import Head", "facade"),
    ],
)
def test_a_violation_is_seen(copy: Path, module: str, line: str, contract: str) -> None:
    path = copy / module
    sound = path.read_text()
    path.write_text(f"{sound}\n{line}\n")
    try:
        result = lint(copy)
    finally:
        path.write_text(sound)
    assert result.returncode == 1
    assert f"{CONTRACTS[contract]['name']} BROKEN" in result.stdout, result.stdout + result.stderr


def test_no_module_imports_itself_by_a_detour(graph: grimp.ImportGraph) -> None:
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()


def test_the_spec_and_the_errors_need_the_standard_library_only(graph: grimp.ImportGraph) -> None:
    modules = {name for name in graph.modules if name == "zoo.errors" or f"{name}.".startswith("zoo.spec.")}
    imported = set().union(*map(graph.find_modules_directly_imported_by, modules)) - modules
    assert {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names} == set()


def test_the_spec_runs_without_any_package_installed() -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from zoo.spec import parse; print(parse('conv8x8x64 + kl'))"
    result = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert result.stdout == "conv8x8x64+kl\n", result.stderr
