"""Stages under names of their own: published on the Hub and beside a file, listed, shown, loaded and verified."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from loopback.fixtures import *  # noqa: F403 - pytest finds them here
from PIL import Image

import zoo
from zoo import evaluation, files, registry
from zoo.cli import main

SPEC = "12x12x1/fc3(hidden=[8])"
NAME = "fc3.clothes"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
RECIPE = "zoo train '12x12x1/fc3(hidden=[8])' --data sample --steps 2 --precision fp32 --out fc3.clothes"
TERMS = ["--as", NAME, "--licence", "Apache-2.0", "--data-licence", "MIT"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A stage that was trained and measured, with a picture and what a run leaves besides."""
    folder = tmp_path_factory.mktemp("run") / "stage"
    stack = zoo.fit(zoo.build(SPEC), "sample", steps=2, precision="fp32", out=folder)
    files.write_report(folder, evaluation.evaluate(stack, "sample"))
    (folder / "samples.png").write_bytes(b"a picture")
    return folder


@pytest.fixture
def stage(made, tmp_path, monkeypatch):
    """A copy of it, and a folder to be in."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(made, tmp_path / "stage")


@pytest.fixture
def in_use(tmp_path, monkeypatch):
    """registry.json of this folder stands in the place of the zoo's own."""
    monkeypatch.setattr("zoo.registry.library.own", lambda: tmp_path / "registry.json")
    registry.refresh()
    yield
    monkeypatch.undo()
    registry.refresh()


def run(*words, code=0):
    """Run the program; its result, which must have this exit code."""
    result = CliRunner().invoke(main, [str(word) for word in words], prog_name="zoo")
    assert result.exit_code == code, f"{result.exit_code}\n{result.output}\n{result.exception!r}"
    return result


def bundle(stage, *words, code=0):
    registry.refresh()
    return run("publish", stage, "--builtin", "--revision", COMMIT, *TERMS, *words, code=code)


# -- beside a file ---------------------------------------------------------------------------------------------------


def test_a_stage_is_bundled_listed_shown_loaded_and_verified(stage, tmp_path, in_use):
    said = bundle(stage, "--data-url", "https://example.org/clothes", "--attribution", "Zalando SE").stdout
    entry = registry.read(tmp_path / "registry.json")[NAME]
    folder = tmp_path / "pretrained" / NAME
    (level,) = files.read_config(stage)["levels"]
    assert {file.name for file in entry.files} == {path.name for path in folder.iterdir()} == {
        "config.json", level["file"], "report.json", "README.md", "samples.png"
    }  # fmt: skip
    assert entry.data == registry.Data("sample", "MIT", "https://example.org/clothes", "Zalando SE")
    assert (entry.source, entry.revision, entry.recipe) == ("builtin:", COMMIT, RECIPE)
    assert (entry.spec, entry.code_shape, entry.licence) == (SPEC, (3,), "Apache-2.0")
    assert entry.plugins == {"fc": "stackzoo", "gaussian": "stackzoo"}
    report = files.read_report(stage)
    assert entry.metrics[0].values == {name: report["end_to_end"][name] for name in registry.METRICS}
    assert 'zoo.load("fc3.clothes")' in (folder / "README.md").read_text()
    assert "license: apache-2.0" in (folder / "README.md").read_text()
    assert f"Next: zoo verify {NAME}" in said

    listed = run("list", "--pretrained").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["name", NAME]
    assert f"with its package  mse {entry.metrics[0].values['mse']:.4g}" in listed[1]
    assert run("list", "--pretrained", "--code", "7x7x10").stderr == "Nothing of that name.\n"
    assert json.loads(run("list", "--pretrained", "--metric", "mse<1", "--json").stdout)[0]["name"] == NAME
    shown = run("show", NAME).stdout
    assert shown.startswith(f"{NAME}: {SPEC}, a code of 3\n")
    assert "weights   Apache-2.0, " in shown
    assert "12x12x1/fc3(hidden=[8]) on sample, test: 1,000 images of 12x12x1" in shown
    told = json.loads(run("show", NAME, "--json").stdout)
    assert (told["published"]["name"], told["spec"], told["report"]) == (NAME, SPEC, report)

    stack, images = zoo.load(NAME), torch.rand(4, 1, 12, 12)
    assert torch.equal(stack.encode(images), zoo.load(stage).encode(images))
    verified = run("verify")
    assert verified.stdout.startswith(f"{NAME}\n  config.json ")
    assert verified.stderr == "10 checks, 0 wrong, 0 not measured\n"


