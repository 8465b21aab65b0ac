"""Embeddings compared: every number against scikit-learn, on vectors that are small enough to be sure of."""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ramps import some_images
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from zoo import data, evaluation, experiments
from zoo.builder import build
from zoo.errors import EvaluationError, FileError
from zoo.evaluation import comparison, embeddings, neighbours, pca, representation, structure
from zoo.pictures import codes
from zoo.pictures.densities import CELLS, density

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.stack import Stack


def blobs(each: int, *, classes: int = 3, apart: float = 2.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of four numbers in clouds that overlap a little, in random order."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes * each)[torch.randperm(classes * each, generator=generator)] % classes
    middles = apart * torch.randn(classes, 4, generator=torch.Generator().manual_seed(1))
    return middles[labels] + torch.randn(len(labels), 4, generator=generator), labels


def prepared(spec: str, seed: int = 0) -> Stack:
    """A stack whose linear path has seen images: not trained, but its codes say something."""
    stack = build(spec, seed=seed)
    stack.level(1).prepare(some_images(100, seed=9).batch(slice(0, 100)))
    return stack.eval()


# -- neighbours ------------------------------------------------------------------------------------------------------


def test_votes_are_those_of_scikit_learn() -> None:
    z, labels = (tensor.numpy() for tensor in blobs(30, apart=1.0))
    asked = np.concatenate([z[:5], z[:20] + 0.3])  # the first are at no distance
    for count in (1, 5, 25):
        model = KNeighborsClassifier(count, weights="distance", algorithm="brute").fit(z, labels)
        distances, places = model.kneighbors(asked)
        assert (neighbours.voted(labels[places], distances) == model.predict(asked)).all()


def test_equal_votes_go_to_the_lowest_label_and_duplicates_outvote_all_others() -> None:
    assert neighbours.voted(np.array([[4, 2, 7]]), np.ones((1, 3))).tolist() == [2]
    assert neighbours.voted(np.array([[1, 5, 5]]), np.array([[0, 1e-9, 1e-9]])).tolist() == [1]


def test_folds_are_those_of_scikit_learn() -> None:
    z, labels = blobs(60)
    found = neighbours.cross_validated(z, labels, seed=3)
    assert [*found] == [50]
    assert [*found[50]] == [1, 5, 10, 25, 50]
    index = neighbours.balanced(labels, 50, seed=3)
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    for count, accuracy in found[50].items():
        model = KNeighborsClassifier(count, weights="distance", algorithm="brute")
        scores = cross_val_score(model, z[index].numpy(), labels[index].numpy(), cv=folds)
        assert accuracy == pytest.approx(scores.mean())


def test_the_test_number_is_the_mean_of_draws_with_equal_votes_at_the_best_number_of_neighbours() -> None:
    train, test = blobs(60), blobs(20, seed=5)
    validated = {20: {1: 0.9, 5: 0.8}, 50: {1: 0.7, 5: 0.8, 10: 0.8}, 1000: {25: 1.0}}
    found = neighbours.tested(train, test, validated, seed=0)
    assert (found["per_class"], found["neighbours"]) == (50, 5)
    shares = []
    for draw in range(neighbours.DRAWS):
        index = neighbours.balanced(train[1], 50, seed=draw)
        model = KNeighborsClassifier(5).fit(train[0][index].numpy(), train[1][index].numpy())
        shares.append(model.score(test[0].numpy(), test[1].numpy()))
    assert found["accuracy"] == pytest.approx(statistics.mean(shares))
    assert found["deviation"] == pytest.approx(statistics.stdev(shares))


def test_draws_take_as_many_of_every_class_and_larger_ones_hold_the_smaller() -> None:
    labels = blobs(40)[1]
    few, many = (neighbours.balanced(labels, size, seed=0) for size in (5, 30))
    assert labels[few].bincount().tolist() == [5, 5, 5]
    assert labels[many].bincount().tolist() == [30, 30, 30]
    assert set(few.tolist()) < set(many.tolist())
    assert not torch.equal(few, neighbours.balanced(labels, 5, seed=1))


@pytest.mark.parametrize(("counts", "wanted"), [((60, 700), [50]), ((600, 700), [50, 100, 500]), ((6, 9), [6])])
def test_sizes_are_those_that_the_rarest_class_has(counts: tuple[int, ...], wanted: list[int]) -> None:
    assert neighbours.sizes(torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))) == wanted


@pytest.mark.parametrize("labels", [torch.zeros(50, dtype=torch.int64), torch.tensor([0, 0, 0, 0, 0, 1])])
def test_too_few_to_tell_apart(labels: torch.Tensor) -> None:
    with pytest.raises(EvaluationError, match="too few to tell apart"):
        neighbours.sizes(labels)


