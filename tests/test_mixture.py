"""The mixture against torch.distributions and scikit-learn."""

from __future__ import annotations

import sys

import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal
from zoo_heads import mixture
from zoo_heads.mixture import Mixture, shares

from zoo.errors import EvaluationError, SpecError, TrainingError
from zoo.interfaces import HeadBatch, Place

CENTERS = torch.tensor([[4.0, 0.0, 0.0], [-4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, -4.0, 0.0]])


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def clusters(n, weights=(0.4, 0.3, 0.2, 0.1)):
    """Points (n, 3) around four centres, and whose they are."""
    labels = torch.multinomial(torch.tensor(weights), n, replacement=True)
    return CENTERS[labels] + 0.3 * torch.randn(n, 3), labels


def fitted(n=2000, shape=(3,), **options):
    points, labels = clusters(n)
    head = Mixture(Place(shape, pixels=False), **options)
    head.prepare(points.reshape(-1, *shape), labels)
    return head


def nearest(points):
    return torch.cdist(points.flatten(1), CENTERS).argmin(1)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_the_loss_is_the_likelihood_of_the_mixture_that_it_samples(covariance):
    head = fitted(components=4, covariance=covariance, shape=(3, 1, 1))
    factors = head.factors if covariance == "full" else torch.diag_embed(head.factors)
    law = MixtureSameFamily(Categorical(head.weights), MultivariateNormal(head.means, scale_tril=factors))
    points, _ = clusters(500)
    number = head.loss(HeadBatch(points.reshape(-1, 3, 1, 1)))
    torch.testing.assert_close(number, -law.log_prob(points).mean(), rtol=1e-5, atol=1e-5)
    drawn = head.sample(20000, generator=torch.Generator().manual_seed(1)).flatten(1)
    shares = nearest(drawn).bincount(minlength=4) / 20000
    torch.testing.assert_close(shares, torch.tensor([0.4, 0.3, 0.2, 0.1]), rtol=0, atol=0.03)
    assert -law.log_prob(drawn).mean() == pytest.approx(number.item(), abs=0.06)


def test_it_is_as_likely_as_scikit_learns_own():
    points, _ = clusters(3000)
    unseen, _ = clusters(3000)
    head = Mixture(Place((3,), pixels=False), components=4)
    head.prepare(points)
    reference = GaussianMixture(4, random_state=0).fit(points.numpy()).score(unseen.numpy())
    assert head.loss(HeadBatch(unseen)).item() == pytest.approx(-reference, abs=0.02)


def test_before_it_is_fitted_it_is_a_unit_gaussian():
    for covariance in ("full", "diagonal"):
        head = Mixture(Place((2, 3, 1), pixels=False), components=5, covariance=covariance)
        x = torch.randn(50, 2, 3, 1)
        expected = -torch.distributions.Normal(0.0, 1.0).log_prob(x).flatten(1).sum(1).mean()
        torch.testing.assert_close(head.loss(HeadBatch(x)), expected)
        drawn = head.sample(4000)
        assert drawn.std().item() == pytest.approx(1, abs=0.02)


def test_covariances_are_full_for_small_codes_and_diagonal_for_large_ones():
    assert Mixture(Place((64,), pixels=False)).covariance == "full"
    assert Mixture(Place((10, 7, 7), pixels=False)).covariance == "diagonal"


def test_few_codes_are_given_few_components():
    assert (fitted(n=50).weights > 0).sum() == 2  # twenty codes each, at least
    assert (fitted(n=2).weights > 0).sum() == 1
    assert fitted(n=50).weights.sum().item() == pytest.approx(1)


def test_the_same_seed_finds_the_same_mixture():
    first, again = (fitted(components=7).state_dict() for _ in range(2) if torch.manual_seed(3))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_codes_that_never_vary_have_a_mixture():
    for given in (torch.full((60, 4), 3.0), torch.cat([torch.randn(60, 3), torch.zeros(60, 1)], 1), torch.randn(60, 1)):
        for covariance in ("full", "diagonal"):
            head = Mixture(Place((given.shape[1],), pixels=False), covariance=covariance)
            head.prepare(given)
            assert head.loss(HeadBatch(given)).isfinite()
            assert head.sample(3).isfinite().all()


