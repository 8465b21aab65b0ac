"""Experiments: recipes whole in their quick form, claims by made-up numbers, and images that cannot tell."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

from zoo import experiments
from zoo.builder import build
from zoo.cli import main
from zoo.data import images
from zoo.errors import EvaluationError, RecipeError
from zoo.evaluation import classifier
from zoo.experiments import flops, modes
from zoo.experiments.bench import Bench
from zoo.experiments.page import Page
from zoo.experiments.parts import SAME, mingled
from zoo.experiments.sweep.claims import Found, judge_claims
from zoo.training import run as runs

KINDS = "ae", "kl", "wae_mmd", "wae_gan"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(classifier, "EPOCHS", 1)
    monkeypatch.setattr(runs, "trackers", lambda **_: [])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Some of the sample's images as a folder of its own, with both parts and all classes."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    for split, each in (("train", 30), ("test", 10)):
        whole = images("sample", (1, 28, 28), split=split)
        for label in range(10):
            (folder / split / f"class {label}").mkdir(parents=True)
            for place in (whole.labels == label).nonzero().flatten()[:each].tolist():
                path = folder / split / f"class {label}" / f"{place}.png"
                Image.fromarray(whole.pixels[place, 0].numpy()).save(path)
    return folder


# -- whole -----------------------------------------------------------------------------------------------------------

SMALLER = {"latent-sweep": {"weights": {"wae_mmd": [0.1]}}, "heads": {"held_out": 20, "minutes": 0.005}}
"""Settings, where a quick run is long beside other tests, or wants more images."""
WHOLE = {
    "latent-sweep": (
        ["Error", "Samples", "Other weights"],
        ["error", "kid", "rows", "samples-2", "samples-3", "codes-2", "codes-3", "between"],
        10,
    ),
    "began-modes": (["A batch", "Ratios", "Loss in images"], ["measures", "samples"], 2),
    "noise": (["Equal budgets"], ["maps", "samples"], 1),
    "heads": (["Equal minutes", "Samples by class"], ["samples", "classes"], 2),
    "transfer": (["Test error"], ["sample"], 1),
}
"""By recipe: its tables, its pictures, and how many claims it judges."""


def smaller(name):
    recipe = experiments.read(name, quick=True)
    return replace(recipe, settings=recipe.settings | SMALLER.get(name, {}))


@pytest.mark.parametrize("name", WHOLE)
def test_a_recipe_in_its_quick_form(name, photos, tmp_path):
    tables, pictures, claims = WHOLE[name]
    page = experiments.reproduce(smaller(name), data=str(photos), out=tmp_path / "out", progress=False)
    assert list(page.tables) == tables
    assert all(page.tables.values())
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} == set(pictures)
    text = (tmp_path / "out" / "report.md").read_text()
    assert all(f"]({picture}.png)" in text for picture in pictures)
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(told["tables"]) == tables
    assert told["warnings"] == []
    assert [claim["verdict"] for claim in told["claims"]] == ["open"] * claims  # it is a quick run


# -- images that cannot tell -----------------------------------------------------------------------------------------


@pytest.fixture
def file(photos, tmp_path):
    """Images in one file, with or without labels."""

    def write(*, labelled):
        shown = images(str(photos), (1, 28, 28), split="train")
        labels = {"labels": shown.labels} if labelled else {}
        save_file({"images": shown.pixels} | labels, tmp_path / "images.safetensors")
        return str(tmp_path / "images.safetensors")

    return write


def by_class():
    """The way of heads that samples by class, alone."""
    recipe, name = smaller("heads"), "flow by class"
    settings = recipe.settings | {"prior": name, "flow": name, "conditional": name}
    return replace(recipe, stacks={name: recipe.stacks[name]}, settings=settings)


class TestOneFile:
    """Its images are not split, so that a stack is measured on those that it learned from."""

    def test_is_told_of_and_no_claim_is_judged(self, file, photos, tmp_path):
        recipe = replace(experiments.read("decoders", quick=True), quick=False)
        split = experiments.reproduce(recipe, data=str(photos), out=tmp_path / "split", progress=False)
        assert "open" not in {claim.verdict for claim in split.claims}
        assert split.warnings == []

        page = experiments.reproduce(recipe, data=file(labelled=False), out=tmp_path / "whole", progress=False)
        assert [claim.text for claim in page.claims] == [claim.text for claim in split.claims]
        assert {claim.verdict for claim in page.claims} == {"open"}
        (warning,) = json.loads((tmp_path / "whole" / "report.json").read_text())["warnings"]
        assert SAME in warning
        title, first, *_ = (tmp_path / "whole" / "report.md").read_text().split("\n\n")
        assert (title, first) == (f"# {recipe.title}", f"**{warning}**")

    def test_is_told_of_by_the_program(self, file, tmp_path):
        words = ["reproduce", "decoders", "--quick", "--data", file(labelled=False), "--out", str(tmp_path / "out")]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
        assert SAME in result.stderr

    def test_has_labels_without_names(self, file, tmp_path):
        page = experiments.reproduce(by_class(), data=file(labelled=True), out=tmp_path / "out", progress=False)
        rows = page.tables["Samples by class"]
        assert [row["class"] for row in rows] == [f"label {label}" for label in range(10)]


def test_test_images_that_are_training_images_too_are_counted(photos, tmp_path):
    whole = images(str(photos), (1, 28, 28), split="train")
    train, test = whole.subset(slice(0, 200)), whole.subset(slice(190, 300))
    assert mingled(train, test).startswith("10 of the test images")
    assert mingled(train, whole.subset(slice(200, 300))) == ""
    assert mingled(whole, whole) == SAME
    page, bench = Page("Title", tmp_path, {"data": "photos"}), Bench(smaller("noise"), None, tmp_path, progress=False)
    page.claim("it is so", True, "look")
    bench.mingled["photos"] = mingled(train, test)
    bench.finish(page)
    assert page.facts["data"].startswith("photos; photos: **10 of the test images")
    assert page.claims[0].verdict == "confirmed"


@pytest.mark.parametrize("name", ["latent-sweep", "noise", "heads", "vlae", "modern-practice"])
def test_without_labels_a_classifier_is_missed_before_anything_is_trained(name, file, tmp_path):
    with pytest.raises(EvaluationError, match="has no labels"):
        experiments.reproduce(name, quick=True, data=file(labelled=False), out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "runs").exists()


def test_classes_of_the_test_part_alone_are_not_sampled(photos, tmp_path):
    """A head knows those that it learned."""
    data = tmp_path / "photos"
    for path in photos.glob("*/*/*.png"):
        if path.parent.name != "class 9" or path.parent.parent.name == "test":
            (data / path.relative_to(photos)).parent.mkdir(parents=True, exist_ok=True)
            (data / path.relative_to(photos)).symlink_to(path)
    page = experiments.reproduce(by_class(), data=str(data), out=tmp_path / "out", progress=False)
    assert [row["class"] for row in page.tables["Samples by class"]] == [f"class {label}" for label in range(9)]


# -- other epochs ----------------------------------------------------------------------------------------------------


class TestEpochs:
    """Of every run, instead of the recipe's."""

    @pytest.fixture
    def recipe(self):
        """Decoders, whose budget is epochs here."""
        return replace(experiments.read("decoders", quick=True), training={"epochs": 1, "batch_size": 100})

    def test_are_taken_told_and_kept(self, recipe, photos, tmp_path):
        def done(**epochs):
            return experiments.reproduce(recipe, data=str(photos), out=tmp_path / "out", progress=False, **epochs)

        page = done(epochs=2)
        assert "--epochs 2" in page.facts["command"]
        assert page.facts["options"].startswith("epochs=2")
        run = next((tmp_path / "out" / "runs").iterdir())
        assert json.loads((run / "run.json").read_text())["options"]["epochs"] == 2
        assert done(epochs=2).facts == page.facts
        for other in ({}, {"epochs": 1}, {"epochs": 3}):
            with pytest.raises(RecipeError, match="or of other epochs"):
                done(**other)

    def test_of_the_recipe_are_what_a_folder_of_before_has(self, recipe, photos, tmp_path):
        told = {"recipe": "decoders", "experiment": "decoders", "data": str(photos), "quick": True}
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "recipe.json").write_text(json.dumps(told))
        page = experiments.reproduce(recipe, data=str(photos), out=tmp_path / "out", epochs=1, progress=False)
        assert "--epochs" not in page.facts["command"]
        assert json.loads((tmp_path / "out" / "recipe.json").read_text()) == told

    @pytest.mark.parametrize(
        ("name", "epochs", "quick", "problem"),
        [
            ("transfer", 2, False, "transfer trains for steps, not for epochs: leave epochs=2 "),
            ("pretrained-encoders", 2, False, "trains for minutes, not for epochs"),
            ("heads", 2, False, "heads trains for what its settings say, not for epochs"),
            ("noise", 2, True, "noise --quick trains for steps, not for epochs"),
            ("modern-practice", 0, False, "a run takes at least one epoch, not 0"),
        ],
    )
    def test_that_no_run_could_take(self, name, epochs, quick, problem, tmp_path):
        with pytest.raises(RecipeError, match=problem):
            experiments.reproduce(name, epochs=epochs, quick=quick, out=tmp_path / "out", progress=False)
        assert not (tmp_path / "out").exists()

    def test_from_the_command_line(self, tmp_path):
        words = ["reproduce", "transfer", "--out", str(tmp_path / "out"), "--epochs"]
        assert "is not in the range x>=1" in CliRunner().invoke(main, [*words, "0"]).output
        assert "trains for steps, not for epochs" in CliRunner().invoke(main, [*words, "5"]).output


