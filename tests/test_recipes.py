"""Recipes: each reads, and each is carried out in its quick form; a page says what came out; a folder goes on."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import zoo
from zoo import experiments
from zoo.cli import main
from zoo.data import images
from zoo.errors import DataError, EvaluationError, RecipeError
from zoo.evaluation import classifier
from zoo.experiments.bench import Bench
from zoo.experiments.page import Page, written
from zoo.experiments.reproducing import EXPERIMENTS

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
    ],
)
def test_a_recipe_of_another_form(recipe, change, problem):
    recipe.write_text(TINY.replace(*change))
    with pytest.raises(RecipeError, match=problem):
        experiments.read(recipe)


def test_a_recipe_of_ones_own_that_lacks_what_its_experiment_asks_for(recipe):
    recipe.write_text(TINY.replace('"depth"', '"sweep"'))
    with pytest.raises(RecipeError, match="the experiment 'sweep' asks for 'stage'"):
        experiments.reproduce(recipe, out=recipe.parent / "out", progress=False)


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
    assert len(weights) == 9  # of five runs
    again = runner.invoke(main, ["reproduce", str(recipe), "--out", str(out)])
    assert again.exit_code == 0, again.output
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*.safetensors")} == weights
    assert json.loads((out / "report.json").read_text()) == told

    recipe.write_text(TINY.replace("steps = 3", "steps = 4"))
    other = runner.invoke(main, ["reproduce", str(recipe), "--out", str(out)])
    assert other.exit_code == 1
    assert "holds the runs of another recipe" in other.output


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