# -- structure -------------------------------------------------------------------------------------------------------


def test_clusters_silhouette_and_trust_are_those_of_scikit_learn() -> None:
    z, labels = blobs(40)
    x = torch.cat([z, torch.randn(len(z), 3, generator=torch.Generator().manual_seed(2))], 1)
    guess = KMeans(3, n_init=structure.STARTS, random_state=0).fit_predict(z.numpy())
    assert structure.clusters(z, labels, seed=0) == pytest.approx(
        {"nmi": normalized_mutual_info_score(labels, guess), "ari": adjusted_rand_score(labels, guess)}
    )
    assert structure.silhouette(z, labels, seed=0) == pytest.approx(
        silhouette_score(z.numpy(), labels.numpy()), abs=1e-6
    )
    assert structure.trust(x, z, seed=0) == pytest.approx(trustworthiness(x.numpy(), z.numpy(), n_neighbors=5))
    assert structure.trust(x, x, seed=0) == 1


def test_what_is_known_of_clusters_that_are_far_apart_and_of_labels_that_mean_nothing() -> None:
    z, labels = blobs(40, apart=50.0)
    assert structure.clusters(z, labels, seed=0) == pytest.approx({"nmi": 1, "ari": 1})
    assert structure.silhouette(z, labels, seed=0) > 0.9
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    assert structure.clusters(z, shuffled, seed=0)["ari"] == pytest.approx(0, abs=0.05)
    assert structure.silhouette(z, shuffled, seed=0) < 0.1


def test_pairs_are_looked_at_among_few(monkeypatch: pytest.MonkeyPatch) -> None:
    z, labels = blobs(40)
    monkeypatch.setattr(structure, "SAMPLED", 50)
    index = structure.sampled(len(z), seed=4)
    assert len(index) == 50
    assert structure.silhouette(z, labels, seed=4) == pytest.approx(
        silhouette_score(z[index].numpy(), labels[index].numpy()), abs=1e-6
    )


def test_what_has_no_structure_says_so() -> None:
    z = torch.randn(8, 2)
    with pytest.raises(EvaluationError, match="too few to speak"):
        structure.trust(z, z, seed=0)
    with pytest.raises(EvaluationError, match="1 classes have no silhouette"):
        structure.silhouette(z, torch.zeros(8, dtype=torch.int64), seed=0)


# -- embeddings ------------------------------------------------------------------------------------------------------


def test_components_are_fitted_on_training_vectors() -> None:
    x, x_test = blobs(40)[0], blobs(10, seed=2)[0]
    z, z_test = embeddings.components(x, x_test, 2, seed=0)
    model = PCA(2).fit(x.numpy())
    for ours, theirs in ((z, model.transform(x.numpy())), (z_test, model.transform(x_test.numpy()))):
        np.testing.assert_allclose(np.abs(ours.numpy()), np.abs(theirs), atol=1e-4)


def test_projections_nearly_keep_distances() -> None:
    x = torch.randn(20, 500, generator=torch.Generator().manual_seed(0))
    z, z_test = embeddings.projected(x, x[:3], 300, seed=0)
    assert torch.allclose(z[:3], z_test, atol=1e-5)
    ratio = torch.pdist(z) / torch.pdist(x)
    assert 0.8 < ratio.min() < 1 < ratio.max() < 1.2


class FakeUmap:
    """Keeps what it was asked for; its training vectors are told from those that were transformed."""

    def __init__(self, **options: Any) -> None:
        FakeUmap.options = options

    def fit_transform(self, x: np.ndarray) -> np.ndarray:
        return np.zeros((len(x), FakeUmap.options["n_components"]))

    def transform(self, x: np.ndarray) -> np.ndarray:
        return np.ones((len(x), FakeUmap.options["n_components"]))


def test_umap_puts_test_images_into_what_it_learned_from_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=FakeUmap))
    train, test = embeddings.umap(torch.rand(9, 4), torch.rand(5, 4), 3, seed=7)
    assert (train.shape, test.shape) == ((9, 3), (5, 3))
    assert (train.max(), test.min()) == (0, 1)
    wanted = {"n_components": 3, "random_state": 7, "n_neighbors": 5, "min_dist": 0.1, "init": "random"}
    assert FakeUmap.options.items() >= wanted.items()


