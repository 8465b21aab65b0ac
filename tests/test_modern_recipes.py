"""The recipes on recent practice: each row trains, parts of a table, and files that a recipe asks for."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import timm
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from zoo import experiments
from zoo.builder import build
from zoo.cli import main
from zoo.errors import RecipeError
from zoo.evaluation import tuning
from zoo.experiments import claims
from zoo.experiments.bench import Bench
from zoo.experiments.page import Page
from zoo.networks import architectures

ROWS = {
    "baseline": "16x16x3/conv12(network=pooled, width=4)+mse",
    "progressive": "16x16x3/conv12(network=pooled, width=4)+mse",
    "pretrained": '16x16x3/resnet4x4x4(backbone=test_resnet, width=4, blocks=0, weights="{encoder}")+mse',
    "feature loss": '16x16x3/conv12(network=pooled, width=4)+mse+feature(test_resnet, weights="{encoder}")',
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def brought(tmp_path):
    """An encoder, in a path that has to be quoted, and a classifier of ten classes."""
    files = {"encoder": tmp_path / 'an "encoder".safetensors', "judge": tmp_path / "judge.safetensors"}
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), files["encoder"])
    state = architectures.find("resnet8_cifar10").make().state_dict()
    save_file({key: value for key, value in state.items() if "batches" not in key}, files["judge"])
    return files


def modern(**settings):
    """The recipe with its rows, its numbers and its claims, and the least work."""
    recipe = experiments.read("modern-practice")
    sets = {"sample": {"classifiers": ["resnet8_cifar10={judge}"], "reference": "cifar10"}}
    own = {"options": {"progressive": {"progressive": [8]}}, "sets": sets, "images": 300, "held_out": 20, "code": 12}
    return replace(
        recipe, data="sample", stacks=ROWS, training={"steps": 6, "batch_size": 16}, quick=True,
        settings=recipe.settings | own | settings, files={"encoder": "an encoder", "judge": "a classifier"},
    )  # fmt: skip


class TestModernPractice:
    def test_every_row_of_the_real_table_is_a_stack_that_can_be_built(self, tmp_path):
        recipe = experiments.read("modern-practice")
        bench = Bench(recipe, "sample", tmp_path, progress=False, brought={})
        files = {"vgg16": tmp_path / "vgg16.safetensors", "resnet18": tmp_path / "r.safetensors"}
        save_file({"nothing": torch.zeros(1)}, files["resnet18"])
        bench.brought = files
        codes = {}
        for name, spec in recipe.stacks.items():
            assert not bench.missing(spec)
            with torch.device("meta"):
                codes[name] = torch.Size(build(bench.filled(spec)).code_shape).numel()
        assert set(codes.values()) == {1000, 960}
        assert {name for name, count in codes.items() if count < 1000} == {"pretrained, larger map", "all"}
        told = {name for rows in recipe.reference.values() for name in rows} - {"originals"}
        assert told <= set(recipe.stacks)
        assert set(recipe.settings["options"]) <= set(recipe.stacks)

    def test_quick_is_the_same_from_fewer_images_and_counts(self):
        whole, quick = (experiments.read("modern-practice", quick=quick) for quick in (False, True))
        assert (quick.training, quick.stacks, quick.data) == (whole.training, whole.stacks, whole.data)
        assert quick.settings["images"] == 10_000
        assert "images" not in whole.settings

    def test_principal_components_are_of_the_images_that_stacks_learn_from(self, tmp_path):
        bench = Bench(modern(images=100), "sample", tmp_path, progress=False)
        (components,) = bench.components(build("16x16x3/fc4"), [12])
        assert components.inputs == 100 - 20

    def test_all_rows_with_all_files(self, tmp_path, brought):
        page = experiments.reproduce(modern(quick_counts=True), out=tmp_path / "out", brought=brought, progress=False)
        told = json.loads((tmp_path / "out" / "report.json").read_text())
        (rows,) = told["tables"].values()
        names = ["the images themselves", *ROWS, "principal components"]
        assert [row["stack"] for row in rows] == names
        column = "accuracy, resnet8_cifar10"
        assert all(0 <= row[column] <= 1 for row in rows[:-1])
        assert all(0 < row["MSE"] < row["MAE"] < 1 for row in rows[1:])
        assert [row.get("the source's MSE (cifar10)") for row in rows] == [
            None,
            0.004345,
            0.004310,
            0.011385,
            0.004301,
            None,
        ]
        assert rows[0]["the source's accuracy (cifar10)"] == 0.8179
        verdicts = {claim.text.partition(":")[0]: claim.verdict for claim in page.claims}
        assert verdicts["feature loss"] != "open"  # both its claims can be judged
        assert verdicts["pixel shuffle"] == "open"  # it is no row here
        assert (tmp_path / "out" / "sample.png").is_file()
        assert "Left out" not in page.markdown()
        phases = {line["phase"] for line in map(json.loads, (tmp_path / "out/runs/sample-progressive/history.jsonl")
                                                .read_text().splitlines())}  # fmt: skip
        assert phases == {"8x8", "16x16, new layers", "pixels"}

    def test_in_parts_and_without_files(self, tmp_path, brought):
        out = tmp_path / "out"
        judge = {"judge": brought["judge"]}
        page = experiments.reproduce(modern(), out=out, only=["baseline"], brought=judge, progress=False)
        (rows,) = page.tables.values()
        assert [row["stack"] for row in rows[1:-1]] == ["baseline"]
        assert "progressive (not asked for); pretrained (it takes --file encoder=FILE, an encoder)" in page.markdown()
        took = (out / "runs/sample-baseline/took.json").read_text()

        page = experiments.reproduce(modern(), out=out, only=["pretrained"], brought=brought, progress=False)
        (rows,) = page.tables.values()
        assert [row["stack"] for row in rows[1:-1]] == ["baseline", "pretrained"]
        assert (out / "runs/sample-baseline/took.json").read_text() == took

    def test_judged_by_classifiers_of_our_own_that_are_kept(self, tmp_path, brought, monkeypatch):
        monkeypatch.setattr(tuning, "gains", lambda _: False)
        monkeypatch.setattr(tuning, "EPOCHS", 1)
        tuned, out = 'own(test_resnet, weights="{encoder}", mean=0.5)', tmp_path / "out"
        sets = {"sample": {"classifiers": [tuned, "own"]}}
        recipe = replace(modern(sets=sets), stacks={"baseline": ROWS["baseline"]})
        page = experiments.reproduce(recipe, out=out, brought=brought, progress=False)
        (rows,) = page.tables.values()
        for row in rows[:2]:
            assert all(0 < row[f"accuracy, {name}"] <= 1 for name in ("own(test_resnet)", "own"))
        kept = {path.name: path.read_bytes() for path in out.glob("judge-*.safetensors")}
        assert kept.keys() == {"judge-sample-test_resnet.safetensors", "judge-sample.safetensors"}
        monkeypatch.setattr(tuning, "tune", lambda *_, **__: 1 / 0)
        assert experiments.reproduce(recipe, out=out, brought=brought, progress=False).tables == page.tables
        sets = {"sample": {"classifiers": ["own(test_resnet)", tuned]}}
        with pytest.raises(RecipeError, match=r"two of the classifiers .* are called the same"):
            experiments.reproduce(modern(sets=sets), out=tmp_path / "other", brought=brought, progress=False)

    def test_nothing_at_all(self, tmp_path):
        recipe = replace(modern(), stacks={"pretrained": ROWS["pretrained"]})
        page = experiments.reproduce(recipe, out=tmp_path / "out", progress=False)
        assert not page.tables
        assert "Left out on sample: pretrained" in page.markdown()
        assert {claim.verdict for claim in page.claims} == {"open"}


class TestFilesOfARecipe:
    def test_stand_where_their_names_are(self, tmp_path, brought):
        bench = Bench(modern(), "sample", tmp_path / "out", progress=False, brought=brought)
        assert bench.missing("feature({other})") == []
        stack = build(bench.filled(ROWS["pretrained"]))
        weights = timm.create_model("test_resnet").state_dict()
        assert stack.level(1).stage.tune == "all"
        assert weights.keys()
        assert bench.filled("resnet8_cifar10={judge}") == f"resnet8_cifar10={brought['judge']}"

    def test_are_those_that_it_asks_for_and_are_there(self, tmp_path):
        with pytest.raises(RecipeError, match="wants no file called 'encodre'; did you mean 'encoder'"):
            experiments.reproduce(modern(), out=tmp_path / "out", brought={"encodre": "x"}, progress=False)
        with pytest.raises(RecipeError, match="encoder is an encoder, and there is no file"):
            experiments.reproduce(modern(), out=tmp_path / "out", brought={"encoder": tmp_path / "x"}, progress=False)

    def test_from_the_command_line(self, tmp_path):
        runner, out = CliRunner(), ["--out", str(tmp_path / "out")]
        result = runner.invoke(main, ["reproduce", "modern-practice", "--file", "vgg16", *out])
        assert result.exit_code == 2
        assert "a name and a file, as in vgg16=vgg16.safetensors" in result.output
        result = runner.invoke(main, ["reproduce", "modern-practice", "--file", "vgg=a.safetensors", *out])
        assert result.exit_code == 1
        assert "did you mean 'vgg16'" in result.output

    def test_single_stacks_only_where_that_makes_sense(self, tmp_path):
        with pytest.raises(RecipeError, match="has no stack 'base'; "):
            experiments.reproduce(modern(), out=tmp_path / "out", only=["base"], progress=False)
        with pytest.raises(RecipeError, match="compared with each other"):
            experiments.reproduce("transfer", out=tmp_path / "out", only=["cifar10"], progress=False)


def test_progressive_and_plain_at_several_sizes(tmp_path):
    recipe = experiments.read("progressive", quick=True)
    recipe = replace(recipe, settings=recipe.settings | {"seeds": 2, "sizes": [8, 16, 24]}, training={"steps": 6})
    page = experiments.reproduce(recipe, out=tmp_path / "out", progress=False)
    times, sizes = page.tables.values()
    assert [(row["stack"], row["seed"]) for row in times] == [(name, seed) for name in recipe.stacks for seed in (0, 1)]
    assert all(row["MSE, plain"] != row["MSE, progressive"] and row["seconds, progressive"] > 0 for row in times)
    assert [row["trained"] for row in sizes] == ["plain", "progressive"] * 2
    assert all(0 < row[side] < 1 for row in sizes for side in ("8", "16", "24"))
    assert len(page.claims) == 2
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


class TestClaims:
    """What is claimed of a table stands in its recipe."""

    @pytest.mark.parametrize(
        ("claim", "verdict", "evidence"),
        [
            ({"column": "accuracy", "stack": "a", "over": "b", "least": 1.5}, "confirmed", "0.8 and 0.4: 2.000 times"),
            ({"column": "accuracy", "stack": "a", "over": "b", "most": 1.5}, "refuted", "0.8 and 0.4: 2.000 times"),
            ({"column": "MSE", "stack": "a", "most": 0.01}, "confirmed", "0.004"),
            ({"column": "accuracy", "stack": ["b", "a", "c"], "least": 0.5}, "confirmed", "a: 0.8"),
            ({"column": "accuracy", "stack": "a", "over": "c", "least": 1.0}, "open", claims.MISSING),
            ({"column": "accuracy", "stack": "c", "least": 0.5}, "open", claims.MISSING),
            ({"column": "MSE", "stack": ["a", "b"], "most": 0.1}, "confirmed", "b: 0.003"),
            ({"column": "MSE", "stack": "a", "most": 0.1, "data": "cifar10"}, "open", "it is about cifar10"),
            (
                {"column": "MSE", "stack": "a", "most": 0.1, "all": True},
                "open",
                "it takes all training images, and these were 300",
            ),
        ],
    )
    def test_are_judged_by_the_numbers(self, tmp_path, claim, verdict, evidence):
        page, told = Page("Title", tmp_path, {}), {"text": "it is so"} | claim
        rows = {"a": {"accuracy, judge": 0.8, "MSE": 0.004}, "b": {"accuracy, judge": 0.4, "MSE": 0.003}, "c": {}}
        bench = Bench(modern(images=300, claims=[told]), "sample", tmp_path / "out", progress=False)
        claims.judge(page, rows, "judge", bench)
        assert [(one.verdict, one.evidence) for one in page.claims] == [(verdict, evidence)]

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"lest": 1.3}, "there is no 'lest'; did you mean 'least'"),
            ({"least": "1.3"}, "least cannot be '1.3'"),
            ({"column": "MES"}, "there is no column 'MES'; did you mean 'MSE'"),
            ({"stack": "base line"}, "there is no stack 'base line'; did you mean 'baseline'"),
            ({"over": "base"}, "there is no stack 'base'"),
            ({"least": None}, "says neither 'least' nor 'most'"),
            ({"text": None}, "has no 'text'"),
        ],
    )
    def test_that_cannot_be_judged_are_refused_before_anything_is_trained(self, tmp_path, change, problem):
        claim = {"text": "it is so", "column": "MSE", "stack": "baseline", "least": 1.0} | change
        claim = {key: value for key, value in claim.items() if value is not None}
        recipe = replace(modern(claims=[claim]), quick=False)
        with pytest.raises(RecipeError, match=problem):
            experiments.reproduce(recipe, out=tmp_path / "out", progress=False)
        assert not (tmp_path / "out" / "runs").exists()


@pytest.mark.parametrize("name", ["pretrained-encoders", "feature-layers"])
def test_a_recipe_that_is_a_table_of_its_own(tmp_path, name):
    """Its quick form takes no files, and its claims are of stacks that it has."""
    page = experiments.reproduce(experiments.read(name, quick=True), out=tmp_path / "out", progress=False)
    (rows,) = page.tables.values()
    whole = experiments.read(name)
    assert {row["stack"] for row in rows[1:]} < set(whole.stacks)
    assert all(0 < row["MSE"] < 1 for row in rows[1:])
    for claim in whole.settings["claims"]:
        assert {claim["stack"], claim["over"]} <= set(whole.stacks)


def test_as_many_test_images_as_the_recipe_says(tmp_path):
    recipe = modern(tested=100)
    bench = Bench(recipe, "sample", tmp_path / "out", progress=False)
    shown = bench.test(build("28x28x1/fc2(hidden=[4])"))
    assert len(shown) == 100
    assert shown.labels.unique().numel() == 10