def checks(*words, code=0):
    """What `zoo verify` finds, by what was looked at."""
    found = json.loads(run("verify", "--registry", "registry.json", "--json", *words, code=code).stdout)
    return {check["subject"]: (check["ok"], check["found"]) for check in found}


def test_a_flipped_byte_and_a_missing_file_are_found(stage, tmp_path):
    bundle(stage)
    folder = tmp_path / "pretrained" / NAME
    card = folder / "README.md"
    card.write_bytes(card.read_bytes().replace(b"autoencoders", b"autoencoderz"))
    assert "sha256 " in checks(code=1)["README.md"][1]
    card.write_bytes(b"short")
    assert checks(code=1)["README.md"][1].startswith("5 bytes, the entry says ")
    card.unlink()
    found = checks(code=1)
    assert found["README.md"] == (False, f"there is no file {folder.relative_to(tmp_path) / 'README.md'}")
    assert "loads" not in found


@pytest.mark.parametrize(
    ("field", "value", "subject", "said"),
    [
        ("code_shape", [4], "loads", "code_shape is (3,)"),
        ("spec", "12x12x1/fc3(hidden=[9])", "loads", "spec is 12x12x1/fc3(hidden=[8])"),
        ("plugins", {"fc": "other", "gaussian": "stackzoo"}, "loads", "plugins is {'fc': 'stackzoo'"),
    ],
)
def test_an_entry_that_says_something_else_is_found(stage, tmp_path, field, value, subject, said):
    bundle(stage)
    path = tmp_path / "registry.json"
    tree = json.loads(path.read_text())
    tree["stages"][NAME][field] = value
    path.write_text(json.dumps(tree))
    ok, found = checks(code=1)[subject]
    assert not ok
    assert said in found


@pytest.mark.parametrize(("factor", "ok"), [(1 + 2e-4, False), (1 - 2e-4, False), (1 + 5e-5, True)])
def test_numbers_are_measured_again(stage, tmp_path, factor, ok):
    bundle(stage)
    path = tmp_path / "registry.json"
    tree = json.loads(path.read_text())
    values = tree["stages"][NAME]["metrics"][0]["values"]
    values["mse"] *= factor
    path.write_text(json.dumps(tree))
    found = checks(code=0 if ok else 1)
    assert found["mse on sample, test"][0] is ok
    assert all(found[f"{name} on sample, test"][0] for name in ("mae", "psnr", "ssim"))
    if not ok:
        assert found["mse on sample, test"][1].endswith(f", the entry says {values['mse']:.6g}")


def test_what_cannot_be_measured_here_is_said_and_is_no_failure(stage, tmp_path, monkeypatch):
    monkeypatch.delenv("ZOO_DATA", raising=False)
    bundle(stage)
    path = tmp_path / "registry.json"
    tree = json.loads(path.read_text())
    first = tree["stages"][NAME]["metrics"][0]
    others = [{"data": "fashion_mnist"}, {"fingerprint": "0" * 64}, {"version": 2}]
    tree["stages"][NAME]["metrics"] = [{**first, "protocol": first["protocol"] | change} for change in others]
    path.write_text(json.dumps(tree))
    found = json.loads(run("verify", "--registry", path, "--json").stdout)
    unknown = [check["found"] for check in found if check["ok"] is None]
    assert [check["ok"] for check in found].count(None) == 3
    assert unknown[0].startswith("not measured: fashion_mnist")
    assert "sample is other images here: 1,000" in unknown[1]
    assert "not measured: it was by protocol 2, this zoo measures by 1" in unknown
    run("verify", "--registry", path, "--strict", code=1)

    raw = tmp_path / "images" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    run("verify", "--registry", path, "--data-root", tmp_path / "images")


