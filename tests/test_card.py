"""The model card: metadata that the Hub reads, and text that a person does."""

from __future__ import annotations

import copy
import json
import re

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from loopback.fixtures import REPORT, SPEC

import zoo
from zoo import card, evaluation, files
from zoo.data import NAMES, images
from zoo.hub.pushing import packed


@pytest.fixture(scope="module")
def config():
    stack = zoo.build(SPEC)
    return {"zoo": "1.2.3", **stack.description()}


def front(text):
    """The metadata, as YAML in general and as the Hub's client reads them."""
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("\n---\n")[0]), ModelCard(text, ignore_metadata_errors=False).data


def test_the_metadata_are_real(config):
    metadata, read = front(
        card.render(config, REPORT, source="hf-hub:you/digits", licence="mit", trained_on="fashion_mnist")
    )
    assert metadata["library_name"] == "stackzoo"
    assert metadata["pipeline_tag"] == "image-feature-extraction"
    assert metadata["tags"] == ["autoencoder", "stackzoo", "conv", "fc"]
    assert metadata["license"] == "mit"
    assert metadata["datasets"] == ["fashion_mnist"]  # what it was trained on, not what it was measured on
    assert metadata["metrics"] == ["mse", "mae", "psnr", "knn", "probe"]
    results = {result.metric_type: result for result in read.eval_results}
    assert {kind: result.metric_value for kind, result in results.items()} == {
        "mse": 0.0125, "mae": 0.05, "psnr": 19.5, "knn": 0.5, "probe": 0.75,
    }  # fmt: skip
    assert {result.dataset_name for result in results.values()} == {"digits"}
    assert {result.dataset_split for result in results.values()} == {"test"}
    assert read.model_name == config["spec"]


def test_only_a_public_set_is_named_as_trained_on(config):
    assert {*NAMES} - {"sample"} == card.PUBLIC
    for name in (None, "sample", "holidays", "/home/me/mnist"):
        metadata, _ = front(card.render(config, REPORT, trained_on=name))
        assert "datasets" not in metadata


def test_numbers_on_a_folder_of_somebody_are_no_results(config):
    report = copy.deepcopy(REPORT)
    report["protocol"]["data"]["name"] = "my holidays/2019"
    text = card.render(config, report)
    metadata, _ = front(text)
    assert not metadata.keys() & {"model-index", "metrics"}
    assert "holidays" not in text


def test_the_card_says_what_its_run_learned_from(tmp_path):
    stack = zoo.build("8x8x1/fc2(hidden=[4])")
    run, page = tmp_path / "run.json", tmp_path / "README.md"
    for told, wanted in (
        ('{"data": {"name": "mnist"}}', ["mnist"]), ('{"data": {"name": "photos"}}', None), ('{"data": 3}', None),
        ('{"data": {"name": ["mnist"]}}', None), ("{", None),
    ):  # fmt: skip
        run.write_text(told)
        stack.save(tmp_path, report=REPORT)
        assert front(page.read_text())[0].get("datasets") == wanted
        assert front(packed(tmp_path, "hf-hub:you/x", None).contents["README.md"].decode())[0].get("datasets") == wanted


def test_what_is_not_known_is_left_out(config):
    metadata, read = front(card.render(config, None))
    assert metadata.keys() == {"library_name", "pipeline_tag", "tags"}
    assert read.eval_results is None
    text = card.render(config, None)
    assert "Not yet evaluated" in text
    assert "![" not in text


def test_the_report_of_an_evaluation(config):
    stack = zoo.build("28x28x1/fc2(hidden=[4])+wae_mmd", seed=0)
    few = images("sample", stack.input_shape, split="test").subset(slice(0, 40))
    report = evaluation.evaluate(stack, few, train=few)
    metadata, read = front(card.render({"zoo": "1.2.3", **stack.description()}, report))
    values = {result.metric_type: result.metric_value for result in read.eval_results}
    assert values["mse"] == report["end_to_end"]["mse"]
    assert values["knn"] == report["levels"][-1]["representation"]["knn"]
    assert "datasets" not in metadata  # nobody says what it was trained on
    assert report["summary"] in card.render(config, report)


def test_a_person_reads(config):
    text = card.render(config, REPORT, source='hf-hub:you/"digits"', picture="samples.png")
    assert f"# `{config['spec']}`" in text
    assert "images of 8x8x1, float in [0, 1]" in text
    assert "| 1 | `conv2x2x4(" in text
    assert "4 x 2 x 2" in text
    assert r'stack = zoo.load("hf-hub:you/\"digits\"")' in text
    assert "(B, 1, 8, 8) in [0, 1] -> (B, 2)" in text
    assert "![Images, and what comes back](samples.png)" in text
    assert f"| conv | {config['plugins']['conv']} |" in text
    assert "stackzoo 1.2.3" in text
    assert text.count(card.MARK) == 1


ODD = [
    "---",
    "a: b",
    "'",
    '"',
    "#x",
    "- y",
    "{}",
    "&a",
    "*a",
    "!!python/object",
    "yes",
    "1e3",
    "\n---\n",
    "|",
    "`",
    "``",
]
ODD += ["\u2028", "\x85", "\x07", "\U0001f600", "%", "@", "\t"]


@pytest.mark.parametrize("odd", ODD)
def test_odd_letters_stay_where_they_are(config, odd):
    _check_odd(config, odd)


@given(st.text(max_size=30))
def test_any_letters_stay_where_they_are(text):
    _check_odd({"zoo": "1.2.3", **zoo.build("8x8x1/fc2(hidden=[4])").description()}, text)


def _check_odd(config, odd):
    config = copy.deepcopy(config)
    config["spec"] = config["levels"][0]["spec"] = f"conv{odd}"
    report = copy.deepcopy(REPORT)
    for name in ("a", odd):
        report["protocol"]["data"] = {"name": name, "split": odd}
        text = card.render(config, report, licence=odd)
        metadata = yaml.safe_load(text.split("\n---\n")[0])
        assert metadata["license"] == odd
        assert ("model-index" in metadata) is (re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII) is not None)
        for model in metadata.get("model-index", []):
            assert model["name"] == f"conv{odd}"
            assert model["results"][0]["dataset"] == {"type": name, "name": name, "split": odd}
        assert text.encode()
        title = next(line for line in text.splitlines() if line.startswith("# "))
        assert "conv" in title


@pytest.mark.parametrize(
    "report",
    [{}, {"protocol": None}, {"protocol": {"data": {"name": 3}}}, {"levels": 3}, {**REPORT, "end_to_end": [1]}],
)
def test_reports_of_another_form(config, report):
    front(card.render(config, report))


def test_a_card_without_its_mark_is_its_owners(tmp_path):
    """Its text says so; saving, evaluating and pushing keep to it."""
    stack = zoo.build("8x8x1/fc2(hidden=[8])")
    stack.save(tmp_path)
    page = tmp_path / "README.md"
    mine = page.read_text("utf-8").replace(card.MARK, "Mine, of Tuesday.").encode() + b"\xff"
    page.write_bytes(mine)
    files.write_report(tmp_path, {"summary": "of the same weights"})
    assert page.read_bytes() == mine
    assert json.loads((tmp_path / "report.json").read_text())["summary"] == "of the same weights"
    zoo.build("8x8x1/fc2(hidden=[8])", seed=1).save(tmp_path)
    assert page.read_bytes() == mine
    page.unlink()
    stack.save(tmp_path)
    assert card.MARK in page.read_text("utf-8")