def test_umap_itself_where_it_is_installed() -> None:
    pytest.importorskip("umap", reason="the extra 'umap' is not installed")
    x, labels = blobs(40, apart=20.0)
    train, test = embeddings.umap(x, x[:30], 2, seed=0)
    assert representation.classify((train, labels), (test, labels[:30]), seed=0)["knn"] > 0.9


# -- the whole -------------------------------------------------------------------------------------------------------


@pytest.fixture
def ramps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images with a training and a test part, of which the tests can be sure; and no UMAP, installed or not."""
    monkeypatch.setitem(sys.modules, "umap", None)

    def images(name: str, shape: tuple[int, ...], *, split: str) -> data.Images:
        count, seed = (120, 1) if split == "train" else (60, 2)
        size = shape[-1]
        return some_images(count, seed=seed, size=size, channels=shape[0], labelled=name == "ramps")

    monkeypatch.setattr(comparison, "images", images)


STACKS = {"three": "12x12x1/fc3", "map": "12x12x1/conv3x3x2(width=4, blocks=0)"}


@pytest.mark.usefixtures("ramps")
def test_every_embedding_is_measured_in_the_same_way() -> None:
    stacks = {name: prepared(spec) for name, spec in STACKS.items()}
    found = evaluation.compare(stacks, "ramps", most=100)
    rows = {row.name: row for row in found.rows}
    assert {name: row.numbers for name, row in rows.items()} == {
        "pixels": 144, "random projection to 3": 3, "PCA to 3": 3, "random projection to 18": 18, "PCA to 18": 18,
        "UMAP to 3": 3, "three": 3, "map": 18,
    }  # fmt: skip
    assert (len(found.train), len(found.test)) == (100, 60)
    assert found.train.labels.bincount().tolist() == [50, 50]
    x, x_test = (shown.batch(slice(0, len(shown))) for shown in (found.train, found.test))
    with torch.inference_mode():
        z, z_test = (stacks["three"].encode(images) for images in (x, x_test))
    assert torch.allclose(rows["three"].test, z_test, atol=1e-5)
    measured = rows["three"].found
    assert measured["validated"] == neighbours.cross_validated(z, found.train.labels, seed=0)
    assert measured["knn"]["accuracy"] > 0.9
    assert measured["probe"] == representation.probe((z, found.train.labels), (z_test, found.test.labels))["probe"]
    assert measured["trust"] == pytest.approx(structure.trust(x_test.flatten(1), z_test, seed=0), abs=1e-3)
    assert rows["pixels"].found["trust"] == 1
    assert rows["UMAP to 3"].test is None
    assert "pip install umap-learn" in rows["UMAP to 3"].note
    again = evaluation.compare(stacks, "ramps", most=100)
    assert [row.found for row in again.rows] == [row.found for row in found.rows]
    assert torch.equal(again.rows[1].test, rows["random projection to 3"].test)


@pytest.mark.usefixtures("ramps")
def test_wide_vectors_are_narrowed_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "WIDEST", 50)
    pixels = evaluation.compare({"three": prepared(STACKS["three"])}, "ramps").rows[0]
    assert (pixels.numbers, pixels.test.shape[1]) == (144, 49)  # 7 x 7 blocks
    assert pixels.note == "measured on 49 numbers made of them"


@pytest.mark.usefixtures("ramps")
def test_without_labels_only_trust_is_measured(tmp_path: Path) -> None:
    page = experiments.compare({"three": prepared(STACKS["three"])}, "unlabelled", tmp_path, most=100)
    rows = {row["embedding"]: row for row in page.tables["Embeddings compared"]}
    assert rows["three"]["trust (60)"] > 0.5
    assert {rows["three"][name] for name in ("kNN, folds", "kNN, test", "probe", "k-means NMI")} == {None}
    assert "have no labels" in (tmp_path / "report.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"report.md", "report.json", "densities.png"}


@pytest.mark.usefixtures("ramps")
def test_the_page_has_the_table_and_the_pictures(tmp_path: Path) -> None:
    stacks = {"three": prepared(STACKS["three"])}
    page = experiments.compare(stacks, "ramps", tmp_path, most=100)
    text = (tmp_path / "report.md").read_text()
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["tables"] == page.tables
    rows = {row["embedding"]: row for row in told["tables"]["Embeddings compared"]}
    assert rows["three"]["kNN, test"] > 0.9
    assert rows["UMAP to 3"]["kNN, test"] is None
    assert "| UMAP to 3 | 3 | - |" in text
    assert "umap-learn, which is not installed" in text
    assert "silhouette (60)" in text
    for name in ("densities.png", "neighbours.png"):
        assert f"]({name})" in text
        assert (tmp_path / name).is_file()
    again = tmp_path / "again"
    experiments.compare(stacks, "ramps", again, most=100)
    assert (again / "report.json").read_bytes() == (tmp_path / "report.json").read_bytes()


@pytest.mark.usefixtures("ramps")
def test_data_that_is_not_split_is_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(comparison, "images", lambda name, shape, split: some_images(60))
    experiments.compare({"three": prepared(STACKS["three"])}, "ramps", tmp_path, most=100)
    assert "**the same ones" in (tmp_path / "report.md").read_text()


@pytest.mark.usefixtures("ramps")
def test_test_images_that_are_training_images_too_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(comparison, "images", lambda name, shape, split: some_images(60))
    stacks = {"three": prepared(STACKS["three"])}
    found = evaluation.compare(stacks, "ramps", most=40)
    train, test = ({*map(bytes, shown.digests.numpy())} for shown in (found.train, found.test))
    assert 0 < len(train & test) < 40
    experiments.compare(stacks, "ramps", tmp_path, most=40)
    assert f"**{len(train & test)} of the test images being training images too" in (tmp_path / "report.md").read_text()


@pytest.mark.usefixtures("ramps")
@pytest.mark.parametrize("name", ["config.json", "run.json"])
def test_the_report_of_a_stack_is_not_replaced(name: str, tmp_path: Path) -> None:
    for file in (name, "report.json"):
        (tmp_path / file).write_text("{}")
    with pytest.raises(FileError, match=rf"holds a stack or a run \({name}\).*choose another folder"):
        experiments.compare({"three": prepared(STACKS["three"])}, "ramps", tmp_path, most=40)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "{}", "report.json": "{}"}


def test_a_class_that_is_rare_leaves_what_needs_no_labels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)

    def images(name: str, shape: tuple[int, ...], *, split: str) -> data.Images:
        shown = some_images(60, seed=len(split))
        return replace(shown, labels=(torch.arange(60) < 3).long())

    monkeypatch.setattr(comparison, "images", images)
    page = experiments.compare({"three": prepared(STACKS["three"])}, "ramps", tmp_path, most=40)
    row = page.tables["Embeddings compared"][-1]
    assert row["trust (40)"] > 0.5
    assert row["kNN, test"] is None
    assert "too few to tell apart" in row["note"]
    assert "--most (most=)" in row["note"]
    assert "too few of a class" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("seed", [-1, 2**32 + 3])
def test_any_number_is_a_seed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To scikit-learn and UMAP only those of 32 bits are."""
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=FakeUmap))
    z, labels = blobs(20)
    assert structure.clusters(z, labels, seed=seed).keys() == {"nmi", "ari"}
    assert [*neighbours.cross_validated(z, labels, seed=seed)] == [20]
    monkeypatch.setattr(pca, "EXACT", 0)
    assert pca.fit(z, (2,), seed=seed).encode(z).shape == (60, 2)
    embeddings.umap(z, z, 2, seed=seed)
    assert FakeUmap.options["random_state"] == seed % 2**32
    assert codes.plane(z, seed)[0].shape == (60, 2)


