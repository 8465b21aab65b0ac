"""Published stages: what a registry file says, in our own words and in its JSON Schema; and whose files there are."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import jsonschema
import pytest
from click.testing import CliRunner

import zoo
from zoo import registry
from zoo.cli import main
from zoo.cli.targets import complete_target
from zoo.data import images
from zoo.errors import RegistryError
from zoo.registry import forms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.shell_completion import CompletionItem

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads((ROOT / "zoo" / "registry" / "registry.schema.json").read_text("utf-8"))
LARGEST = 3_000_000  # bytes of all stages that come with the zoo

HASH = "0123456789abcdef" * 4
NAME = "conv7x7x10.clothes"
ENTRY: dict[str, Any] = {
    "spec": "28x28x1/conv7x7x10(width=8)",
    "code_shape": [10, 7, 7],
    "source": "hf-hub:you/clothes",
    "revision": "a" * 40,
    "files": [
        {"name": "config.json", "bytes": 700, "sha256": HASH},
        {"name": "level-1-01234567.safetensors", "bytes": 300_000, "sha256": HASH},
        {"name": "README.md", "bytes": 300, "sha256": HASH},
    ],
    "data": {"name": "fashion_mnist", "licence": "MIT", "url": "https://example.org/a", "attribution": "Zalando SE"},
    "licence": "Apache-2.0",
    "metrics": [
        {
            "values": {"mse": 0.004, "mae": 0.03, "psnr": 24.0, "ssim": 0.9},
            "protocol": {"version": 1, "data": "sample", "split": "test", "count": 1000, "fingerprint": HASH},
        }
    ],
    "plugins": {"conv": "stackzoo", "gaussian": "stackzoo"},
    "recipe": "zoo train '28x28x1/conv7x7x10(width=8)' --data fashion_mnist --out clothes",
}
SMALL: dict[str, Any] = {
    **ENTRY,
    "spec": "28x28x1/fc8",
    "code_shape": [8],
    "licence": "CC-BY-4.0",
    "data": {"name": "digits", "licence": "CC0-1.0"},
    "metrics": [{**ENTRY["metrics"][0], "values": {"mse": 0.02, "psnr": 17.0}}],
    "plugins": {"fc": "stackzoo"},
}


def tree(**stages: Any) -> dict[str, Any]:
    return {"format": 1, "stages": stages}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")
    return path


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    """Each test sees what it installs; afterwards it is forgotten."""
    registry.refresh()
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("fake"):
            del sys.modules[name]
    registry.refresh()


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Have these stages in a registry.json that stands in the place of the zoo's own."""

    def put(**stages: Any) -> Path:
        path = write(tmp_path / "own" / "registry.json", tree(**stages))
        monkeypatch.setattr("zoo.registry.library.own", lambda: path)
        registry.refresh()
        return path

    return put


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Lay out a package with a hook ``zoo_registries`` as an installer does; its folder."""

    def lay_out(package: str, answer: object, stages: Any = None) -> Path:
        site = tmp_path / f"site-{package}"
        folder, info = site / package, site / f"{package}-1.0.dist-info"
        folder.mkdir(parents=True)
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[zoo]\n{package} = {package}\n")
        (folder / "__init__.py").write_text(
            f"from zoo import hookimpl\n\n@hookimpl\ndef zoo_registries():\n    return {answer!r}\n"
        )
        if stages is not None:
            write(folder / "data" / "registry.json", stages)
        monkeypatch.syspath_prepend(site)
        registry.refresh()
        return folder

    return lay_out


# -- an entry --------------------------------------------------------------------------------------------------------


def test_an_entry_is_read_and_written_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path / "registry.json", tree(**{NAME: ENTRY, "fc8.digits": SMALL}))
    stages = registry.read(path)
    entry = stages[NAME]
    assert (entry.name, entry.spec, entry.code_shape, entry.code) == (NAME, ENTRY["spec"], (10, 7, 7), "7x7x10")
    assert entry.files[0] == registry.File("config.json", 700, HASH)
    assert entry.data == registry.Data(**ENTRY["data"])
    assert stages["fc8.digits"].data == registry.Data("digits", "CC0-1.0")
    assert entry.metrics == (registry.Measured(ENTRY["metrics"][0]["values"], **ENTRY["metrics"][0]["protocol"]),)
    assert (entry.bytes, entry.registry, entry.plugins) == (301_000, path, ENTRY["plugins"])
    assert (entry.folder, entry.reference) == (None, f"hf-hub:you/clothes@{'a' * 40}")
    text = registry.written(stages)
    assert json.loads(text) == tree(**{NAME: ENTRY, "fc8.digits": SMALL})
    path.write_text(text)
    assert registry.read(path) == stages
    assert registry.checked(entry) == entry


def test_a_builtin_stage_is_beside_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "registry.json", tree(**{NAME: {**ENTRY, "source": "builtin:"}}))
    entry = registry.read(path)[NAME]
    assert (entry.folder, entry.reference) == (tmp_path / "pretrained" / NAME, None)


def test_a_registry_file_reads_well(tmp_path: Path) -> None:
    path = write(tmp_path / "registry.json", tree(**{"fc8.digits": SMALL, NAME: ENTRY}))
    lines = registry.written(registry.read(path)).splitlines()
    assert lines[:4] == ["{", '  "format": 1,', '  "stages": {', f'    "{NAME}": {{']
    assert '      "code_shape": [10, 7, 7],' in lines
    assert f'        {{"name": "config.json", "bytes": 700, "sha256": "{HASH}"}},' in lines


GONE = object()
EXPRESSED: list[tuple[str, Any, str]] = [  # where, what stands there then, what is said: also by the schema
    ("", [], 'is not of the form {"format": 1'),
    ("format", GONE, 'is not of the form {"format": 1'),
    ("format", 2, 'is not of the form {"format": 1'),
    ("format", True, 'is not of the form {"format": 1'),
    ("stages", GONE, "has no 'stages'"),
    ("stages", [], ": stages is []; an object of names and stages is wanted"),
    ("more", 1, "has 'more', which is no field of it; there are: format, stages"),
    ("stages.@", "you/x", f": stages.{NAME} is 'you/x'; an object of spec, "),
    *((f"stages.@.{field}", GONE, f"has no '{field}'") for field in ENTRY),
    ("stages.@.licenced", "MIT", "has 'licenced', which is no field of it; did you mean 'licence'?"),
    ("stages.@.spec", 1, ".spec is 1; a spec is wanted"),
    ("stages.@.spec", "", ".spec is ''; a spec is wanted"),
    ("stages.@.code_shape", [], ".code_shape is []; a list of numbers is wanted"),
    ("stages.@.code_shape", 10, ".code_shape is 10; a list of numbers is wanted"),
    ("stages.@.code_shape.0", 0, ".code_shape[0] is 0; a whole number from 1 is wanted"),
    ("stages.@.code_shape.0", True, ".code_shape[0] is True; a whole number from 1 is wanted"),
    ("stages.@.code_shape.1", "7", ".code_shape[1] is '7'; a whole number from 1 is wanted"),
    ("stages.@.source", "builtin", ".source is 'builtin'; builtin:, or hf-hub:user/name, is wanted"),
    ("stages.@.source", "hf-hub:you", ".source is 'hf-hub:you'; builtin:"),
    ("stages.@.source", "hf-hub:../you", ".source is 'hf-hub:../you'; builtin:"),
    ("stages.@.source", "hf-hub:you/clothes@v1", "builtin:, or hf-hub:user/name, is wanted"),
    ("stages.@.source", "https://you/clothes", "builtin:, or hf-hub:user/name, is wanted"),
    ("stages.@.revision", "main", ".revision is 'main'; a commit of 40 hex digits is wanted"),
    ("stages.@.revision", "A" * 40, "a commit of 40 hex digits is wanted"),
    ("stages.@.revision", "a" * 41, "a commit of 40 hex digits is wanted"),
    ("stages.@.files", {}, ".files is {}; a list of files is wanted"),
    ("stages.@.files", [], ".files is []; a list of files is wanted"),
    ("stages.@.files.0", "config.json", ".files[0] is 'config.json'; an object of name, bytes, sha256 is wanted"),
    ("stages.@.files.0.sha256", GONE, ".files[0] has no 'sha256'"),
    ("stages.@.files.0.url", "x", ".files[0] has 'url', which is no field of it; there are: bytes, name, sha256"),
    ("stages.@.files.0.name", "c.json", "names no config.json, or no weights beside it"),
    ("stages.@.files.1.name", "../level.safetensors", "the name of a file, without its folder, is wanted"),
    ("stages.@.files.1.name", "/etc/level.safetensors", "the name of a file, without its folder, is wanted"),
    ("stages.@.files.1.name", ".safetensors", "the name of a file, without its folder, is wanted"),
    ("stages.@.files.1.name", "weights.bin", "the name of a file, without its folder, is wanted"),
    ("stages.@.files.1.bytes", 0, ".files[1].bytes is 0; a whole number from 1 is wanted"),
    ("stages.@.files.1.bytes", 1.5, ".files[1].bytes is 1.5; a whole number from 1 is wanted"),
    ("stages.@.files.1.sha256", "1234", ".files[1].sha256 is '1234'; 64 hex digits is wanted"),
    ("stages.@.data", "fashion_mnist", "an object of name, licence is wanted"),
    ("stages.@.data.name", GONE, ".data has no 'name'"),
    ("stages.@.data.name", "two\nlines", ".data.name is 'two\\nlines'; what zoo train --data takes is wanted"),
    ("stages.@.data.licence", "all mine", "the licence of the images, an SPDX identifier, is wanted"),
    ("stages.@.data.url", "http://example.org", ".data.url is 'http://example.org'; an https:// address is wanted"),
    ("stages.@.data.url", None, ".data.url is None; an https:// address is wanted"),
    ("stages.@.data.attribution", 1, ".data.attribution is 1; whom to name, on one line, is wanted"),
    ("stages.@.data.size", 1, ".data has 'size', which is no field of it"),
    ("stages.@.licence", "", ".licence is ''; the licence of the weights, an SPDX identifier, is wanted"),
    ("stages.@.metrics", [], ".metrics is []; a list of what was measured is wanted"),
    ("stages.@.metrics.0.values", {}, ".values is {}; one of mse, mae, psnr, ssim is wanted"),
    ("stages.@.metrics.0.values.fid", 12.5, "has 'fid', which is no field of it"),
    ("stages.@.metrics.0.values.mse", "0.1", ".values.mse is '0.1'; a number is wanted"),
    ("stages.@.metrics.0.values.mse", None, ".values.mse is None; a number is wanted"),
    ("stages.@.metrics.0.values.mse", True, ".values.mse is True; a number is wanted"),
    ("stages.@.metrics.0.protocol", GONE, ".metrics[0] has no 'protocol'"),
    ("stages.@.metrics.0.protocol.version", 0, ".version is 0; a whole number from 1 is wanted"),
    ("stages.@.metrics.0.protocol.data", "", ".data is ''; the name of the images is wanted"),
    ("stages.@.metrics.0.protocol.split", "tests", ".split is 'tests'; train, test, val or all is wanted"),
    ("stages.@.metrics.0.protocol.count", -1, ".count is -1; a whole number from 1 is wanted"),
    ("stages.@.metrics.0.protocol.fingerprint", "", ".fingerprint is ''; the sha256 of the pixels is wanted"),
    ("stages.@.metrics.0.protocol.seed", 0, "has 'seed', which is no field of it"),
    ("stages.@.plugins", {}, "does not say which distribution 'conv' comes from"),
    ("stages.@.plugins", ["conv"], "an object of names and distributions is wanted"),
    ("stages.@.plugins.conv", "stack zoo", ".plugins.conv is 'stack zoo'; the name of a distribution is wanted"),
    ("stages.@.plugins.conv2", "stackzoo", "a name is 'conv2'; the name of a stage or term is wanted"),
    ("stages.@.recipe", "", ".recipe is ''; the command that trained it, on one line, is wanted"),
]
BEYOND: list[tuple[str, Any, str]] = [  # what no schema can say
    ("stages.@.spec", "28x28x1/", "registry.json: stages.conv7x7x10.clothes.spec: a stage or a head is missing here"),
    ("stages.@.spec", "conv7x7x10", "a spec that begins with its input"),
    ("stages.@.spec", "28x28x1/conv7x7x10(width=8.0)", "as it prints itself and without tags, '28x28x1/conv7x7x10(w"),
    ("stages.@.spec", "28x28x1/conv7x7x10.other", "as it prints itself and without tags"),
    ("stages.@.spec", "28x28x1/conv7x7x9", "a spec whose last level is conv7x7x10, as the name says"),
    ("stages.@.spec", "28x28x1/conv7x7x10/fc8", "a spec whose last level is conv7x7x10, as the name says"),
    ("stages.@.spec", "28x28x1/conv7x7x10+kl", "does not say which distribution 'kl' comes from"),
    ("stages.@.metrics.0.values.mse", 10**400, f".values.mse is 1{'0' * 59}...; a number is wanted"),
    ("stages.@.files.2.name", "config.json", ".files names config.json twice"),
    ("stages.@.files.1.name", "other.md", "names no config.json, or no weights beside it"),
]


def mutated(where: str, value: Any) -> Any:
    """A registry in which this value stands there."""
    whole = copy.deepcopy(tree(**{NAME: ENTRY}))
    if not where:
        return value
    *way, last = (NAME if step == "@" else int(step) if step.isdigit() else step for step in where.split("."))
    holder: Any = whole
    for step in way:
        holder = holder[step]
    if value is GONE:
        del holder[last]
    else:
        holder[last] = value
    return whole


def test_the_schema_is_one_and_takes_what_is_right() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(tree(), SCHEMA)
    jsonschema.validate(tree(**{NAME: ENTRY, "fc8.digits": SMALL}), SCHEMA)


@pytest.mark.parametrize(("where", "value", "said"), EXPRESSED + BEYOND)
def test_a_wrong_field_is_named(tmp_path: Path, where: str, value: Any, said: str) -> None:
    path = write(tmp_path / "registry.json", mutated(where, value))
    with pytest.raises(RegistryError, match=re.escape(said)) as refused:
        registry.read(path)
    assert str(path) in str(refused.value)
    assert NAME in str(refused.value) or not where.startswith("stages.@")


@pytest.mark.parametrize(("where", "value", "said"), EXPRESSED)
def test_the_schema_refuses_it_too(where: str, value: Any, said: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(mutated(where, value), SCHEMA)


@pytest.mark.parametrize(("where", "value", "said"), BEYOND)
def test_what_no_schema_can_say_it_does_not(where: str, value: Any, said: str) -> None:
    jsonschema.validate(mutated(where, value), SCHEMA)


@pytest.mark.parametrize(
    "name", ["conv7x7x10", "Conv7x7x10.A", "conv7x7x10/fc8.a", "conv7x7x10.", "conv8.7x7.a", "a b.c"]
)
def test_a_wrong_name_is_refused_by_both(tmp_path: Path, name: str) -> None:
    whole = tree(**{name: ENTRY})
    with pytest.raises(RegistryError, match=re.escape(f"a name is {name!r}; a stage with its shape and a tag")):
        registry.read(write(tmp_path / "registry.json", whole))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(whole, SCHEMA)


def test_the_patterns_of_the_schema_are_those_of_the_code() -> None:
    there = set(re.findall(r'"pattern": "(.*?)"[,}\n]', json.dumps(SCHEMA)))
    here = {forms.PART, forms.NAME, forms.SOURCE, forms.COMMIT, forms.SHA256, forms.FILE, forms.LICENCE}
    here |= {forms.DISTRIBUTION, forms.ADDRESS, forms.LINE}
    assert {json.loads(f'"{pattern}"') for pattern in there} == {f"^({pattern})$" for pattern in here}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"\xff", "invalid start byte"),
        (b'{"format": 1, "format": 1}', "'format' stands twice in one object"),
        (b'{"format": NaN}', "NaN is not a number"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, text: bytes, said: str) -> None:
    path = tmp_path / "registry.json"
    path.write_bytes(text)
    with pytest.raises(RegistryError, match=re.escape(f"{path} cannot be read")) as refused:
        registry.read(path)
    assert said in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"nowhere\.json cannot be read"):
        registry.read(tmp_path / "nowhere.json")


# -- what comes with the zoo -----------------------------------------------------------------------------------------


def test_the_zoos_own_file_satisfies_its_schema() -> None:
    own = json.loads((ROOT / "registry.json").read_text("utf-8"))
    jsonschema.validate(own, SCHEMA)
    assert registry.read(ROOT / "registry.json").keys() == registry.published().keys() == set(own["stages"])


def test_the_zoos_own_file_is_as_it_would_be_written() -> None:
    path = ROOT / "registry.json"
    assert path.read_text("utf-8") == registry.written(registry.read(path))


def test_every_stage_that_comes_along_is_there_to_the_byte() -> None:
    entries = [entry for entry in registry.published().values() if entry.folder is not None]
    for entry in entries:
        there = {path.name: path.read_bytes() for path in entry.folder.iterdir()}
        assert there.keys() == {file.name for file in entry.files}, entry.name
        for file in entry.files:
            assert len(there[file.name]) == file.bytes, (entry.name, file.name)
            assert hashlib.sha256(there[file.name]).hexdigest() == file.sha256, (entry.name, file.name)
    assert sum(entry.bytes for entry in entries) <= LARGEST
    folders = {path.name for path in (ROOT / "pretrained").iterdir() if path.is_dir()}
    assert folders == {entry.name for entry in entries}, "a folder that no entry names"


def test_every_stage_that_comes_along_is_measured_on_what_comes_along() -> None:
    for entry in registry.published().values():
        assert any(told.data == "sample" for told in entry.metrics), entry.name


def test_images_are_decoded_and_resized_to_what_every_stage_was_measured_on() -> None:
    """Otherwise ``zoo verify`` could repeat none of the numbers, and would say that these are other images."""
    for entry in registry.published().values():
        told = next(told for told in entry.metrics if told.data == "sample")
        shown = images("sample", zoo.build(entry.spec).input_shape, split=told.split)
        assert shown.fingerprint == told.fingerprint, entry.name


def test_the_zoos_own_file_is_in_the_wheel_with_its_stages() -> None:
    import tomllib

    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]
    packed = build["wheel"]["force-include"]
    assert (packed["registry.json"], packed["pretrained"]) == ("zoo/registry.json", "zoo/pretrained")
    assert {"/registry.json", "/pretrained"} <= set(build["sdist"]["include"])


# -- by name ---------------------------------------------------------------------------------------------------------


def test_names_and_entries(use: Callable[..., Path]) -> None:
    path = use(**{NAME: ENTRY, "fc8.digits": SMALL})
    assert registry.names(pretrained=True) == [NAME, "fc8.digits"]
    assert registry.names("fc*", pretrained=True, kind="stage") == ["fc8.digits"]
    assert registry.names(pretrained=True, kind="head") == []
    assert registry.published() == registry.read(path)
    assert registry.pretrained(NAME) == registry.read(path)[NAME]
    registry.published().clear()
    assert len(registry.published()) == 2


def test_a_misspelt_name(use: Callable[..., Path]) -> None:
    use(**{NAME: ENTRY})
    with pytest.raises(RegistryError, match=r"no registry\.json has one of this name; did you mean 'conv7x7x10\.c"):
        registry.pretrained("conv7x7x10.cloths")


def test_a_stage_whose_plugin_is_missing_says_what_to_install(use: Callable[..., Path]) -> None:
    use(**{NAME: {**ENTRY, "plugins": {"conv": "stackzoo", "sharp": "zoo-sharp"}}})
    with pytest.raises(RegistryError, match=f"{NAME} takes 'sharp', which no plugin in use offers: install zoo-sharp"):
        registry.pretrained(NAME)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [NAME, "fc8.digits"]),
        ({"pattern": "conv*"}, [NAME]),
        ({"code": "7x7x10"}, [NAME]),
        ({"code": "8"}, ["fc8.digits"]),
        ({"code": "10x7x7"}, []),
        ({"data": "digits"}, ["fc8.digits"]),
        ({"data": "*s*"}, [NAME, "fc8.digits"]),
        ({"licence": "apache-2.0"}, [NAME]),
        ({"licence": "cc-*"}, ["fc8.digits"]),
        ({"metric": "mse<0.01"}, [NAME]),
        ({"metric": "mse >= 4e-3"}, [NAME, "fc8.digits"]),
        ({"metric": "psnr<=17"}, ["fc8.digits"]),
        ({"metric": "ssim>0"}, [NAME]),
        ({"pattern": "fc*", "metric": "mse<0.01"}, []),
    ],
)
def test_searching(use: Callable[..., Path], asked: dict[str, str], found: list[str]) -> None:
    use(**{"fc8.digits": SMALL, NAME: ENTRY})
    assert [entry.name for entry in registry.search(**asked)] == found


@pytest.mark.parametrize("bound", ["", "mse", "mse=0.1", "fid<3", "mse<x", "mse<1.2.3", "0.1>mse"])
def test_a_bound_that_is_none(bound: str) -> None:
    with pytest.raises(RegistryError, match="is no bound: one is mse, mae, psnr, ssim, a sign and a number"):
        registry.search(metric=bound)


def test_the_list_and_the_shell_know_them(use: Callable[..., Path]) -> None:
    use(**{"fc8.digits": SMALL, NAME: ENTRY})
    heading, conv, fc = CliRunner().invoke(main, ["list", "--pretrained"]).stdout.splitlines()
    assert heading.split() == ["name", "spec", "code", "data", "licence", "size", "source", "measured"]
    assert re.split("  +", conv) == [
        NAME, ENTRY["spec"], "7x7x10", "fashion_mnist", "Apache-2.0", "301 kB", "hf-hub:you/clothes",
        "mse 0.004, psnr 24, ssim 0.9 on sample",
    ]  # fmt: skip
    assert fc.endswith("mse 0.02, psnr 17 on sample")
    assert [item.value for item in completed("conv7")] == [NAME]
    assert "fc8.digits" in [item.value for item in completed("fc")]
    assert [item.value for item in completed("8x8x1/fc8.")] == ["8x8x1/fc8."]  # not behind an input


def completed(incomplete: str) -> list[CompletionItem]:
    return complete_target(click.Context(main), main.params[0], incomplete)


# -- files of plugins ------------------------------------------------------------------------------------------------


def test_a_plugin_brings_stages(install: Callable[..., Path]) -> None:
    folder = install(
        "fakeshelf", ["fakeshelf:data/registry.json"], tree(**{"fc8.digits": {**SMALL, "source": "builtin:"}})
    )
    (plugin,) = [plugin for plugin in registry.plugins() if plugin.name == "fakeshelf"]
    assert (plugin.error, plugin.offers, plugin.registries) == (None, (), ("fakeshelf:data/registry.json",))
    entry = registry.pretrained("fc8.digits")
    assert (entry.registry, entry.folder) == (
        folder / "data" / "registry.json",
        folder / "data" / "pretrained" / "fc8.digits",
    )
    assert "fc8.digits" in zoo.list(pretrained=True)


@pytest.mark.parametrize(
    ("answer", "stages", "said"),
    [
        (["fakeshelf:data/registry.json"], None, "there is no file 'data/registry.json' in it"),
        (["fakenowhere:registry.json"], None, "there is no such package"),
        (["fakenowhere.below:registry.json"], None, "there is no such package"),
        (["fakeshelf:data/registry.json"], {"format": 2}, 'is not of the form {"format": 1'),
        (["fakeshelf:data/registry.json"], tree(**{NAME: {}}), f"stages.{NAME} has no 'spec'"),
    ],
)
def test_a_broken_file_is_reported_and_takes_nothing_down(
    install: Callable[..., Path], use: Callable[..., Path], answer: list[str], stages: Any, said: str
) -> None:
    use(**{"fc8.digits": SMALL})
    install("fakeshelf", answer, stages)
    assert registry.names(pretrained=True) == ["fc8.digits"]
    (problem,) = registry.catalogue().broken.values()
    assert said in problem
    assert "conv" in registry.names()
    listed = CliRunner().invoke(main, ["list", "--pretrained"])
    assert listed.stdout.splitlines()[1].startswith("fc8.digits")
    assert "Some published stages are left out; `zoo plugins` says why." in listed.stderr
    told = CliRunner().invoke(main, ["plugins"]).stdout
    assert f"fakeshelf  (fakeshelf 1.0)\n  registry: not in use: {problem}\n" in told
    plugins = json.loads(CliRunner().invoke(main, ["plugins", "--json"]).stdout)["plugins"]
    (shelf,) = [plugin for plugin in plugins if plugin["name"] == "fakeshelf"]
    assert shelf["registries"] == [{"reference": answer[0], "error": problem}]


@pytest.mark.parametrize("raises", ["OSError('no disk')", "SystemExit(3)"])
def test_a_package_that_breaks_while_it_is_looked_into_takes_nothing_down(
    install: Callable[..., Path], use: Callable[..., Path], tmp_path: Path, raises: str
) -> None:
    use(**{"fc8.digits": SMALL})
    install("fakeshelf", ["fakebreaks.below:registry.json"])
    (tmp_path / "site-fakeshelf" / "fakebreaks.py").write_text(f"raise {raises}")
    assert registry.names(pretrained=True) == ["fc8.digits"]
    (problem,) = registry.catalogue().broken.values()
    assert f"looking for fakebreaks.below raises {raises.replace('(', ': ').strip(')')}".replace("'", "") in problem


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "zoo_registries returns None, not a list"),
        ({"a": "b"}, "zoo_registries returns dict, not a list"),
        ([1], "zoo_registries returns 1, which is not of the form 'package:path/file.json'"),
        (["registry.json"], "not of the form 'package:path/file.json'"),
        (["fakeshelf:../registry.json"], "not of the form 'package:path/file.json'"),
        (["fakeshelf:/etc/registry.json"], "not of the form 'package:path/file.json'"),
        ([], "offers nothing by any of the hooks"),
    ],
)
def test_a_hook_of_another_form(install: Callable[..., Path], answer: object, said: str) -> None:
    install("fakeshelf", answer)
    (plugin,) = [plugin for plugin in registry.plugins() if plugin.name == "fakeshelf"]
    assert said in str(plugin.error)


def test_a_name_published_twice_is_used_by_neither(install: Callable[..., Path], use: Callable[..., Path]) -> None:
    own = use(**{NAME: ENTRY, "fc8.digits": SMALL})
    folder = install("fakeshelf", ["fakeshelf:data/registry.json"], tree(**{NAME: ENTRY}))
    assert registry.names(pretrained=True) == ["fc8.digits"]
    with pytest.raises(RegistryError) as refused:
        registry.pretrained(NAME)
    places = f"{own} and {folder / 'data' / 'registry.json'}"
    assert f"{NAME!r} is published 2 times, in {places}: uninstall one of them" in str(refused.value)
    assert (
        f"clash: {NAME!r} is published in {places}: neither is used\n" in CliRunner().invoke(main, ["plugins"]).stdout
    )


def test_a_damaged_file_of_the_zoos_own_is_told_and_hides_no_names(use: Callable[..., Path]) -> None:
    use().write_text("{")
    registry.refresh()
    assert "registry.json cannot be read" in CliRunner().invoke(main, ["plugins"]).stdout
    assert CliRunner().invoke(main, ["list"]).exit_code == 0
    assert "registry.json cannot be read" in CliRunner().invoke(main, ["list", "--pretrained"]).stderr


def test_looking_into_a_package_imports_nothing_heavy(install: Callable[..., Path]) -> None:
    install("fakeshelf", ["fakeshelf:data/registry.json"], tree(**{NAME: ENTRY}))
    code = f"import sys; sys.path[:0] = {sys.path[:1]!r}; import zoo; "
    code += "print(zoo.list(pretrained=True), 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == f"{[*registry.names(pretrained=True)]} False\n", result.stderr
    assert NAME in result.stdout