# -- what is judged --------------------------------------------------------------------------------------------------


SIZES = (2, 8, 21)
VARIED = {
    "the plain kind has the lowest error": {"errors": {("ae", 21): 0.0215}},
    "the variational kind has a lower error": {"errors": {("kl", 2): 0.05, ("kl", 21): 0.025}},
    "the error falls with the size": {"errors": {("wae_gan", 21): 0.05}},
    "the Wasserstein kind is behind as its weight": {"weighed": {("wae_mmd", 8, 0.1): 0.036}},
    "samples of the plain kind are mostly noise": {"kids": {("wae_gan", 8): {"KID": 0.11}}},
    "samples of the variational and the Wasserstein kind": {"kids": {("wae_mmd", 8): {"KID": 0.05}}},
    "21 numbers leave holes": {"kids": {("wae_gan", 21): {"KID": 0.08}}},
    "the Wasserstein kind is simpler": {"parameters": {("wae_mmd", 8): 1200}},
    "ours: a plain kind at least 20 % under PCA": {"components": {8: 0.037}},
    "ours: twice the steps gain less than 5 %": {"doubled": {"kl": 0.029}},
}
"""How a claim of the sweep begins, and of which numbers it alone is not so."""


class TestClaimsOfTheSweep:
    """By numbers of which each claim is so, and of which it is not."""

    def found(self, **changes):
        """Numbers of which every claim is so, but for some."""
        errors = {(kind, size): (40 + place) / 1000 - number / 100
                  for place, kind in enumerate(KINDS) for number, size in enumerate(SIZES)}  # fmt: skip
        best = {2: 0.15, 8: 0.09, 21: 0.12}
        kids = {(kind, size): {"KID": best[size]} for kind in KINDS[1:] for size in SIZES}
        kids |= {("ae", size): {"KID": 0.2} for size in SIZES}
        kids |= {("ae, what comes back", size): {"KID": 0.05} for size in SIZES}
        numbers = {
            "errors": errors,
            "weighed": {("wae_mmd", size, 0.1): errors["kl", size] - 0.0005 for size in SIZES},
            "doubled": {kind: errors[kind, 8] * 0.96 for kind in KINDS},
            "components": {2: 0.06, 8: 0.05, 21: 0.001},
            "kids": kids,
            "parameters": {(kind, size): 1100 if kind == "kl" else 1000 for kind in KINDS for size in SIZES},
            "seconds": {(kind, size): 1.05 if kind == "wae_mmd" else 1.0 for kind in KINDS for size in SIZES},
        }
        return Found(**{name: values | changes.get(name, {}) for name, values in numbers.items()})

    def judged(self, tmp_path, **changes):
        recipe = experiments.read("latent-sweep")
        recipe = replace(recipe, settings=recipe.settings | {"sizes": list(SIZES)})
        page = Page("Title", tmp_path, {})
        judge_claims(page, recipe, self.found(**changes))
        return {claim.text: claim for claim in page.claims}

    def test_all_can_be_confirmed(self, tmp_path):
        claims = self.judged(tmp_path)
        assert {claim.verdict for claim in claims.values()} == {"confirmed"}
        assert len(claims) == len(VARIED)

    @pytest.mark.parametrize("start", VARIED)
    def test_each_can_be_refuted_alone(self, start, tmp_path):
        claims = self.judged(tmp_path, **VARIED[start])
        (refuted,) = [text for text, claim in claims.items() if claim.verdict == "refuted"]
        assert refuted.startswith(start)

    def test_a_slow_step_is_not_simple(self, tmp_path):
        slow = {("wae_mmd", size): 1.2 for size in SIZES}
        claims = self.judged(tmp_path, seconds=slow)
        (claim,) = [claim for text, claim in claims.items() if "is simpler" in text]
        assert (claim.verdict, claim.evidence) == (
            "refuted",
            "1,000 and 1,100 parameters at 8 numbers, 1.20 times the time of a step",
        )

    def test_a_kind_that_is_not_behind_wants_no_other_weight(self, tmp_path):
        claims = self.judged(tmp_path, errors={("kl", size): 0.05 - size / 1000 for size in SIZES})
        (claim,) = [claim for text, claim in claims.items() if "is behind as its weight" in text]
        assert (claim.verdict, claim.evidence) == ("open", "it is not behind where other weights were tried")