@pytest.mark.usefixtures("ramps")
def test_what_cannot_be_compared() -> None:
    with pytest.raises(EvaluationError, match="no stack to compare"):
        evaluation.compare({}, "ramps")
    found = evaluation.compare({"none": build("12x12x1/normal").eval(), "three": prepared(STACKS["three"])}, "ramps")
    rows = {row.name: row.note for row in found.rows}
    assert "has no level that encodes" in rows["none"]
    assert "fewer" in rows["PCA to 144"] or "components" in rows["PCA to 144"]


def test_densities_count_every_vector_near_its_place() -> None:
    points = np.array([[0.5, 0.25], [0.5, 0.25], [0.9, 0.9]])
    found = density(points, np.array([[0.0, 0.0], [1.0, 1.0]]), 2.0)
    assert found.sum() == pytest.approx(3, rel=1e-3)
    assert np.unravel_index(found.argmax(), found.shape) == (CELLS // 2, CELLS // 4)
    assert found[CELLS // 2, CELLS // 4] == pytest.approx(2 / (2 * np.pi * 4), rel=0.01)


def test_classes_that_differ_between_the_parts_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)

    def images(name: str, shape: tuple[int, ...], *, split: str) -> data.Images:
        shown = some_images(60, seed=len(split))
        return shown if split == "train" else replace(shown, classes=("cat", "dog"))

    monkeypatch.setattr(comparison, "images", images)
    row = evaluation.compare({"three": prepared(STACKS["three"])}, "ramps").rows[-1]
    assert [*row.found] == ["trust"]
