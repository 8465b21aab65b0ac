"""Plugins are found, isolated and told apart; names lead to their classes."""

from __future__ import annotations

import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent
from typing import TYPE_CHECKING

import click
import pytest

from zoo import registry
from zoo.builder import build, load
from zoo.errors import RegistryError, SpecError
from zoo.interfaces import Stage
from zoo.registry import discovery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from importlib.metadata import EntryPoint
    from pathlib import Path

    Install = Callable[..., Path]


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test sees the plugins that it installs; afterwards they are forgotten."""
    monkeypatch.delenv(registry.BLOCKED, raising=False)
    registry.refresh()
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("fake"):
            del sys.modules[name]
    monkeypatch.undo()
    registry.refresh()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lay out a distribution as an installer does, and put it first on the path."""

    def lay_out(module: str, code: str, *, dist: str = "", point: str = "", version: str = "1.0") -> Path:
        dist = dist or f"{module}-dist"
        site = tmp_path / f"site{len(list(tmp_path.iterdir()))}"
        info = site / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[zoo]\n{point or module} = {module}\n")
        (site / f"{module}.py").write_text(f"from zoo import hookimpl\n{dedent(code)}")
        monkeypatch.syspath_prepend(site)
        registry.refresh()
        return site

    return lay_out


def offering(hook: str, answer: object) -> str:
    return f"@hookimpl\ndef {hook}():\n    return {answer!r}\n"


def plugin(name: str) -> registry.Plugin:
    (found,) = [plugin for plugin in registry.plugins() if plugin.name == name]
    return found


def test_the_zoos_own_names_come_from_its_distribution() -> None:
    entry = registry.find("conv")
    assert (entry.kind, entry.reference, entry.plugin) == ("stage", "zoo_conv.conv:Conv", "zoo_conv")
    assert re.fullmatch(r"stackzoo \d+\.\d+\.\d+", entry.origin)
    assert issubclass(entry.load(), Stage)


def test_every_name_of_the_zoo_loads() -> None:
    entries = [entry for plugin in registry.plugins() for entry in plugin.offers]
    assert {entry.kind for entry in entries} >= {"stage", "regularizer", "reconstruction", "head"}
    for entry in entries:
        assert entry.load() is not None


def test_listing(install: Install) -> None:
    install(
        "fakegood", offering("zoo_stages", {"haar": "a:B", "convex": "a:C"}) + offering("zoo_commands", {"go": "a:d"})
    )
    assert registry.names("conv*") == ["conv", "convex"]
    assert registry.names("?aar", kind="stage") == ["haar"]
    assert registry.names("haar", kind="head") == []
    assert registry.names(kind="command") == ["go"]
    assert "go" not in registry.names()
    assert registry.names() == sorted(registry.names())
    assert list(registry.commands()) == ["go"]
    with pytest.raises(RegistryError, match="no kind 'stages'; did you mean 'stage'"):
        registry.names(kind="stages")


def test_a_plugin_shows_where_it_comes_from(install: Install) -> None:
    install("fakegood", offering("zoo_heads", {"dream": "a:B"}), dist="Fake.Zoo", version="2.3", point="nap")
    assert plugin("nap") == registry.Plugin("nap", "Fake.Zoo", "2.3", (registry.find("dream"),), None)
    assert registry.find("dream").origin == "Fake.Zoo 2.3"


