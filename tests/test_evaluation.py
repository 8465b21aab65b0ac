"""Reports: what is in them, and that it is right for stacks whose numbers are known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ramps import linear_stack, some_images
from sklearn.decomposition import PCA

import zoo
from zoo.data import Images
from zoo.errors import EvaluationError
from zoo.evaluation import evaluate, markdown, measure, protocol
from zoo.evaluation import table as plain

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def train() -> Images:
    return some_images(160, seed=1)


@pytest.fixture(scope="module")
def held_out() -> Images:
    return some_images(40, seed=2)


@pytest.fixture(scope="module")
def report(train: Images, held_out: Images) -> dict[str, Any]:
    return evaluate(linear_stack(train, logvar=True), held_out, train=train, batch_size=16)


def test_values_that_are_not_finite_are_refused(train: Images, held_out: Images) -> None:
    with pytest.raises(EvaluationError, match="NaN or infinities"):
        evaluate(linear_stack(train, broken=True), held_out, train=train)


def test_infinities_are_no_images(train: Images, held_out: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clamp would make white of them."""
    stack = linear_stack(train)
    endless = torch.full((1, 1, 12, 12), math.inf)
    monkeypatch.setattr(stack.level(1).stage, "decode", lambda z: endless.expand(len(z), -1, -1, -1))
    with pytest.raises(EvaluationError, match="NaN or infinities"):
        evaluate(stack, held_out, train=train)


