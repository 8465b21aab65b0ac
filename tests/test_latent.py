"""Regularizers of the code against their formulas: KL, its two Monte-Carlo forms, and the discrepancy."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from zoo_latent.kl import KL
from zoo_latent.mmd import IMQ_SCALES, MMD, mmd
from zoo_latent.monte_carlo import MonteCarlo, StickingTheLanding

from zoo.errors import SpecError, TrainingError, ZooError
from zoo.interfaces import Place, RoundTrip
from zoo.posterior import Posterior

PLACE = Place((1, 8, 8), (4, 3, 2), posterior="gaussian")
NOISES = ["local", "feature", "shared"]


def posterior(noise: str = "local", batch: int = 3) -> Posterior:
    mean = 0.7 * torch.randn(batch, 4, 3, 2) + 0.4
    return Posterior(mean, 0.5 * torch.randn(mean.shape if noise == "local" else mean.shape[:2]) - 0.5, noise)


def trip(given: Posterior, z: torch.Tensor | None = None) -> RoundTrip:
    x = torch.zeros(len(given.mean), 1, 8, 8)
    return RoundTrip(x, given, given.sample() if z is None else z, x)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("noise", NOISES)
def test_kl_is_the_batch_mean_of_the_closed_form(noise):
    given = posterior(noise)
    reference = kl_divergence(Normal(given.mean, given.std), Normal(0.0, 1.0)).sum((1, 2, 3)).mean()
    torch.testing.assert_close(KL(PLACE)(trip(given)), reference)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("cls", [MonteCarlo, StickingTheLanding])
def test_the_estimates_have_kl_as_their_expectation(cls, noise):
    one, n = posterior(noise, batch=1), 4000
    given = Posterior(one.mean.expand(n, -1, -1, -1), one.logvar.expand(n, *one.logvar.shape[1:]), noise)
    z = given.sample()
    term = cls(PLACE)
    numbers = torch.stack([term(trip(one, z[i : i + 1])) for i in range(n)]).double()
    error = numbers.std() / math.sqrt(n)
    assert abs(numbers.mean() - one.kl().item()) < 4 * error
    assert error < 0.05 * one.kl().item()  # the bound above is narrow enough to mean something
    torch.testing.assert_close(term(trip(given, z)).double(), numbers.mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("noise", NOISES)
def test_both_estimates_are_one_number(noise):
    taken = trip(posterior(noise))
    torch.testing.assert_close(MonteCarlo(PLACE)(taken), StickingTheLanding(PLACE)(taken))


def gradients(term, mean, sigma, epsilon):
    """d/dmu and d/dsigma of the term on one image, with z = mu + sigma epsilon."""
    mean, sigma = mean.clone().requires_grad_(), sigma.clone().requires_grad_()
    given = Posterior(mean, 2 * sigma.log())
    term(trip(given, mean + given.std * epsilon)).backward()
    return mean.grad, sigma.grad


def test_the_gradients_are_those_of_the_papers():
    mean, sigma, epsilon = torch.randn(1, 4, 3, 2), torch.rand(1, 4, 3, 2) + 0.3, torch.randn(1, 4, 3, 2)
    z = mean + sigma * epsilon
    close = {"rtol": 1e-4, "atol": 1e-4}
    by_mean, by_sigma = gradients(MonteCarlo(PLACE), mean, sigma, epsilon)
    torch.testing.assert_close(by_mean, z, **close)
    torch.testing.assert_close(by_sigma, epsilon * z - 1 / sigma, **close)
    by_mean, by_sigma = gradients(StickingTheLanding(PLACE), mean, sigma, epsilon)
    torch.testing.assert_close(by_mean, z - epsilon / sigma, **close)
    torch.testing.assert_close(by_sigma, epsilon * (z - epsilon / sigma), **close)


@pytest.mark.parametrize("noise", NOISES)
def test_sticking_the_landing_is_exactly_zero_at_the_prior_and_monte_carlo_is_not(noise):
    mean = torch.zeros(5, 4, 3, 2, requires_grad=True)
    logvar = torch.zeros(mean.shape if noise == "local" else mean.shape[:2], requires_grad=True)
    given = Posterior(mean, logvar, noise)
    number = StickingTheLanding(PLACE)(trip(given))
    number.backward()
    assert number.item() == 0
    assert mean.grad.count_nonzero() == logvar.grad.count_nonzero() == 0
    z = given.sample()
    MonteCarlo(PLACE)(trip(given, z)).backward()
    torch.testing.assert_close(mean.grad, z.detach() / 5)
    if noise == "local":  # d/dlogvar = (epsilon^2 - 1) / 2
        torch.testing.assert_close(logvar.grad, (z.detach().square() - 1) / 10)


@pytest.mark.parametrize("cls", [KL, MonteCarlo, StickingTheLanding])
def test_a_point_posterior_is_refused(cls):
    with pytest.raises(ZooError, match="point"):
        cls(PLACE)(trip(Posterior(torch.zeros(2, 4, 3, 2))))


def literal_mmd(q, p, kernel, *, biased):
    """The double loop of the paper, in float64."""
    q, p = q.double(), p.double()
    n, size = q.shape

    def distance(a, b):
        return float(((a - b) ** 2).sum())

    def k(a, b):
        d = distance(a, b)
        if kernel == "rbf":
            return math.exp(-d / (2 * s))
        return sum(2 * size * t / (2 * size * t + d) for t in IMQ_SCALES)

    half = (n * n - n) // 2
    qp = sorted((distance(a, b) for a in q for b in p), reverse=True)
    qq = sorted((distance(a, b) for a in q for b in q), reverse=True)
    s = qp[half - 1] + qq[half - 1]
    pairs = [(i, j) for i in range(n) for j in range(n) if biased or i != j]
    within = sum(k(q[i], q[j]) + k(p[i], p[j]) for i, j in pairs) / len(pairs)
    return within - 2 * sum(k(a, b) for a in q for b in p) / n**2


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("kernel", ["imq", "rbf"])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_mmd_is_the_literal_double_loop(kernel, biased, n):
    q, p = 1.5 * torch.randn(n, 5) + 0.5, torch.randn(n, 5)
    expected = literal_mmd(q, p, kernel, biased=biased)
    assert mmd(q, p, kernel=kernel, biased=biased).item() == pytest.approx(expected, abs=1e-5)


def spread_of_numbers(term, scale, shift, times=60):
    codes = [scale * torch.randn(64, 8) + shift for _ in range(times)]
    return torch.stack([term(trip(Posterior(z))) for z in codes])


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_is_near_zero_for_equal_laws_and_positive_for_others(kernel):
    term = MMD(Place((1, 8, 8), (8,)), kernel=kernel)
    equal = spread_of_numbers(term, 1.0, 0.0)
    error = equal.std() / math.sqrt(len(equal))
    assert equal.mean().abs() < 4 * error  # unbiased
    assert (equal < 0).any()
    for scale, shift in ((1.0, 0.7), (0.4, 0.0), (2.5, 0.0)):
        assert spread_of_numbers(term, scale, shift, 5).min() > equal.mean() + 4 * equal.std()


def test_the_biased_mmd_is_never_negative():
    term = MMD(Place((1, 8, 8), (8,)), biased=True)
    assert spread_of_numbers(term, 1.0, 0.0, 30).min() > 0


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_following_mmd_brings_codes_to_the_prior(kernel):
    term = MMD(Place((1, 8, 8), (2,)), kernel=kernel)
    mean, std = torch.tensor([2.0, -1.0], requires_grad=True), torch.tensor([0.3, 2.0], requires_grad=True)
    optimiser = torch.optim.Adam([mean, std], lr=0.05)
    for step in range(200):
        optimiser.param_groups[0]["lr"] = 0.05 * (1 - step / 200)
        optimiser.zero_grad()
        term(trip(Posterior(mean + std * torch.randn(128, 2)))).backward()
        optimiser.step()
    torch.testing.assert_close(mean, torch.zeros(2), rtol=0, atol=0.15)
    torch.testing.assert_close(std.abs(), torch.ones(2), rtol=0, atol=0.15)  # a Gaussian has no sign


def test_the_gradient_through_the_bandwidth_is_there_unless_detached():
    q, p = torch.randn(16, 3), torch.randn(16, 3)

    def gradient(*, detach):
        codes = q.clone().requires_grad_()
        number = mmd(codes, p, kernel="rbf", detach=detach)
        number.backward()
        return number.item(), codes.grad

    def numeric(index, step=1e-5):
        values = []
        for sign in (1, -1):
            moved = q.double()
            moved[index] += sign * step
            values.append(literal_mmd(moved, p, "rbf", biased=False))
        return (values[0] - values[1]) / (2 * step)

    whole, cut = gradient(detach=False), gradient(detach=True)
    assert whole[0] == cut[0]
    assert not torch.allclose(whole[1], cut[1], rtol=1e-2)
    assert whole[1][2, 1].item() == pytest.approx(numeric((2, 1)), rel=0.02, abs=1e-5)


def test_mmd_draws_from_the_global_generator_and_flattens_maps():
    term, z = MMD(PLACE), torch.randn(6, 4, 3, 2)
    torch.manual_seed(3)
    given = term(trip(Posterior(z)))
    torch.manual_seed(3)
    draws = torch.randn(6, 24)
    torch.testing.assert_close(given, mmd(z.flatten(1), draws))
    assert not torch.equal(given, term(trip(Posterior(z))))


def test_mmd_judges_the_drawn_codes_of_a_gaussian_posterior():
    given, z = posterior(batch=6), torch.randn(6, 4, 3, 2)
    torch.manual_seed(3)
    number = MMD(PLACE)(trip(given, z))
    torch.manual_seed(3)
    torch.testing.assert_close(number, MMD(PLACE)(trip(Posterior(z), z)))


def test_mmd_keeps_float32_under_autocast():
    q, p = 1.001 * torch.randn(32, 64), torch.randn(32, 64)
    expected = mmd(q, p)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mmd(q, p), expected)


def test_a_batch_of_one_is_refused_while_training_and_nothing_in_evaluation():
    one = trip(Posterior(torch.randn(1, 4, 3, 2)))
    term = MMD(PLACE)
    with pytest.raises(TrainingError, match=r"batch of 1.*biased=true"):
        term(one)
    assert term.eval()(one).item() == 0
    for kernel in ("imq", "rbf"):
        assert MMD(PLACE, kernel=kernel, biased=True)(one).isfinite()


def test_collapsed_codes_still_have_a_finite_gradient():
    for kernel in ("imq", "rbf"):
        codes = torch.full((8, 4, 3, 2), 0.5, requires_grad=True)
        MMD(PLACE, kernel=kernel)(trip(Posterior(codes), codes)).backward()
        assert codes.grad.isfinite().all()
        assert codes.grad.any()


def test_detach_takes_a_kernel_with_something_to_detach():
    with pytest.raises(SpecError, match="no scale s to detach; add kernel=rbf"):
        MMD(PLACE, detach=True)


def test_a_misspelt_kernel_is_answered_with_the_nearest():
    with pytest.raises(SpecError, match="did you mean 'rbf'"):
        MMD(PLACE, kernel="rbg")


@pytest.mark.parametrize("cls", [KL, MonteCarlo, StickingTheLanding, MMD])
def test_the_weight_is_the_trainers(cls):
    given = posterior(batch=4)
    torch.manual_seed(5)
    plain = cls(PLACE)(trip(given, given.mean))
    torch.manual_seed(5)
    assert torch.equal(cls(PLACE, weight=9.0)(trip(given, given.mean)), plain)
    assert cls(PLACE, weight=9.0).weight == 9.0