class TestRatiosOfModes:
    """Of times, beside those of operations."""

    @pytest.mark.parametrize(
        ("seconds", "verdict", "evidence"),
        [
            ({"full": 40.0, "pixels": 10.0, "codes": 1.0}, "confirmed", "full / pixels: 1.00"),
            ({"full": 40.0, "pixels": 10.0, "codes": 2.0}, "refuted", "pixels / codes: 0.50"),
        ],
    )
    def test_are_judged_by_the_worst(self, seconds, verdict, evidence, tmp_path):
        page, recipe = Page("Title", tmp_path, {}), experiments.read("began-modes")
        modes._compare(page, recipe, seconds, {"full": 4000, "pixels": 1000, "codes": 100})
        assert [(claim.verdict, claim.evidence) for claim in page.claims] == [(verdict, evidence)]
        rows = {row["ratio"]: row for row in page.tables["Ratios"]}
        assert rows["full / pixels"]["the source's time"] == 3.0
        assert rows["full / codes"]["FLOP"] == 40


def test_operations_of_a_step_are_those_of_its_players():
    stack = build("8x8x1/fc4(hidden=[8])/began(width=4, mode=codes)")
    x = torch.rand(6, 1, 8, 8)
    before = {name: weight.clone() for name, weight in stack.named_parameters()}
    codes, pixels = (flops.of_head(stack, x, where) for where in ("codes", "pixels"))
    assert codes == 2 * flops.of_head(stack, x[:3], "codes") > 0
    stage = sum(2 * len(x) * weight.numel() for weight in stack.level(1).stage.parameters() if weight.ndim == 2)
    assert pixels > codes + stage
    assert all(torch.equal(before[name], weight) for name, weight in stack.named_parameters())
    assert all(weight.requires_grad for weight in stack.parameters())
