"""Recipes: each reads, and each is carried out in its quick form; a page says what came out; a folder goes on."""

from __future__ import annotations

import json
import shutil
import time
import tomllib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import zoo
from zoo import experiments
from zoo.cli import main
from zoo.data import images
from zoo.errors import DataError, EvaluationError, RecipeError, RegistryError
from zoo.evaluation import classifier
from zoo.experiments.bench import Bench, at
from zoo.experiments.page import Page, written
from zoo.experiments.reproducing import EXPERIMENTS
from zoo.experiments.runs import Took, finished

ROOT = Path(__file__).parent.parent
TINY = """
title = "Depth"
about = "Tiny."
source = "nobody"
experiment = "depth"
data = "sample"

[training]
steps = 3
batch_size = 8

[stacks]
one = "8x8x1/conv6(width=4, blocks=0)"
two = "8x8x1/conv4x4x2(width=4, blocks=0)/conv6(width=4, blocks=0)"

[settings]
refine_steps = 2
refine_rate = 1e-4
pixel_steps = 2
slower = 0.1
penalty = 1.19
refined = 1.0
held_out = 50

[reference.error]
one = [0.5]
two = [0.25, 0.75]

[reference.seconds]
one = [1.0]
two = [1.0, 0.5]
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


# -- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", experiments.names())
def test_every_recipe_reads_and_its_specs_build_on_paper(name):
    for quick in (False, True):
        recipe = experiments.read(name, quick=quick)
        assert recipe.experiment in EXPERIMENTS
        assert recipe.stacks
        stage = recipe.settings.get("stage")
        for spec in recipe.stacks.values():
            if any(f"{{{name}}}" in spec for name in recipe.files):
                continue  # it reads weights that only its reader has
            whole = "/".join(filter(None, [stage, spec.replace("N", "2")]))
            with torch.device("meta"):
                built = zoo.build(whole)
            assert len(built.levels) or built.head
    whole, quick = (experiments.read(name, quick=quick) for quick in (False, True))
    assert (quick.training, quick.settings) != (whole.training, whole.settings)


def test_quick_changes_what_it_names():
    whole, quick = (experiments.read("stack-depth", quick=quick) for quick in (False, True))
    assert quick.data == "sample"
    assert quick.training == {"steps": 6, "batch_size": 16}  # a table as a whole
    assert quick.settings == whole.settings | {"refine_steps": 6, "pixel_steps": 6}  # of the settings those named


def test_recipes_come_with_the_package():
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert built["wheel"]["force-include"]["recipes"] == "zoo/recipes"
    assert "/recipes" in built["sdist"]["include"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("[training]", "[trainings]"), "there is no field 'trainings'; did you mean 'training'"),
        (('data = "sample"', ""), "the field 'data' is missing"),
        (('data = "sample"', "data = 5"), "data is 5, not a text"),
        (('title = "Depth"', "title = "), "cannot be read as TOML"),
        (("[settings]", "[quick]\nname = 'x'\n[settings]"), r"\[quick\]: there is no field 'name'"),
        (("[settings]", "[quick.settigns]\nx = 1\n[settings]"), r"\[quick\]: there is no field 'settigns'"),
        (('one = "8x8x1/conv6(width=4, blocks=0)"', "one = 3"), "stacks: one is 3, not a text"),
    ],
)
def test_a_recipe_of_another_form(recipe, change, problem):
    recipe.write_text(TINY.replace(*change))
    with pytest.raises(RecipeError, match=problem):
        experiments.read(recipe)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (('"depth"', '"sweep"'), "the experiment 'sweep' asks for the setting 'doubled'"),
        (("penalty = 1.19", ""), "the experiment 'depth' asks for the setting 'penalty', which is missing"),
        (("penalty = 1.19", "penalty = 1.19\npenalties = 2"), "no setting 'penalties'; did you mean 'penalty'"),
        (("penalty = 1.19", "penalty = '1.19'"), "the setting penalty is '1.19', not a number"),
        (("held_out = 50", "held_out = true"), "the setting held_out is True, not a number"),
        (('two = "8x8x1', 'deux = "8x8x1'), "the experiment 'depth' asks for a stack called 'two'"),
    ],
)
def test_a_recipe_of_ones_own_is_looked_through_before_anything_is_trained(recipe, change, problem):
    recipe.write_text(TINY.replace(*change))
    with pytest.raises(RecipeError, match=problem):
        experiments.reproduce(recipe, out=recipe.parent / "out", progress=False)
    assert not (recipe.parent / "out").exists()


def test_a_quick_run_of_a_recipe_that_says_nothing_of_one(recipe):
    with pytest.raises(RecipeError, match=r"has no table \[quick\]"):
        experiments.read(recipe, quick=True)


def test_a_number_of_the_source_that_is_not_told(recipe):
    read = experiments.read(recipe)
    assert read.told("error", "two", 1) == 0.75
    assert [read.told(*keys) for keys in (("error", "two", 2), ("error", "three", 0), ("nats",))] == [None] * 3


def test_names_that_are_none(recipe):
    with pytest.raises(RecipeError, match="no recipe 'stack-deth'; did you mean 'stack-depth'"):
        experiments.read("stack-deth")
    recipe.write_text(TINY.replace('"depth"', '"width"'))
    with pytest.raises(RecipeError, match="no experiment 'width'"):
        experiments.reproduce(recipe, progress=False)


# -- carrying out ----------------------------------------------------------------------------------------------------


def test_a_recipe_from_the_command_line_and_again(recipe, tmp_path):
    runner, out = CliRunner(), tmp_path / "out"
    first = runner.invoke(main, ["reproduce", str(recipe), "--out", str(out)])
    assert first.exit_code == 0, first.output
    assert f"The page is {out / 'report.md'}." in first.output
    told = json.loads((out / "report.json").read_text())
    rows = told["tables"]["Error and time, level by level"]
    assert [row["the source's"] for row in rows] == [0.5, 0.25, 0.75]
    assert all(row["MSE in [-1, 1]"] == pytest.approx(4 * row["MSE"]) for row in rows)
    assert {claim["verdict"] for claim in told["claims"]} <= {"confirmed", "refuted", "open"}
    page = (out / "report.md").read_text()
    for picture in ("level-2.png", "images.png"):
        assert f"]({picture})" in page
        assert (out / picture).read_bytes().startswith(b"\x89PNG")

    weights = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*.safetensors")}
    assert len(weights) == 10  # of six runs
    again = runner.invoke(main, ["reproduce", str(recipe), "--out", str(out)])
    assert again.exit_code == 0, again.output
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*.safetensors")} == weights
    assert json.loads((out / "report.json").read_text()) == told

    recipe.write_text(TINY.replace("steps = 3", "steps = 4"))
    other = runner.invoke(main, ["reproduce", str(recipe), "--out", str(out)])
    assert other.exit_code == 1
    assert "is a run of another options than what is asked now" in other.output
    recipe.write_text(TINY.replace("Tiny.", "Told in other words.").replace("penalty = 1.19", "penalty = 1.2"))
    again = runner.invoke(main, ["reproduce", str(recipe), "--out", str(out)])
    assert again.exit_code == 0, again.output
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*.safetensors")} == weights
    assert f"command: zoo reproduce {recipe}\n" in (out / "report.md").read_text()


def test_without_numbers_of_a_source(recipe, tmp_path):
    recipe.write_text(TINY.partition("[reference.error]")[0])
    page = experiments.reproduce(recipe, out=tmp_path / "out", progress=False)
    rows = page.tables["Error and time, level by level"]
    assert {(row["the source's"], row["the source's share"]) for row in rows} == {(None, None)}


def test_what_lies_in_a_folder_is_not_replaced(recipe, tmp_path):
    zoo.build("8x8x1/fc2").save(tmp_path / "stack")
    before = {path: path.read_bytes() for path in (tmp_path / "stack").iterdir()}
    with pytest.raises(RecipeError, match="holds other files, which might be replaced"):
        experiments.reproduce(recipe, out=tmp_path / "stack", progress=False)
    assert {path: path.read_bytes() for path in (tmp_path / "stack").iterdir()} == before


class TestRuns:
    """What is kept of them under their names."""

    @pytest.fixture
    def bench(self, recipe, tmp_path):
        return Bench(experiments.read(recipe), None, tmp_path / "out", progress=False)

    def test_are_of_what_was_asked(self, bench, tmp_path):
        first = bench.train("a b", "8x8x1/fc2(hidden=[4])")
        assert bench.train("a b", "8x8x1/fc2(hidden=[4])").seconds == first.seconds
        for name, spec, options, other in (
            ("a b", "8x8x1/fc3(hidden=[4])", {}, "stack"),
            ("a+b", "8x8x1/fc3(hidden=[4])", {}, "stack"),  # the same folder
            ("a b", "8x8x1/fc2(hidden=[4])", {"lr": 1e-4}, "options"),
            ("a b", "8x8x1/fc2(hidden=[4])", {"data": images("sample", (1, 8, 8))}, "data"),
        ):
            with pytest.raises(RecipeError, match=f"is a run of another {other} than"):
                bench.train(name, spec, **options)

    def test_are_of_the_files_that_were_brought(self, tmp_path):
        (tmp_path / "run.json").write_text("{}")
        with Took(tmp_path, {"files": {"encoder": "0f"}}).part():
            pass
        with pytest.raises(RecipeError, match="is a run of another files than"):
            Took(tmp_path, {"files": {"encoder": "1f"}})
        assert Took(tmp_path, {"files": {}}).finished  # it is measured without them

    def test_stand_on_those_below(self, bench):
        below = bench.train("below", "8x8x1/fc4(hidden=[4])")
        on = f"{at(below.folder)}/fc2(hidden=[4])"
        first = bench.train("on", on)
        assert bench.train("on", on).seconds == first.seconds
        shutil.rmtree(below.folder)
        bench.train("below", "8x8x1/fc4(hidden=[4])", lr=1e-4)
        with pytest.raises(RecipeError, match="is a run of another levels below than"):
            bench.train("on", on)

    def test_have_places_within_the_folder(self, bench):
        assert [bench.place(name).relative_to(bench.folder).as_posix() for name in ("../../x", "β = 4", "rate-0.001")] \
            == ["runs/x", "runs/β-4", "runs/rate-0.001"]  # fmt: skip
        with pytest.raises(RecipeError, match="has no letter or digit"):
            bench.place("..")

    def test_that_are_interrupted_have_taken_both_parts(self, tmp_path):
        (tmp_path / "run.json").write_text("{}")
        for end in (KeyboardInterrupt, None):
            took = Took(tmp_path, {"steps": 3})
            before = took.seconds
            with suppress(KeyboardInterrupt), took.part():
                time.sleep(0.02)
                if end:
                    raise end
            kept = Took(tmp_path, {"steps": 3})
            assert kept.seconds == took.seconds >= before + 0.02
            assert kept.finished == finished(tmp_path) == (end is None)

    def test_that_were_not_begun_leave_nothing(self, bench):
        with pytest.raises(RegistryError, match="no plugin offers"):
            bench.train("wrong", "8x8x1/nothing")
        assert not bench.place("wrong").exists()
        bench.train("wrong", "8x8x1/fc2(hidden=[4])")


def test_an_error_is_that_of_the_whole_test_set(recipe, tmp_path):
    bench = Bench(experiments.read(recipe), "sample", tmp_path / "out", progress=False)
    stack = zoo.build("8x8x1/conv4x4x2(width=4, blocks=0)")
    x = images("sample", (1, 8, 8), split="test").batch(slice(0, 1000))
    with torch.inference_mode():
        expected = (stack(x) - x).square().mean().item()
    assert bench.error(stack) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("progressive", {"settings": {"elsewhere": "nowhere"}}),
        ("transfer", {"stacks": {"nowhere in few": "16x16x1/fc4"}}),
        ("modern-practice", {"settings": {"sets": {"sample": {}, "nowhere": {}}}}),
    ],
)
def test_other_images_that_are_not_there_are_missed_before_anything_is_trained(name, change, tmp_path):
    recipe = experiments.read(name, quick=True)
    settings = recipe.settings | change.get("settings", {})
    recipe = replace(recipe, data="sample", settings=settings, stacks=change.get("stacks", recipe.stacks))
    with pytest.raises(DataError, match="no data at 'nowhere'"):
        experiments.reproduce(recipe, out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "runs").exists()


def test_without_a_name_the_recipes_are_listed():
    found = CliRunner().invoke(main, ["reproduce"])
    assert found.exit_code == 0
    assert [line.split()[0] for line in found.output.splitlines()] == experiments.names()


# -- pages -----------------------------------------------------------------------------------------------------------


def test_a_page_of_a_quick_run_judges_nothing(tmp_path):
    page = Page("Title", tmp_path, {}, judging=False)
    page.claim("it is so", True, "look")
    assert page.claims[0].verdict == "open"
    assert "**open**" in page.markdown()


def test_cells():
    found = [written(value) for value in (None, float("nan"), True, 12345, 0.000123456, "a|b")]
    assert found == ["-", "-", "yes", "12,345", "0.0001235", "a\\|b"]


# -- the judge -------------------------------------------------------------------------------------------------------


def test_a_classifier_learns_is_kept_and_judges(tmp_path):
    train, test = (images("sample", (1, 28, 28), split=split) for split in ("train", "test"))
    few = train.subset(slice(0, 2000))
    made = classifier.train(few, test.subset(slice(0, 300)))
    assert made.accuracy > 0.5  # ten classes
    made.save(tmp_path / "judge.safetensors")
    again = classifier.load(tmp_path / "judge.safetensors")
    x = test.batch(slice(0, 50))
    assert torch.equal(made.labels(x), again.labels(x))
    assert again.accuracy == made.accuracy
    features = again.network("judge").features(x)
    assert features.shape == (50, 96)
    assert again.network("judge").sha256 == made.network("judge").sha256


def test_what_no_classifier_learns_from(tmp_path):
    blank = images(torch.zeros(8, 1, 8, 8), (1, 8, 8))
    with pytest.raises(EvaluationError, match="has no labels"):
        classifier.train(blank, blank)
    path = zoo.build("8x8x1/fc2").save(tmp_path / "stack")
    with pytest.raises(EvaluationError, match="holds no classifier"):
        classifier.load(next(path.glob("*.safetensors")))