def test_several_reports(stage, tmp_path):
    for number in range(6):
        picture = tmp_path / "few" / ("test" if number < 3 else "train") / f"{number}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (12, 12), 20 * number).save(picture)
    files.write_json(tmp_path / "few.json", evaluation.evaluate(zoo.load(stage), "few"))
    bundle(stage, "--report", tmp_path / "few.json")
    told = registry.read(tmp_path / "registry.json")[NAME].metrics
    assert [(one.data, one.split, one.count) for one in told] == [("sample", "test", 1000), ("few", "test", 3)]
    assert registry.read(tmp_path / "registry.json")[NAME].data.name == "sample"
    assert checks()["mse on few, test"][0]


def test_publishing_again(stage, tmp_path):
    bundle(stage)
    before = (tmp_path / "registry.json").read_bytes()
    again = bundle(stage, "--recipe", "otherwise", code=1)
    assert f"registry.json has {NAME} already: take another tag, or replace it (--replace)" in again.stderr
    assert (tmp_path / "registry.json").read_bytes() == before
    (stage / "samples.png").unlink()
    bundle(stage, "--recipe", "otherwise", "--replace")
    assert registry.read(tmp_path / "registry.json")[NAME].recipe == "otherwise"
    assert not (tmp_path / "pretrained" / NAME / "samples.png").exists()
    run("publish", stage, "--builtin", "--revision", COMMIT, *TERMS[2:], "--as", "fc3.other")
    assert registry.read(tmp_path / "registry.json").keys() == {NAME, "fc3.other"}
    checks()


def spoil_report(stage, **protocol):
    report = files.read_report(stage)
    files.write_json(stage / "report.json", report | {"protocol": report["protocol"] | protocol})


def spoil_run(stage, **told):
    files.write_json(stage / "run.json", files.read_json(stage / "run.json") | told)