BROKEN = {
    "fails on import": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "leaves on import": ("raise SystemExit(3)", "SystemExit: 3"),
    "does not compile": ("def", "SyntaxError"),
    "hook raises": ("@hookimpl\ndef zoo_stages():\n    raise ValueError('two\\nlines')", "ValueError: two lines"),
    "misspelt hook": (offering("zoo_stage", {"a": "b:C"}), "there is no hook zoo_stage; did you mean 'zoo_stages'"),
    "hook of another name": (offering("stages", {"a": "b:C"}), "unknown hook 'stages'"),
    "unmarked hook": ("def zoo_stages():\n    return {}", "zoo_stages is not a hook before it is marked"),
    "hook with arguments": ("@hookimpl\ndef zoo_stages(torch):\n    return {}", "Argument(s) {'torch'} are declared"),
    "nothing": ("", "offers nothing"),
    "empty dictionary": (offering("zoo_stages", {}), "offers nothing"),
    "None": (offering("zoo_stages", None), "zoo_stages returns None"),
    "list": (offering("zoo_stages", ["conv"]), "zoo_stages returns list"),
    "name with digits": (offering("zoo_stages", {"vit16": "a:B"}), "'vit16', which is no name"),
    "name with capitals": (offering("zoo_heads", {"Flow": "a:B"}), "'Flow', which is no name"),
    "name that is no text": (offering("zoo_heads", {1: "a:B"}), "1, which is no name"),
    "command with underscore": (offering("zoo_commands", {"a_b": "a:B"}), "'a_b', which is no name"),
    "name of a saved stack": (offering("zoo_heads", {"hub": "a:B"}), "'hub', which stands for a saved stack in every"),
    "name of a saved folder": (offering("zoo_stages", {"folder": "a:B"}), "'folder', which stands for a saved stack"),
    "no reference": (offering("zoo_stages", {"haar": "fake.Haar"}), "'fake.Haar', which is not of the form"),
    "reference to code": (offering("zoo_stages", {"haar": "os:system('x')"}), "not of the form 'module:Class'"),
    "class": ("class A: pass\n@hookimpl\ndef zoo_stages():\n    return {'haar': A}", "not of the form 'module:Class'"),
    "name twice": (
        offering("zoo_stages", {"haar": "a:B"}) + offering("zoo_heads", {"haar": "a:C"}),
        "offers 'haar' twice, as a head and as a stage",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_shown_and_takes_nothing_down(install: Install, case: str) -> None:
    code, problem = BROKEN[case]
    install("fakebad", code)
    install("fakegood", offering("zoo_stages", {"dct": "a:B"}))
    bad = plugin("fakebad")
    assert problem in str(bad.error)
    assert "\n" not in str(bad.error)
    assert bad.offers == ()
    assert {"conv", "dct"} <= set(registry.names())
    with pytest.raises(RegistryError, match=r"Not in use: fakebad; `zoo plugins` says why"):
        registry.find("haar")


def test_a_distribution_without_metadata_is_broken(install: Install) -> None:
    site = install("fakehalf", offering("zoo_stages", {"haar": "a:B"}))
    (metadata,) = site.glob("*/METADATA")
    metadata.unlink()
    registry.refresh()
    assert "half removed" in str(plugin("fakehalf").error)
    assert registry.find("conv")


def test_a_name_offered_twice(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("fakeone", offering("zoo_stages", {"haar": "a:B", "dct": "a:C"}), dist="one-zoo")
    install("faketwo", offering("zoo_heads", {"haar": "a:B"}), dist="two-zoo", version="2.0")
    assert {"haar", "dct"} <= set(registry.names())
    assert registry.find("dct").distribution == "one-zoo"
    with pytest.raises(RegistryError) as caught:
        registry.find("haar", kinds=("stage",))
    assert str(caught.value) == (
        "'haar' is offered 2 times, as a stage by plugin fakeone of one-zoo 1.0 and as a head by plugin faketwo of "
        "two-zoo 2.0: uninstall one of them, or set ZOO_DISABLE_PLUGINS=fakeone or ZOO_DISABLE_PLUGINS=faketwo"
    )
    monkeypatch.setenv(registry.BLOCKED, "faketwo")
    registry.refresh()
    assert registry.find("haar").distribution == "one-zoo"


def test_an_outside_plugin_cannot_take_a_name_of_the_zoo(install: Install) -> None:
    install("fakeone", offering("zoo_stages", {"conv": "a:B"}))
    with pytest.raises(RegistryError, match=r"fakeone of fakeone-dist 1\.0 and .* zoo_conv of stackzoo"):
        registry.find("conv")


def test_equal_names_of_entry_points_are_two_plugins(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("fakeone", offering("zoo_stages", {"haar": "a:B"}), dist="one-zoo", point="wavelets")
    install("faketwo", offering("zoo_stages", {"haar": "a:B", "dct": "a:C"}), dist="two-zoo", point="wavelets")
    assert [p.distribution for p in registry.plugins() if p.name == "wavelets"] == ["one-zoo", "two-zoo"]
    assert registry.find("dct").distribution == "two-zoo"
    with pytest.raises(RegistryError, match=r"set ZOO_DISABLE_PLUGINS=one-zoo or ZOO_DISABLE_PLUGINS=two-zoo"):
        registry.find("haar")
    monkeypatch.setenv(registry.BLOCKED, "one_zoo")
    registry.refresh()
    assert registry.find("haar").distribution == "two-zoo"


def test_a_distribution_listed_twice_does_not_clash_with_itself(install: Install) -> None:
    install("fakeone", offering("zoo_stages", {"haar": "a:Old"}), dist="one-zoo", version="1.0")
    install("fakeone", offering("zoo_stages", {"haar": "a:New"}), dist="One_Zoo", version="1.1")
    assert plugin("fakeone").version == "1.1"  # the first on the path, as for imports
    assert registry.find("haar").origin == "One_Zoo 1.1"


def test_what_an_interrupted_installation_leaves_does_not_clash(install: Install) -> None:
    old = install("fakeone", offering("zoo_stages", {"haar": "a:Old"}), dist="one-zoo", version="0.9")
    (info,) = old.glob("*.dist-info")
    info.rename(old / "~ne_zoo-0.9.dist-info")  # as pip sets aside what it is about to remove
    install("fakeone", offering("zoo_stages", {"haar": "a:New"}), dist="one-zoo")
    assert registry.find("haar").origin == "one-zoo 1.0"


@pytest.mark.parametrize("blocked", ["fakeone", "fakeone-dist", " other, FakeOne ,", "fakeone_dist"])
def test_a_blocked_plugin_is_not_imported(install: Install, monkeypatch: pytest.MonkeyPatch, blocked: str) -> None:
    monkeypatch.setenv(registry.BLOCKED, blocked)
    install("fakeone", "raise RuntimeError('imported')")
    assert plugin("fakeone").error == "blocked by ZOO_DISABLE_PLUGINS"
    assert "fakeone" not in sys.modules
    assert registry.find("conv")


@pytest.mark.parametrize(
    ("name", "kinds", "problem"),
    [
        ("cnov", ("stage", "head"), "no plugin offers a stage or head named 'cnov'; did you mean 'conv'?"),
        ("kll", ("regularizer", "reconstruction"), "named 'kll'; did you mean 'kl'?"),
        ("zzzz", ("head",), f"named 'zzzz'; there are: {', '.join(registry.names(kind='head'))}"),
        ("", None, f"there are: {', '.join(registry.names())}"),
        ("kl", ("stage", "head"), "'kl' is no stage or head but a regularizer: it follows a stage, as in fc16+kl"),
        (
            "mse",
            ("stage", "head"),
            "'mse' is no stage or head but a reconstruction: it follows a stage, as in fc16+mse",
        ),
        ("conv", ("regularizer",), "'conv' is no regularizer but a stage: it begins a level, before any '+'"),
        ("normal", ("regularizer",), "'normal' is no regularizer but a head: it ends a stack, as in fc16/normal"),
        ("go", None, "but a command: it is run as `zoo go`"),
        ("kl", ("command",), "'kl' is no command but a regularizer"),
        ("conv", ("stages",), "no kind 'stages'"),
    ],
)
def test_a_name_that_does_not_fit(install: Install, name: str, kinds: tuple[str, ...] | None, problem: str) -> None:
    install("fakegood", offering("zoo_commands", {"go": "a:b"}))
    with pytest.raises(RegistryError, match=re.escape(problem)):
        registry.find(name, kinds=kinds)


def test_commands_have_names_of_their_own(install: Install) -> None:
    code = "import click\n@click.command()\ndef go(): pass\n" + offering("zoo_commands", {"go": "fakegood:go"})
    install("fakegood", code + offering("zoo_stages", {"go": "fakegood:go"}))
    assert registry.find("go").kind == "stage"
    assert isinstance(registry.find("go", kinds=("command",)).load(), click.Command)
    install("faketwo", offering("zoo_commands", {"go": "faketwo:go"}))
    assert list(registry.commands()) == ["go"]
    with pytest.raises(RegistryError, match="'go' is offered 2 times"):
        registry.find("go", kinds=("command",))


CLASSES = """
from zoo.interfaces import Head, Reconstruction
class Half(Reconstruction): pass
@hookimpl
def zoo_reconstructions():
    return {
        "gone": "fakebad.deeper:A", "absent": "fakebad:Absent", "needy": "fakeneedy:A", "broken": "fakebroken:A",
        "half": "fakebad:Half", "wrong": "zoo_latent.kl:KL", "function": "os:getcwd",
    }
@hookimpl
def zoo_commands():
    return {"wrong": "zoo_latent.kl:KL"}
"""


@pytest.mark.parametrize(
    ("name", "kind", "problem"),
    [
        ("gone", "reconstruction", "cannot be loaded: there is no module fakebad.deeper"),
        ("absent", "reconstruction", "fakebad:Absent does not exist"),
        ("needy", "reconstruction", "cannot be loaded: fakeneedy needs no_such_package, which is not installed"),
        ("broken", "reconstruction", "cannot be loaded: importing fakebroken raises OSError: no disk"),
        ("half", "reconstruction", "fakebad:Half is abstract: it lacks forward"),
        ("wrong", "reconstruction", "zoo_latent.kl:KL is not a class derived from zoo.Reconstruction"),
        ("function", "reconstruction", "os:getcwd is not a class derived from zoo.Reconstruction"),
        ("wrong", "command", "zoo_latent.kl:KL is not a click.Command"),
    ],
)
def test_a_reference_that_leads_nowhere(install: Install, name: str, kind: str, problem: str) -> None:
    site = install("fakebad", CLASSES)
    (site / "fakeneedy.py").write_text("import no_such_package.inner")
    (site / "fakebroken.py").write_text("raise OSError('no disk')")
    entry = registry.find(name, kinds=(kind,))
    with pytest.raises(RegistryError, match=re.escape(problem)) as caught:
        entry.load()
    assert f"the {kind} {name!r} of plugin fakebad (fakebad-dist 1.0)" in str(caught.value)


def test_names_that_torch_has_taken_are_numbered(install: Install, tmp_path: Path) -> None:
    taken = dict.fromkeys(("half", "values"), "zoo_losses.pixelwise:SquaredError")
    install("faketaken", offering("zoo_reconstructions", taken))
    stack = build("8x8x1/fc2(hidden=[4])+half+values+values(2)")
    assert [*stack.level(1).terms] == ["half_2", "values_2", "values_3"]
    assert [*load(stack.save(tmp_path / "saved")).level(1).terms] == ["half_2", "values_2", "values_3"]


def test_a_constructor_that_is_inherited_is_checked_too(install: Install) -> None:
    heir = "from zoo_conv.conv import Conv\nclass Heir(Conv): pass\n"
    install("fakeheir", heir + offering("zoo_stages", {"heir": "fakeheir:Heir"}))
    assert build("16x16x3/heir4x4x4(up=nearest, width=4)").code_shape == (4, 4, 4)
    with pytest.raises(SpecError, match=r"heir: up wants shuffle or .*got 'shufle'"):
        build("16x16x3/heir4x4x4(up=shufle)")


def test_threads_that_ask_at_once_look_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []

    def looking(point: EntryPoint, plugin: registry.Plugin) -> registry.Plugin:
        looked.append(plugin.name)
        time.sleep(0.01)
        return real(point, plugin)

    real = discovery._load
    monkeypatch.setattr(discovery, "_load", looking)
    with ThreadPoolExecutor(4) as threads:
        first, *others = [asked.result() for asked in [threads.submit(registry.plugins) for _ in range(4)]]
    assert all(found == first for found in others)
    assert sorted(looked) == sorted(plugin.name for plugin in first)


def test_a_plugin_may_ask_while_it_is_looked_at(install: Install) -> None:
    install("fakeasks", "from zoo import registry\nregistry.names()\n" + offering("zoo_stages", {"haar": "a:B"}))
    assert plugin("fakeasks").error is None
    assert "haar" in registry.names()
