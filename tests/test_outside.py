"""Plugins of other people: built, installed, used from the command line and removed, as by a user.

The distributions are below tests/outside; each environment is a fresh one that also sees the packages of the one that
runs the tests, so that nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pace import slower

import zoo

ROOT = Path(__file__).parents[1]
OUTSIDE = Path(__file__).parent / "outside"
SPEC = "32x32x1/dct4x4x10/fc3(hidden=[8])+laplace"
QUICK = ["list", "--help", "plugins"]
SLOWER = 0.3
"""Seconds that a command without torch may take longer with a plugin than without; torch alone takes one or more."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and what a user could do there."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts" if os.name == "nt" else "bin") / "python"

    def run(self, *words: object, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        """What ``python WORDS`` prints; it must have this exit code."""
        environment = {name: value for name, value in os.environ.items() if name != "ZOO_DISABLE_PLUGINS"}
        environment |= {"OMP_NUM_THREADS": "1", "ZOO_CACHE": str(self.folder / "cache")} | PIP | variables
        command = [str(word) for word in (self.python, *words)]
        result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=self.folder)
        assert result.returncode == code, f"{words}: {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    def zoo(self, *words: object, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        """What ``zoo WORDS`` prints."""
        return self.run("-m", "zoo", *words, code=code, **variables)


PIP = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1", "PIP_NO_INPUT": "1", "PIP_CONFIG_FILE": os.devnull}


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The distributions as wheels, by their names; built from copies, so nothing is left beside the sources."""
    sources, built = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheels")
    folders = [shutil.copytree(folder, sources / folder.name) for folder in OUTSIDE.glob("stackzoo-*")]
    build = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", built, *folders]
    result = subprocess.run(build, capture_output=True, text=True, env=os.environ | PIP)
    assert result.returncode == 0, result.stdout + result.stderr
    return {wheel.name.split("-")[0].replace("_", "-"): wheel for wheel in built.glob("*.whl")}


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the zoo alone."""
    return made(tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, Path]) -> Environment:
    """An environment with the good plugin."""
    return made(tmp_path_factory.mktemp("good"), wheels["stackzoo-dct"])


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, Path]) -> Environment:
    """An environment with the good plugin and the broken one."""
    return made(tmp_path_factory.mktemp("broken"), wheels["stackzoo-dct"], wheels["stackzoo-broken"])


@pytest.fixture(scope="session")
def colliding(tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, Path]) -> Environment:
    """An environment with the plugin whose names are the zoo's."""
    return made(tmp_path_factory.mktemp("colliding"), wheels["stackzoo-collides"])


def made(folder: Path, *wheels: Path) -> Environment:
    """A fresh environment with these wheels; pip and the rest come from the environment of the tests."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    environment = Environment(folder)
    purelib = environment.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    sites = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    # addsitedir, and not the bare path, also follows the .pth file by which an editable installation is found.
    lines = [f"import site; site.addsitedir({path!r})\n" for path in sites]
    Path(purelib, "of_the_tests.pth").write_text("".join(lines), "utf-8")
    if wheels:
        environment.run("-m", "pip", "install", "--no-deps", *wheels)
    return environment


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 images of 32x32, each a ramp of its own with some noise."""
    generator = np.random.default_rng(0)
    ramp = np.linspace(0, 200, 32)
    slopes = generator.uniform(0, 0.5, (48, 2, 1, 1))
    images = slopes[:, 0] * ramp + slopes[:, 1] * ramp[:, None] + generator.uniform(0, 30, (48, 32, 32))
    path = tmp_path_factory.mktemp("data") / "ramps.npy"
    np.save(path, images.astype(np.uint8), allow_pickle=False)
    return path


