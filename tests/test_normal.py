"""The closed-form head against torch.distributions, numpy and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.covariance import oas
from torch.distributions import MultivariateNormal
from zoo_heads.normal import Normal, covariance

from zoo.errors import EvaluationError, SpecError, TrainingError
from zoo.interfaces import HeadBatch, Place


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def codes(n: int, size: int) -> torch.Tensor:
    return torch.randn(n, size) @ torch.randn(size, size) / size**0.5 + 2


def test_normal_is_the_likelihood_of_the_gaussian_it_fitted():
    given = codes(500, 12)
    head = Normal(Place((3, 2, 2), pixels=False))
    head.prepare(given.reshape(-1, 3, 2, 2))
    law = MultivariateNormal(head.mean.double(), scale_tril=head.factor.double())
    number = head.loss(HeadBatch(given[:50].reshape(-1, 3, 2, 2)))
    assert number.item() == pytest.approx(-law.log_prob(given[:50].double()).mean().item(), rel=1e-5)


def test_normal_finds_the_mean_and_covariance_of_many_codes_and_samples_them():
    given = codes(20000, 6)
    head = Normal(Place((6,), pixels=False))
    head.prepare(given)
    expected = np.cov(given.double().numpy().T, bias=True)
    np.testing.assert_allclose((head.factor @ head.factor.T).numpy(), expected, atol=0.01)
    drawn = head.sample(20000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(drawn.mean(0), given.mean(0), rtol=0, atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.double().numpy().T), expected, atol=0.15)


@pytest.mark.parametrize(("n", "size"), [(10, 40), (60, 40), (400, 40)])
def test_the_shrinkage_is_close_to_that_of_scikit_learn(n, size):
    residual = codes(n, size).double()
    residual -= residual.mean(0)
    reference, _ = oas(residual.numpy(), assume_centered=True)  # it leaves out the terms 2/d
    np.testing.assert_allclose(covariance(residual).numpy(), reference, atol=0.02 * np.abs(reference).max())


def test_the_shrinkage_is_the_papers_equation():
    residual = codes(30, 5).double()
    residual -= residual.mean(0)
    n, d = residual.shape
    plain = residual.T @ residual / n
    squares, trace = float((plain @ plain).trace()), float(plain.trace())
    rho = ((1 - 2 / d) * squares + trace**2) / ((n + 1 - 2 / d) * (squares - trace**2 / d))
    assert 0 < rho < 1
    expected = (1 - rho) * plain + (rho * trace / d + 1e-6) * torch.eye(d, dtype=torch.float64)
    torch.testing.assert_close(covariance(residual), expected)


def test_normal_fits_fewer_codes_than_numbers_better_than_no_fit():
    law = torch.randn(60, 60) / 60**0.5
    given = torch.randn(40, 60) @ law
    head = Normal(Place((60,), pixels=False))
    unseen = HeadBatch(torch.randn(500, 60) @ law)
    before = head.loss(unseen)  # N(0, I)
    head.prepare(given)
    assert head.sample(2).isfinite().all()
    assert head.loss(unseen) < before


def test_normal_takes_codes_that_never_vary_and_a_code_of_one_number():
    for given in (torch.full((20, 4), 3.0), torch.cat([torch.randn(20, 3), torch.zeros(20, 1)], 1), torch.randn(20, 1)):
        head = Normal(Place((given.shape[1],), pixels=False))
        head.prepare(given)
        assert head.loss(HeadBatch(given)).isfinite()
        assert head.sample(3).isfinite().all()


def test_normal_says_what_it_does_not_do():
    with pytest.raises(SpecError, match="8192"):
        Normal(Place((3, 64, 64)))
    with pytest.raises(SpecError, match="none of its own"):
        Normal(Place((8,), (4,), pixels=False))
    head = Normal(Place((2,), pixels=False))
    with pytest.raises(EvaluationError, match=r"cannot draw label 3.*zoo list --kind head"):
        head.sample(1, label=3)
    with pytest.raises(TrainingError, match="at least 2"):
        head.prepare(torch.zeros(1, 2))
    with pytest.raises(TrainingError, match="not finite"):
        head.prepare(torch.full((4, 2), math.nan))
