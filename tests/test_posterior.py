"""The posterior against torch.distributions and the closed forms."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from zoo.errors import ZooError
from zoo.posterior import Posterior

B, C, H, W = 3, 4, 5, 2


def posterior(noise: str, seed: int = 0) -> Posterior:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(B, C, H, W, generator=generator)
    spread = mean.shape if noise == "local" else mean.shape[:2]
    return Posterior(mean, torch.randn(spread, generator=generator), noise)


def element_std(given: Posterior) -> torch.Tensor:
    """The deviation of every element, written out without the class's own broadcasting."""
    std = torch.exp(given.logvar / 2)
    return std if given.noise == "local" else std[:, :, None, None].repeat(1, 1, H, W)


@pytest.mark.parametrize("noise", ["local", "feature", "shared"])
def test_kl_is_that_of_torch_distributions(noise):
    given = posterior(noise)
    reference = kl_divergence(Normal(given.mean, element_std(given)), Normal(0.0, 1.0)).sum((1, 2, 3))
    torch.testing.assert_close(given.kl(), reference)


def test_kl_of_local_noise_is_the_sum_over_all_elements():
    given = posterior("local")
    mu, lv = given.mean.double(), given.logvar.double()
    expected = [0.5 * float((lv[b].exp() + mu[b] ** 2 - 1 - lv[b]).sum()) for b in range(B)]
    assert given.kl().tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("noise", ["feature", "shared"])
def test_kl_of_feature_noise_counts_a_deviation_once_for_every_pixel(noise):
    given = posterior(noise)
    mu, lv = given.mean, given.logvar
    expected = 0.5 * ((mu**2).sum((1, 2, 3)) + H * W * (lv.exp() - lv - 1).sum(1))
    torch.testing.assert_close(given.kl(), expected)


@pytest.mark.parametrize("noise", ["local", "feature", "shared"])
def test_kl_of_a_vector_and_at_the_prior(noise):
    vector = Posterior(torch.randn(B, C), torch.randn(B, C), noise)
    reference = kl_divergence(Normal(vector.mean, vector.std), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(vector.kl(), reference)
    spread = (B, C, H, W) if noise == "local" else (B, C)
    prior = Posterior(torch.zeros(B, C, H, W), torch.zeros(spread), noise)
    assert prior.kl().tolist() == [0.0] * B


@pytest.mark.parametrize("noise", ["local", "feature", "shared"])
def test_samples_have_the_mean_and_deviation_that_are_claimed(noise):
    given = posterior(noise)
    generator = torch.Generator().manual_seed(1)
    n = 4000
    draws = torch.stack([given.sample(generator) for _ in range(n)])
    std = element_std(given)
    assert ((draws.mean(0) - given.mean).abs() < 5 * std / n**0.5).all()
    torch.testing.assert_close(draws.std(0), std, rtol=5 / (2 * n) ** 0.5, atol=0)
    torch.testing.assert_close(given.std, std)


def test_the_draws_of_a_feature_are_one_over_its_pixels_only_when_shared():
    for noise, expected in (("shared", True), ("feature", False), ("local", False)):
        given = posterior(noise)
        epsilon = (given.sample() - given.mean) / given.std
        spread = epsilon.flatten(2).std(2)
        assert bool((spread < 1e-3).all()) is expected
        assert epsilon[0, :, 0, 0].std() > 1e-3  # never one draw for all features


def test_a_sample_carries_gradients_to_mean_and_logvar():
    mean, logvar = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    z = Posterior(mean, logvar).sample(torch.Generator().manual_seed(0))
    z.sum().backward()
    torch.testing.assert_close(mean.grad, torch.ones(2, 3))
    torch.testing.assert_close(logvar.grad, z.detach() / 2)  # at mean 0 and sigma 1: dz/dlogvar = epsilon / 2


def test_a_point_is_its_own_sample_and_has_no_divergence():
    point = Posterior(torch.randn(2, 3))
    assert point.sample() is point.mean
    assert point.mode is point.mean
    assert not point.std.any()
    with pytest.raises(ZooError, match="a point has no KL"):
        point.kl()


@pytest.mark.parametrize("noise", ["local", "feature", "shared"])
def test_scaled_is_the_posterior_of_the_scaled_code(noise):
    given = posterior(noise)
    shift, scale = torch.randn(C, 1, 1), torch.rand(C, 1, 1) + 0.5
    scaled = given.scaled(shift, scale)
    state = torch.random.get_rng_state()
    z = given.sample()
    torch.random.set_rng_state(state)
    torch.testing.assert_close(scaled.sample(), (z - shift) / scale)
    assert scaled.noise == noise
    assert Posterior(given.mean).scaled(shift, scale).logvar is None


def test_a_posterior_is_frozen_detaches_and_computes_in_float32():
    given = Posterior(torch.zeros(2, 3, dtype=torch.bfloat16, requires_grad=True), torch.zeros(2, 3).bfloat16())
    with pytest.raises(dataclasses.FrozenInstanceError):
        given.mean = torch.ones(2, 3)
    assert not given.detach().mean.requires_grad
    assert given.float().mean.dtype == given.float().logvar.dtype == torch.float32


def test_a_deviation_by_feature_of_what_has_no_features_is_refused():
    for noise in ("feature", "shared"):
        with pytest.raises(ZooError, match=r"a map .* or a vector .* the mean is \(2, 3, 4\): take 'local'"):
            Posterior(torch.zeros(2, 3, 4), torch.zeros(2, 3), noise)
    assert Posterior(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)).sample().shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("noise", "spread", "words"),
    [
        ("local", (B, C), "logvar of shape"),
        ("shared", (B, C, H, W), "logvar of shape"),
        ("pixel", (B, C), "there are local"),
    ],
)
def test_a_deviation_of_the_wrong_shape_or_kind_is_refused(noise, spread, words):
    with pytest.raises(ZooError, match=words):
        Posterior(torch.zeros(B, C, H, W), torch.zeros(spread), noise)
