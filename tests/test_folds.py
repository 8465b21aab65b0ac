"""Stratified folds: disjoint, whole, even; as scikit-learn's, so as the source's; and how training uses one."""

from __future__ import annotations

import json

import pytest
import torch
from sklearn.model_selection import StratifiedKFold

from zoo import build, fit
from zoo.data import Images, images
from zoo.errors import DataError, TrainingError
from zoo.training import Options
from zoo.training.material import Material


def some(counts: tuple[int, ...] = (20, 30, 50)) -> Images:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    pixels = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4)
    return Images(pixels, labels=labels[order])


def test_parts_are_disjoint_whole_and_of_all_classes():
    shown = some()
    held = []
    for number in range(1, 6):
        kept, part = shown.fold(number, 5, seed=3)
        assert torch.equal(torch.cat([kept, part]).sort().values, torch.arange(100))
        assert shown.labels[part].bincount().tolist() == [4, 6, 10]
        held.append(part)
    assert torch.equal(torch.cat(held).sort().values, torch.arange(100))


def test_they_are_the_source_s():
    sample = images("sample", (1, 28, 28))
    labels = sample.labels.numpy()
    splits = list(StratifiedKFold(n_splits=5, shuffle=True, random_state=42).split(sample.pixels.flatten(1), labels))
    for number in (1, 4):
        kept, held = sample.fold(number, 5, seed=42)
        assert kept.tolist() == splits[number - 1][0].tolist()
        assert held.tolist() == splits[number - 1][1].tolist()
    assert not torch.equal(sample.fold(1, 5, seed=42)[1], sample.fold(1, 5, seed=43)[1])


def test_without_labels_they_are_equal():
    unlabelled = Images(torch.zeros(11, 1, 2, 2, dtype=torch.uint8))
    assert sorted(len(unlabelled.fold(number, 3, seed=0)[1]) for number in (1, 2, 3)) == [3, 4, 4]


@pytest.mark.parametrize(("number", "of"), [(0, 5), (6, 5), (1, 1), (1, 21)])
def test_parts_that_are_none(number, of):
    with pytest.raises(DataError, match="rarest class, 20"):
        some().fold(number, of, seed=0)


def test_the_material_of_a_run():
    shown = some()
    material = Material.of(shown, None, seed=3, fold=Options(fold="2/5").folds)
    kept, held = shown.fold(2, 5, seed=3)
    assert torch.equal(material.places, kept)
    assert torch.equal(material.kept.pixels, shown.pixels[kept])
    assert torch.equal(material.held.pixels, shown.pixels[held])
    with pytest.raises(TrainingError, match="val=, fold="):
        Material.of(shown, shown, seed=3, fold=(2, 5))


def test_it_is_written_down_with_the_milestones_and_resumed(tmp_path):
    options = {"steps": 4, "batch_size": 8, "fold": "1/4", "schedule": "multistep", "milestones": [0.25, 0.5],
               "log_every": 1, "progress": False, "out": tmp_path}  # fmt: skip
    fit(build("4x4x1/fc2(hidden=[4])", seed=0), some(), **options)
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["val"]["count"] == 25
    assert (run["options"]["fold"], run["options"]["milestones"]) == ("1/4", [0.25, 0.5])
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    rates = [line["lr"] for line in lines if "loss" in line]
    assert rates == pytest.approx([1e-3, 1e-4, 1e-5, 1e-5])
    fit(build("4x4x1/fc2(hidden=[4])", seed=0), some(), **options, resume=True)  # the same options, and nothing to do
