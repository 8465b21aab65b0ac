"""Reconstructions against torch.distributions, torchmetrics and literal loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Bernoulli as BernoulliLaw
from torch.distributions import Normal as NormalLaw
from torchmetrics.functional.image import structural_similarity_index_measure
from zoo_losses.gaussian import FLOOR, CalibratedGaussian
from zoo_losses.pixelwise import AbsoluteError, Bernoulli, SquaredError
from zoo_losses.ssim import SSIM, similarity

from zoo import build, fit
from zoo.data import images as sample
from zoo.errors import SpecError, TrainingError
from zoo.interfaces import Place, RoundTrip
from zoo.posterior import Posterior
from zoo.training.objectives import LevelInCodes

PLACE = Place((2, 9, 7), (4,))
TERMS = [CalibratedGaussian, SquaredError, AbsoluteError, Bernoulli, SSIM]


def trip(x: torch.Tensor, x_hat: torch.Tensor) -> RoundTrip:
    z = torch.zeros(len(x), 4)
    return RoundTrip(x, Posterior(z), z, x_hat)


def images(n: int = 3, shape: tuple[int, ...] = (2, 9, 7)) -> torch.Tensor:
    return torch.rand(n, *shape)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_gaussian_is_the_likelihood_at_the_root_mean_squared_error():
    x, x_hat = images(), images()
    rmse = (x - x_hat).square().mean().sqrt()
    reference = -NormalLaw(x_hat, rmse).log_prob(x).sum((1, 2, 3)).mean()
    torch.testing.assert_close(CalibratedGaussian(PLACE)(trip(x, x_hat)), reference)
    torch.testing.assert_close(CalibratedGaussian(PLACE).eval()(trip(x, x_hat)), reference)


def test_the_calibrated_variance_is_the_best_of_all():
    x, x_hat = images(), images()
    number = CalibratedGaussian(PLACE)(trip(x, x_hat))
    rmse = (x - x_hat).square().mean().sqrt()
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert -NormalLaw(x_hat, factor * rmse).log_prob(x).sum((1, 2, 3)).mean() > number


def test_gaussian_pools_the_batch_and_has_the_gradient_of_the_logarithm():
    x, x_hat = images(), images()
    x_hat[0] += 1  # one bad image: its variance is everybody's
    x_hat.requires_grad_()
    number = CalibratedGaussian(PLACE)(trip(x, x_hat))
    size, mse = x[0].numel(), (x - x_hat).square().mean()
    assert number.item() == pytest.approx(size / 2 * (math.log(2 * math.pi * mse.item()) + 1), rel=1e-5)
    number.backward()
    torch.testing.assert_close(x_hat.grad, size / mse.detach() * (x_hat - x).detach() / x.numel())


def test_gaussian_goes_on_smoothly_below_its_floor():
    x = images()
    size, lowest = x[0].numel(), CalibratedGaussian(PLACE)(trip(x, x)).item()
    assert lowest == pytest.approx(size / 2 * math.log(2 * math.pi * FLOOR), rel=1e-5)
    numbers, slopes = [], []
    for factor in (0.999, 1.001):
        x_hat = (x.double() + math.sqrt(factor * FLOOR)).float().requires_grad_()
        number = CalibratedGaussian(PLACE)(trip(x, x_hat))
        number.backward()
        numbers.append(number.item())
        slopes.append(x_hat.grad.norm().item())
    assert numbers[0] == pytest.approx(numbers[1], abs=0.2)
    assert slopes[0] == pytest.approx(slopes[1], rel=0.01)
    assert numbers[0] > lowest


def test_squared_and_absolute_errors_are_sums():
    x, x_hat = images(), images()
    squares = [float(((x[i] - x_hat[i]) ** 2).sum()) for i in range(3)]
    magnitudes = [float((x[i] - x_hat[i]).abs().sum()) for i in range(3)]
    assert SquaredError(PLACE)(trip(x, x_hat)).item() == pytest.approx(sum(squares) / 3, rel=1e-5)
    assert AbsoluteError(PLACE)(trip(x, x_hat)).item() == pytest.approx(sum(magnitudes) / 3, rel=1e-5)


def test_squared_error_is_a_gaussian_of_variance_one_half_less_its_constant():
    x, x_hat = images(), images()
    law = NormalLaw(x_hat, math.sqrt(0.5))
    constant = x[0].numel() / 2 * math.log(math.pi)
    reference = -law.log_prob(x).sum((1, 2, 3)).mean() - constant
    torch.testing.assert_close(SquaredError(PLACE)(trip(x, x_hat)), reference)


def test_bernoulli_is_the_likelihood_of_binary_images():
    x, x_hat = images().round(), images()
    reference = -BernoulliLaw(probs=x_hat).log_prob(x).sum((1, 2, 3)).mean()
    torch.testing.assert_close(Bernoulli(PLACE)(trip(x, x_hat)), reference)


def test_bernoulli_of_grey_targets_is_least_at_the_target():
    x = images()
    entropy = BernoulliLaw(probs=x).entropy().sum((1, 2, 3)).mean()
    torch.testing.assert_close(Bernoulli(PLACE)(trip(x, x)), entropy)
    assert Bernoulli(PLACE)(trip(x, images())) > entropy


def test_a_wrong_certainty_costs_bernoulli_sixteen_nats():
    x, x_hat = torch.ones(2, 2, 9, 7), torch.zeros(2, 2, 9, 7)
    assert Bernoulli(PLACE)(trip(x, x_hat)).item() / x[0].numel() == pytest.approx(15.94, abs=0.01)
    assert Bernoulli(PLACE)(trip(x, x)).item() < 1e-3


def literal_ssim(x, y, window, sigma=1.5):
    """The mean over every window, one pixel and channel at a time, with zeros outside; float64."""
    channels, height, width = x.shape
    half = window // 2
    offsets = range(-half, half + 1)
    weights = {(i, j): math.exp(-(i * i + j * j) / (2 * sigma**2)) for i in offsets for j in offsets}
    total = sum(weights.values())
    numbers = []
    for c in range(channels):
        for row in range(height):
            for column in range(width):
                mx = my = xx = yy = xy = 0.0
                for (i, j), weight in weights.items():
                    if 0 <= row + i < height and 0 <= column + j < width:
                        w, a, b = weight / total, float(x[c, row + i, column + j]), float(y[c, row + i, column + j])
                        mx, my, xx, yy, xy = mx + w * a, my + w * b, xx + w * a * a, yy + w * b * b, xy + w * a * b
                above = (2 * mx * my + 0.01**2) * (2 * (xy - mx * my) + 0.03**2)
                below = (mx * mx + my * my + 0.01**2) * (xx - mx * mx + yy - my * my + 0.03**2)
                numbers.append(above / below)
    return sum(numbers) / len(numbers)


@pytest.mark.parametrize("window", [3, 5, 7])
def test_ssim_is_the_literal_loop_over_windows(window):
    x, x_hat = images(2), (images(2) + images(2)) / 2
    expected = sum(x[0].numel() * (1 - literal_ssim(a, b, window)) for a, b in zip(x, x_hat, strict=True)) / 2
    assert SSIM(PLACE, window=window)(trip(x, x_hat)).item() == pytest.approx(expected, rel=1e-4)


def test_ssim_inside_the_border_is_that_of_torchmetrics():
    x = images(2, (3, 24, 20))
    y = (x + 0.2 * torch.randn_like(x)).clamp(0, 1)
    _, reference = structural_similarity_index_measure(y, x, data_range=1.0, return_full_image=True)
    inside = (
        ...,
        slice(5, -5),
        slice(5, -5),
    )  # it takes 11 pixels, and mirrors the image where the zoo pads with zeros
    torch.testing.assert_close(similarity(x, y, 11)[inside], reference[inside], rtol=1e-4, atol=1e-5)


def test_ssim_of_equal_images_is_one_and_blur_lowers_it():
    x = images(2, (1, 12, 12))
    place = Place((1, 12, 12), (4,))
    assert SSIM(place)(trip(x, x)).item() == pytest.approx(0, abs=1e-4)
    assert similarity(x, x, 5).min().item() == pytest.approx(1, abs=1e-5)
    blank = SSIM(place)(trip(x, torch.full_like(x, 0.5))).item()
    assert 0.5 * 144 < blank < 1.1 * 144  # a blank reconstruction costs about D


def test_ssim_keeps_float32_under_autocast():
    x, x_hat = images(), images()
    expected = SSIM(PLACE)(trip(x, x_hat))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(SSIM(PLACE)(trip(x, x_hat)), expected)


@pytest.mark.parametrize("window", [0, 1, 4, -3])
def test_a_window_without_a_middle_or_neighbours_is_refused(window):
    with pytest.raises(SpecError, match=r"3, 5, 7"):
        SSIM(PLACE, window=window)


def test_images_smaller_than_the_window_are_refused_when_built_and_when_met():
    with pytest.raises(SpecError, match=r"at least 11x11 pixels, this level's input is 9x7x2"):
        SSIM(PLACE, window=11)
    with pytest.raises(SpecError, match="smaller window"):
        SSIM(Place((12,), (4,)))
    upper = SSIM(Place((16, 4, 4), (4,), pixels=False), window=5)  # trained with its loss in pixels
    assert upper(trip(images(), images())).isfinite()
    with pytest.raises(TrainingError, match="--loss-in pixels"):
        upper(trip(images(2, (16, 4, 4)), images(2, (16, 4, 4))))


@pytest.mark.parametrize("cls", TERMS)
def test_shapes_that_would_broadcast_are_refused(cls):
    with pytest.raises(TrainingError, match=r"\(3, 2, 9, 7\) and x_hat \(3, 1, 9, 7\)"):
        cls(PLACE)(trip(images(), images(3, (1, 9, 7))))


@pytest.mark.parametrize("cls", TERMS)
def test_numbers_are_per_image_and_in_float32(cls):
    x, x_hat = images(), images()
    number = cls(PLACE)(trip(x, x_hat))
    twice = cls(PLACE)(trip(torch.cat([x, x]), torch.cat([x_hat, x_hat])))
    torch.testing.assert_close(number, twice)
    half = cls(PLACE)(trip(x.bfloat16(), x_hat.bfloat16()))
    assert half.dtype == torch.float32
    rounded = cls(PLACE)(trip(x.bfloat16().float(), x_hat.bfloat16().float()))
    assert torch.equal(half, rounded)


# -- several in one level --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("bernoulli", "ssim"), ("gaussian", "ssim"), ("mse", "mae", "ssim")])
def test_reconstructions_of_one_level_add_up_by_their_weights(names):
    spec = "+".join(f"{name}({weight})" for name, weight in zip(names, (1, 0.25, 3), strict=False))
    stack = build(f"8x8x1/fc4(hidden=[8])+{spec}", seed=0)
    level, x = stack.level(1), torch.rand(6, 1, 8, 8)
    assert [*level.terms] == [*names]
    assert all(term.place.output == ("sigmoid" if "bernoulli" in names else "linear") for term in level.terms.values())
    losses = LevelInCodes(stack, 1)(x)
    expected = sum(
        weight * level.terms[name](level.round_trip(x)) for name, weight in zip(names, (1, 0.25, 3), strict=False)
    )
    torch.testing.assert_close(losses.total, expected / 64)
    assert str(build(str(stack.spec)).spec) == str(stack.spec)


def test_the_scale_of_ssim_lets_it_train_where_a_number_an_image_does_not():
    x = sample("sample", (1, 14, 14)).batch(slice(0, 1000))
    varies = {}
    for scale, weight in (("nats", 1), ("an image", 1 / 196)):
        stack = build(f"14x14x1/fc_conv4(down=16, up=16)+kl+ssim({weight:g})", seed=0)
        fit(stack, x, steps=150, lr=1e-2, batch_size=64, progress=False)
        with torch.inference_mode():
            varies[scale] = stack.encode(x).var(0)
    assert varies["nats"].min() > 0.1
    assert varies["an image"].max() < 0.01