REFUSED = {
    "no report": (lambda stage: (stage / "report.json").unlink(), [], "measure it first, with 'zoo eval"),
    "report of another form": (
        lambda stage: files.write_json(stage / "report.json", {"mse": 1}),
        [],
        "is no report of a stack",
    ),
    "report of another stack": (
        lambda stage: spoil_report(stage, stack="12x12x1/fc4"),
        [],
        "is the report of '12x12x1/fc4', not of 12x12x1/fc3(hidden=[8])",
    ),
    "the same report twice": (None, ["--report", "stage/report.json"], "is of the same images as another report"),
    "damaged weights": (
        lambda stage: next(stage.glob("level-*")).write_bytes(b"short"),
        [],
        "damaged or half copied",
    ),
    "lower levels from elsewhere": (
        lambda stage: spoil_run(stage, brought=["0" * 64]),
        [],
        "does not hold the whole command: give it with --recipe",
    ),
    "no recipe": (lambda stage: (stage / "run.json").unlink(), [], "has no run.json that says how it was trained"),
    "a name without a tag": (None, ["--as", "fc3"], "a stage with its shape and a tag"),
    "a name of another stage": (None, ["--as", "fc4.clothes"], "a spec whose last level is fc4"),
    "a licence that is none": (None, ["--licence", "my own"], "an SPDX identifier"),
    "a revision that is none": (None, ["--revision", "main"], "a commit of 40 hex digits"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_leaves_nothing(stage, tmp_path, case):
    spoil, words, said = REFUSED[case]
    if spoil:
        spoil(stage)
    assert said in bundle(stage, *words, code=1).stderr
    assert not (tmp_path / "registry.json").exists()
    assert not (tmp_path / "pretrained").exists()


@pytest.mark.parametrize("words", [[], ["you/x", "--builtin", "--revision", COMMIT], ["--builtin"]])
def test_where_to_is_said_once(stage, words):
    assert "USER/NAME on the Hub is wanted, or --builtin with --revision" in run(
        "publish", stage, *words, *TERMS, code=2
    ).stderr  # fmt: skip


def test_options_of_the_list_that_do_not_go_together():
    assert "it takes no --kind" in run("list", "--pretrained", "--kind", "stage", code=2).stderr
    assert "they take --pretrained" in run("list", "--code", "8", code=2).stderr
    assert "'fast' is no bound" in run("list", "--pretrained", "--metric", "fast", code=1).stderr


def test_a_name_that_is_not_there(stage):
    bundle(stage)
    said = run("verify", "--registry", "registry.json", "fc3.cloths", code=1).stderr
    assert "registry.json has no 'fc3.cloths'; did you mean 'fc3.clothes'?" in said
    assert "registry.json" in run("verify", "fc3.nowhere", code=1).stderr


# -- on the Hub ------------------------------------------------------------------------------------------------------


def test_a_stage_is_published_on_the_hub_and_verified_elsewhere(machine, other, made, server, tmp_path):
    path = tmp_path / "registry.json"
    terms = [*TERMS, "--registry", path]
    said = machine.zoo("publish", made, "you/clothes", *terms)
    assert said.code == 0, said.text
    repository = server.hub.repositories["you/clothes"]
    commit = repository.find(NAME)  # the tag
    entry = registry.read(path)[NAME]
    assert (entry.source, entry.revision) == ("hf-hub:you/clothes", commit.oid)
    for file in entry.files:
        assert (file.bytes, file.sha256) == (len(commit.files[file.name].content), commit.files[file.name].sha256)
    assert b"license: apache-2.0" in commit.files["README.md"].content

    verified = other.zoo("verify", "--registry", path)
    assert verified.code == 0, verified.text
    assert "9 checks, 0 wrong, 0 not measured" in verified.text
    offline = other.zoo("verify", "--registry", path, HF_HUB_OFFLINE="1")
    assert (offline.code, offline.requests) == (0, [])

    before, requests = path.read_bytes(), len(server.requests)
    refused = machine.zoo("publish", made, "you/clothes", *terms)
    assert refused.code == 1
    assert f"has {NAME} already" in refused.text
    assert (path.read_bytes(), len(server.requests)) == (before, requests)
    again = machine.zoo("publish", made, "you/clothes", *terms, "--replace")
    assert again.code == 0, again.text
    assert path.read_bytes() == before  # what is there already makes no new commit


def test_the_page_runs(machine, tmp_path, monkeypatch):
    """Every command of docs/pretrained.md in order, with fewer steps."""
    text = (Path(__file__).parent.parent / "docs" / "pretrained.md").read_text("utf-8")
    commands = [line for block in re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]
    assert len(commands) == 9
    monkeypatch.chdir(tmp_path)
    for command in commands:
        words = shlex.split(re.sub(r"--epochs \d+", "--steps 2", command))
        said = machine.run(f"import os; os.chdir({str(tmp_path)!r}); from zoo.cli import main; main({words[1:]!r})")
        assert said.code == 0, f"{command}\n{said.text}"


def test_a_hub_that_refuses_leaves_the_file_as_it_was(machine, made, tmp_path):
    path = tmp_path / "registry.json"
    refused = machine.zoo("publish", made, "somebody/clothes", *TERMS, "--registry", path)
    assert refused.code == 1
    assert "HubError" not in refused.text
    assert not path.exists()


def test_a_stage_of_the_hub_that_is_gone_is_wrong(machine, other, made, server, tmp_path):
    path = tmp_path / "registry.json"
    assert machine.zoo("publish", made, "you/clothes", *TERMS, "--registry", path).code == 0
    del server.hub.repositories["you/clothes"]
    gone = other.zoo("verify", "--registry", path)
    assert gone.code == 1
    assert "there is no such repository" in gone.text