def test_it_says_when_rounds_ran_out(monkeypatch, caplog):
    monkeypatch.setattr(mixture, "ROUNDS", 1)
    fitted(components=9)
    assert "1 rounds were not enough for 9 components" in caplog.text


def test_sampling_takes_no_scikit_learn(monkeypatch):
    head = fitted()
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert head.sample(5).shape == (5, 3)
    with pytest.raises(ImportError):
        head.prepare(clusters(100)[0])


class TestByClass:
    def test_samples_are_of_their_label(self):
        head = fitted(components=8, classes=True)
        assert head.labels() == [0, 1, 2, 3]
        for label in head.labels():
            assert (nearest(head.sample(200, label=label)) == label).all()
        drawn = nearest(head.sample(20000)).bincount(minlength=4) / 20000
        torch.testing.assert_close(drawn, torch.tensor([0.4, 0.3, 0.2, 0.1]), rtol=0, atol=0.03)

    def test_the_components_are_shared_out(self):
        head = fitted(components=20, classes=True)
        counts = head.owners[head.weights > 0].bincount()
        assert counts.sum() == 20
        assert counts[0] > counts[3] >= 1

    @pytest.mark.parametrize(("counts", "total"), [([5, 5, 5], 100), ([1000, 1, 1], 3), ([7, 2, 90, 1], 17), ([4], 9)])
    def test_shares_are_in_proportion_and_none_is_left_out(self, counts, total):
        found = shares(counts, total)
        assert sum(found) == total
        assert min(found) >= 1
        spare = total - len(counts)
        assert all(abs(share - 1 - spare * count / sum(counts)) < 1 for share, count in zip(found, counts, strict=True))

    def test_a_label_that_was_seen_once(self):
        points, labels = clusters(200)
        labels[labels == 3] = 0
        labels[17] = 5
        head = Mixture(Place((3,), pixels=False), components=10, classes=True)
        head.prepare(points, labels)
        assert head.labels() == [0, 1, 2, 5]
        torch.testing.assert_close(head.sample(50, label=5).mean(0), points[17], rtol=0, atol=0.05)

    def test_what_it_refuses(self):
        head = Mixture(Place((3,), pixels=False), components=3, classes=True)
        points, labels = clusters(100)
        with pytest.raises(TrainingError, match=r"3 components for 4 labels.*mixture\(40, classes=true\)"):
            head.prepare(points, labels)
        with pytest.raises(TrainingError, match="got no labels"):
            head.prepare(points)
        with pytest.raises(EvaluationError, match=r"has learned no classes.*mixture\(classes=true\)"):
            head.sample(1, label=0)
        with pytest.raises(EvaluationError, match=r"has not learned label 4; it has learned 0 to 3$"):
            fitted(components=8, classes=True).sample(1, label=4)


def test_what_it_refuses():
    with pytest.raises(SpecError, match="none of its own"):
        Mixture(Place((8,), (4,), pixels=False))
    with pytest.raises(SpecError, match="at least one"):
        Mixture(Place((8,), pixels=False), components=0)
    with pytest.raises(SpecError, match=r"100 covariances of 1,000,000 numbers.*covariance=diagonal"):
        Mixture(Place((10, 10, 10), pixels=False), covariance="full")
    head = Mixture(Place((2,), pixels=False))
    with pytest.raises(TrainingError, match="at least 2"):
        head.prepare(torch.zeros(1, 2))
    with pytest.raises(TrainingError, match="not finite"):
        head.prepare(torch.full((4, 2), float("nan")))
    with pytest.raises(EvaluationError, match="has learned no classes"):
        head.sample(1, label=3)