@pytest.fixture
def hasty() -> Iterator[None]:
    """Matrix products are computed in low precision meanwhile, where a device has one."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("hasty")
def test_matrix_products_are_measured_in_full_precision(train: Images) -> None:
    with protocol.measuring(linear_stack(train)):
        assert torch.backends.cuda.matmul.fp32_precision == torch.backends.mkldnn.matmul.fp32_precision == "ieee"
    assert torch.get_float32_matmul_precision() == "medium"


def test_a_stack_of_components_measures_what_the_components_beside_it_do(report: dict[str, Any]) -> None:
    first, second = report["levels"]
    for name in ("mse", "mae", "psnr", "ssim"):
        assert first["reconstruction"][name] == pytest.approx(first["pca"][name], rel=1e-3)
    assert first["pca"]["of"] == "patches of 4x4"
    assert second["pca"]["of"] == "whole inputs"
    assert second["codes"]["mse"] == pytest.approx(second["codes"]["pca"]["mse"], rel=1e-3)
    assert second["codes"]["mse"] < second["codes"]["variance"]
    assert report["end_to_end"] == second["reconstruction"]
    assert second["pca"]["mse"] <= second["pca"]["mse_unclamped"]


def test_components_are_fitted_on_training_images_only(train: Images, held_out: Images, report: dict[str, Any]) -> None:
    x, x_test = (images.batch(slice(0, len(images))).flatten(1).numpy() for images in (train, held_out))
    model = PCA(3).fit(x)
    expected = np.mean((model.inverse_transform(model.transform(x_test)) - x_test) ** 2)
    assert report["levels"][1]["pca"]["mse_unclamped"] == pytest.approx(expected, rel=1e-3)
    assert report["protocol"]["train"]["fitted_on"] == 160


def test_compression_counts_numbers_and_bytes(report: dict[str, Any]) -> None:
    first, second = report["levels"]
    assert (first["numbers_in"], first["numbers_out"], second["numbers_out"]) == (144, 45, 3)
    assert [first["compression"][kind]["bytes"] for kind in ("float16", "uint8")] == [90, 45]
    exact = first["reconstruction"]["mse"]
    assert first["compression"]["float16"]["mse"] == pytest.approx(exact, rel=1e-3)
    assert exact < first["compression"]["uint8"]["mse"] < exact + 1e-3


def test_a_report_is_json_and_records_its_protocol(report: dict[str, Any], held_out: Images) -> None:
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    protocol = report["protocol"]
    assert protocol["data"]["count"] == 40
    assert protocol["data"]["fingerprint"] == held_out.fingerprint
    assert protocol["preprocessing"]["size"] == [12, 12, 1]
    assert {"zoo", "python", "torch", "torchvision", "scikit-learn", "torchmetrics"} <= protocol["versions"].keys()
    assert (protocol["stack"], protocol["seed"], report["notes"]) == ("patches/top", 0, [])
    assert min(report["throughput"][way] for way in ("encode", "decode")) > 0
    assert report["levels"][1]["representation"]["knn"] > 0.9


def test_the_same_seed_gives_the_same_report(train: Images, held_out: Images, report: dict[str, Any]) -> None:
    stack = linear_stack(train, logvar=True).train()
    stack.levels[0].eval()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = evaluate(stack, held_out, train=train, batch_size=16)
    assert torch.equal(torch.get_rng_state(), state)
    assert [stack.training, stack.levels[0].training, stack.levels[1].training] == [True, False, True]
    for part in ("protocol", "levels", "end_to_end"):
        assert again[part] == report[part]
    other = evaluate(stack, held_out, train=train, batch_size=16, seed=1)
    assert other["levels"][1]["prior"] != report["levels"][1]["prior"]
    assert other["end_to_end"] == report["end_to_end"]


def test_images_without_labels_say_why_nothing_is_classified(train: Images) -> None:
    unlabelled = some_images(20, labelled=False)
    found = evaluate(linear_stack(train), unlabelled, train=train)["levels"][0]
    assert found["representation"] == found["pca_representation"] == {"skipped": "the images have no labels"}


def test_labels_of_other_classes_are_not_compared(train: Images, held_out: Images) -> None:
    found = evaluate(linear_stack(train), replace(held_out, classes=("cat", "dog")), train=train)["levels"][0]
    assert "other classes" in found["representation"]["skipped"]


def test_images_that_are_measured_and_fitted_on_are_noted(held_out: Images) -> None:
    (note,) = evaluate(linear_stack(held_out), held_out)["notes"]
    assert "give training images with --train (train=)" in note


def test_measured_images_that_are_fitted_on_among_others_are_counted(train: Images, held_out: Images) -> None:
    mixed = Images(torch.cat([held_out.pixels, train.pixels[:25]]), name="mixed")
    assert protocol.overlap(train, mixed) == 25
    (note,) = evaluate(linear_stack(train), mixed, train=train)["notes"]
    assert note.startswith("25 of the 65 images that are measured are training images too")
    assert "--train (train=)" in note


def test_a_batch_holds_an_image(held_out: Images) -> None:
    with pytest.raises(EvaluationError, match="batch_size=0"):
        evaluate(linear_stack(held_out), held_out, batch_size=0)


def test_a_built_stack_is_measured_from_top_to_bottom(train: Images, held_out: Images, tmp_path) -> None:
    stack = zoo.build("12x12x1/conv3x3x4/fc3+kl")
    found = evaluate(stack, held_out, train=train)
    assert [level["spec"] for level in found["levels"]] == ["conv3x3x4", "fc3+kl"]
    assert found["levels"][1]["prior"]["of"] == 3
    with torch.inference_mode():
        x = held_out.batch(slice(0, 40))
        expected = (stack.decode(stack.encode(x)) - x).square().mean().item()
    assert found["end_to_end"]["mse"] == pytest.approx(expected, rel=1e-4)
    stack.save(tmp_path, report=found)
    assert zoo.load(tmp_path).report == found
    assert "| level 2: fc3+kl | 3 |" in (tmp_path / "README.md").read_text()


def test_numbers_that_are_none_are_noted() -> None:
    found = measure._finite({"a": {"b": [1.0, float("nan")]}, "c": 0.12345678, "d": 7, "e": True})
    assert found == {"a": {"b": [1.0, None]}, "c": 0.123457, "d": 7, "e": True, "notes": ["a.b.1 came out as nan"]}


def test_the_table_holds_the_numbers_with_the_yardstick_beside(report: dict[str, Any]) -> None:
    lines = plain(report).splitlines()
    assert lines[0] == "patches/top on ramps, test: 40 images of 12x12x1"
    (row,) = (line.split() for line in lines if line.startswith("level 2: top"))
    assert row[3] == "3"
    assert float(row[4]) == pytest.approx(report["end_to_end"]["mse"], rel=0.01)
    assert float(row[-2]) == pytest.approx(report["levels"][1]["representation"]["knn"], abs=1e-3)
    beside = lines[next(place for place, line in enumerate(lines) if line.startswith("level 2: top")) + 1]
    assert beside.strip().startswith("PCA of whole inputs")
    assert any(line.startswith("level 1 as uint8") for line in lines)
    assert max(map(len, lines)) <= 120
    assert report["summary"] == markdown(report)
    assert report["summary"].count("|---|") == 3


def test_a_report_of_another_form_is_refused_in_words() -> None:
    with pytest.raises(EvaluationError, match="evaluate again"):
        plain({"protocol": {"stack": "fc8"}, "levels": []})