@pytest.fixture(scope="session")
def trained(environment: Environment, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack of the plugin's stage and term, trained for a few steps by ``zoo train``."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    said = environment.zoo("train", SPEC, "--data", data, "--out", folder, "--steps", 3, "--precision", "fp32").stdout
    assert said.startswith(f"{SPEC} is in {folder}. Next:")
    return folder


# -- the good one ----------------------------------------------------------------------------------------------------


def test_it_is_listed_with_its_origin(environment: Environment) -> None:
    rows = [line.split() for line in environment.zoo("list").stdout.splitlines()]
    assert ["dct", "stage", "zoo_dct", "stackzoo-dct", "1.2.0"] in rows
    assert ["laplace", "regularizer", "zoo_dct", "stackzoo-dct", "1.2.0"] in rows
    assert any(row[:3] == ["conv", "stage", "zoo_conv"] for row in rows)
    told = environment.zoo("plugins").stdout
    assert "zoo_dct  (stackzoo-dct 1.2.0)\n  stage: dct\n  regularizer: laplace\n  command: dct-table\n" in told
    shown = environment.zoo("show", "dct").stdout
    assert shown.startswith("dct: a stage of zoo_dct (stackzoo-dct 1.2.0), zoo_dct.stage:BlockDCT\n")
    assert "Ahmed, N., Natarajan, T. and Rao, K. R. (1974)" in shown


def test_its_own_tests_pass(environment: Environment, tmp_path: Path) -> None:
    """Among them ``zoo.testing.check_stage`` and ``check_term``; on the installed package, with its examples."""
    shutil.copytree(OUTSIDE / "stackzoo-dct" / "tests", tmp_path / "tests")
    shutil.copy(OUTSIDE / "stackzoo-dct" / "pyproject.toml", tmp_path)
    options = ["-p", "no:cacheprovider", "-c", tmp_path / "pyproject.toml", "--doctest-modules", "--pyargs"]
    said = environment.run("-m", "pytest", *options, "zoo_dct", tmp_path / "tests").stdout
    assert re.search(r"=+ 23 passed in ", said)
    where = environment.run("-c", "import zoo_dct; print(zoo_dct.__file__)").stdout
    assert Path(where).is_relative_to(environment.folder)


def test_its_command_runs(environment: Environment, data: Path) -> None:
    assert re.search(r"^  dct-table +From stackzoo-dct 1.2.0.$", environment.zoo("--help").stdout, re.M)
    *table, last = environment.zoo("dct-table", "32x32x1/dct4x4x10", "--data", data).stdout.splitlines()
    shares = np.array([[float(word) for word in row.split()] for row in table])
    assert shares.shape == (8, 8)
    assert shares.sum() == pytest.approx(100, abs=0.4)
    assert shares[0, 0] == shares.max()
    kept = shares[[0, 0, 1, 2, 1, 0, 0, 1, 2, 3], [0, 1, 0, 0, 1, 2, 3, 2, 1, 0]].sum()
    found = re.fullmatch(r"10 of 64 coefficients hold ([\d.]+) % of the variance", last)
    assert found
    assert float(found[1]) == pytest.approx(kept, abs=0.1)


def test_a_trained_stack_comes_back(environment: Environment, trained: Path, data: Path, tmp_path: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    assert config["plugins"]["dct"] == config["plugins"]["laplace"] == "stackzoo-dct 1.2.0"
    environment.zoo("encode", trained, "--data", data, "--out", tmp_path / "codes")
    environment.run("-c", SAVED_AGAIN, trained, data, tmp_path / "codes" / "codes.safetensors", tmp_path / "again")


SAVED_AGAIN = """
import sys, torch, zoo
from safetensors.torch import load_file
from zoo.data import images

stack = zoo.load(sys.argv[1])
x = images(sys.argv[2], stack.input_shape, split="all").batch(slice(None))
z = stack.encode(x)
torch.testing.assert_close(z, load_file(sys.argv[3])["codes"])
again = zoo.load(stack.save(sys.argv[4]))
assert torch.equal(again.encode(x), z) and torch.equal(again.decode(z), stack.decode(z))
assert again.sample(4, seed=0).shape == (4, 1, 32, 32)
"""


def test_without_it_loading_says_what_to_install(trained: Path, wheels: dict[str, Path], tmp_path: Path) -> None:
    environment = made(tmp_path / "removed", wheels["stackzoo-dct"])
    assert "dct" in environment.zoo("list").stdout
    environment.run("-m", "pip", "uninstall", "--yes", "stackzoo-dct")
    error = environment.zoo("show", trained, code=1).stderr
    assert re.match(r"Error: .+config\.json: no plugin offers a .+ named 'dct'; there are: .+\n", error)
    assert error.endswith("The stack was saved with 'dct' from stackzoo-dct 1.2.0: install it.\n")
    assert "dct" not in environment.zoo("list").stdout + environment.zoo("plugins").stdout
    assert "No such command 'dct-table'" in environment.zoo("dct-table", code=2).stderr
    assert "conv" in environment.zoo("list").stdout


# -- the broken one --------------------------------------------------------------------------------------------------


def test_a_broken_plugin_is_named_and_takes_nothing_down(broken: Environment) -> None:
    told = broken.zoo("plugins").stdout
    assert (
        "zoo_broken  (stackzoo-broken 0.3.1)\n  not in use: RuntimeError: zoo_broken was built for another CUDA\n"
        in told
    )
    assert "zoo_dct  (stackzoo-dct 1.2.0)\n  stage: dct" in told
    listed = broken.zoo("list")
    assert {"conv", "dct", "kl"} <= {line.split()[0] for line in listed.stdout.splitlines()}
    note = "Not in use: zoo_broken; `zoo plugins` says why.\n"
    assert listed.stderr == note
    usage = broken.zoo("--help").stdout
    assert usage.endswith(note)
    assert "dct-table" in usage
    assert "784 numbers in" in broken.zoo("show", "28x28x1/fc8+kl").stdout
    assert broken.zoo("list", ZOO_DISABLE_PLUGINS="stackzoo-dct").stderr.startswith("Not in use: zoo_broken, zoo_dct;")


# -- the one that collides -------------------------------------------------------------------------------------------


def test_a_name_offered_twice_is_told_with_the_way_out(colliding: Environment) -> None:
    rows = [line.split()[:5] for line in colliding.zoo("list", "conv").stdout.splitlines()]
    assert [row[2] for row in rows] == ["zoo_collides", "zoo_conv"]
    version = rows[1][4]
    problem = (
        "'conv' is offered 2 times, as a stage by plugin zoo_collides of stackzoo-collides 2.0 and as a stage by "
        f"plugin zoo_conv of stackzoo {version}: uninstall one of them, or set ZOO_DISABLE_PLUGINS=zoo_collides or "
        "ZOO_DISABLE_PLUGINS=zoo_conv"
    )
    assert colliding.zoo("show", "conv", code=1).stderr == f"Error: {problem}\n"
    assert problem in colliding.zoo("show", "16x16x1/conv4x4x2", code=1).stderr


@pytest.mark.parametrize(
    ("blocked", "source"), [("zoo_collides", "He et al. (2016)"), ("zoo_conv", "Masci, J. et al. (2011)")]
)
def test_with_one_blocked_the_other_is_used(colliding: Environment, blocked: str, source: str) -> None:
    assert source in colliding.zoo("show", "16x16x1/conv4x4x2", ZOO_DISABLE_PLUGINS=blocked).stdout


def test_a_distribution_is_blocked_by_its_name_too(colliding: Environment) -> None:
    (row,) = colliding.zoo("list", "conv", ZOO_DISABLE_PLUGINS="stackzoo-collides").stdout.splitlines()
    assert row.split()[:3] == ["conv", "stage", "zoo_conv"]


def test_a_saved_stack_says_which_of_two_it_was_saved_with(colliding: Environment, tmp_path: Path) -> None:
    zoo.build("8x8x1/conv2x2x2(width=2)").save(tmp_path)
    error = colliding.zoo("show", tmp_path, code=1).stderr
    assert re.search(r"The stack was saved with 'conv' from stackzoo \S+: keep that one\.\n$", error)


def test_a_command_of_the_zoos_own_is_not_shadowed(colliding: Environment) -> None:
    assert "Usage: zoo train [OPTIONS] SPEC|DIR" in colliding.zoo("train", "--help").stdout
    usage = colliding.zoo("--help").stdout
    assert len(re.findall(r"^  train ", usage, re.M)) == 1
    assert "stackzoo-collides" not in usage
    told = colliding.zoo("plugins").stdout
    assert "clash: the command 'train' of zoo_collides (stackzoo-collides 2.0) is not reached: the zoo has one" in told
    assert "clash: 'conv' is offered by zoo_collides (stackzoo-collides 2.0) and zoo_conv (stackzoo " in told


# -- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", QUICK)
@pytest.mark.parametrize("which", ["environment", "broken", "colliding"])
def test_no_plugin_makes_the_program_slow(
    which: str, words: str, clean: Environment, request: pytest.FixtureRequest
) -> None:
    crowded: Environment = request.getfixturevalue(which)
    assert seconds(crowded, words) < seconds(clean, words) + SLOWER * slower()


@pytest.mark.parametrize("which", ["environment", "broken", "colliding"])
def test_no_plugin_makes_the_program_import_torch(which: str, request: pytest.FixtureRequest) -> None:
    crowded: Environment = request.getfixturevalue(which)
    for words in QUICK:
        imported = re.findall(
            r"^import time: .*\| +(\w+)$", crowded.run("-Ximporttime", "-m", "zoo", words).stderr, re.M
        )
        assert "pluggy" in imported
        assert not {"torch", "numpy"} & set(imported)


def seconds(environment: Environment, words: str) -> float:
    """Of the processor; the best of three, as other work disturbs."""
    spent = []
    for _ in range(3):
        before = os.times()
        environment.zoo(words)
        after = os.times()
        spent.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(spent)


def test_none_of_them_is_part_of_the_zoo() -> None:
    """They are beside the tests, not collected with them (their conftest.py), and in no list of packages."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    folders = list(OUTSIDE.glob("stackzoo-*"))
    assert len(folders) == 3
    for folder in folders:
        assert folder.name.replace("stackzoo-", "zoo_") not in project


# -- the zoo itself --------------------------------------------------------------------------------------------------


def test_a_recipe_comes_with_the_zoos_own_wheel(tmp_path: Path) -> None:
    """No file of the checkout is asked for."""
    build = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    subprocess.run(build, check=True, capture_output=True, env=os.environ | PIP)
    (wheel,) = tmp_path.glob("stackzoo-*.whl")
    environment = made(tmp_path / "installed")
    environment.run("-m", "pip", "install", "--no-deps", "--ignore-installed", wheel)  # beside that of the tests
    where = environment.run("-c", "import zoo.experiments.recipes as r; print(r.__file__, r._folder())").stdout.split()
    assert all(Path(path).is_relative_to(environment.folder) for path in where)
    said = environment.zoo("reproduce", "decoders", "--quick", "--out", tmp_path / "out").stdout
    assert said.endswith(f"The page is {tmp_path / 'out' / 'report.md'}.\n")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["facts"]["data"] == "sample"
