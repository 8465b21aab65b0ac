"""Steps up: every kind has its size, its start and its checkerboard; and the networks that conv can be made of."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn
from zoo_conv.conv import Conv
from zoo_conv.networks import NETWORKS
from zoo_conv.upsampling import Up, blur, step_up, sub_pixel

import zoo
from zoo.data import images
from zoo.errors import EvaluationError, SpecError
from zoo.evaluation.checkerboard import checkerboard
from zoo.interfaces import Place

UPS = get_args(Up)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def tiles(y, factor):
    """The pixels of every tile beside each other, (..., p * q)."""
    return y.unfold(2, factor[0], factor[0]).unfold(3, factor[1], factor[1]).flatten(-2)


# -- steps up --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize("factor", [(2, 2), (3, 3), (5, 1), (1, 2)])
def test_every_kind_multiplies_exactly(up, factor):
    assert step_up(3, 2, factor, up)(torch.rand(1, 3, 4, 4)).shape == (1, 2, 4 * factor[0], 4 * factor[1])


def test_icnr_under_normalised_weights_starts_as_nearest_neighbour():
    """fastai's first version set the weights behind the normalisation's back, which the next pass overwrote."""
    step = sub_pixel(3, 2, (2, 2), normed=True)
    y = tiles(step(torch.rand(1, 3, 5, 5)), (2, 2))
    assert torch.equal(y.amax(-1), y.amin(-1))
    assert len(y.unique()) > 2
    plain = tiles(sub_pixel(3, 2, (2, 2), nearest=False, normed=True)(torch.rand(1, 3, 5, 5)), (2, 2))
    assert (plain.amax(-1) - plain.amin(-1)).min() > 0


def test_length_and_direction_of_normalised_weights_are_parameters_of_their_own():
    step = sub_pixel(3, 2, (2, 2), kernel=1, normed=True, rectified=True, blurred=True)
    assert count(step) == 8 * 3 + 8 + 8
    assert [type(layer) for layer in step[1:3]] == [nn.ReLU, type(sub_pixel(1, 1, (2, 2))[1])]
    convolution = step[0]
    with torch.no_grad():
        convolution.parametrizations.weight.original1.mul_(7)  # the direction has no length
    length = convolution.weight.flatten(1).norm(dim=1)
    assert torch.allclose(length, convolution.parametrizations.weight.original0.flatten())


@pytest.mark.parametrize("factor", [(2, 2), (3, 1), (1, 2)])
def test_the_blur_keeps_the_size_and_takes_out_what_repeats(factor):
    smooth = torch.full((1, 1, 6, 6), 0.3)
    stripes = torch.zeros(1, 1, 6, 6)
    stripes[..., :: factor[0], :: factor[1]] = 1
    assert torch.allclose(blur(factor)(smooth), smooth)
    blurred = blur(factor)(stripes)[..., factor[0] - 1 :, factor[1] - 1 :]
    assert torch.allclose(blurred, torch.full_like(blurred, 1 / (factor[0] * factor[1])))


@pytest.mark.parametrize("up", UPS)
def test_beside_a_linear_path_every_kind_starts_at_zero_and_learns(up):
    stage = Conv(Place((3, 8, 8), (4, 2, 2)), width=4, up=up)
    z = torch.randn(2, 4, 2, 2)
    assert stage.decoder.rise(stage.decoder.first(z)).abs().max() == 0
    for _ in range(2):
        stage.zero_grad()
        (stage.decode(z) - torch.rand(2, 3, 8, 8)).square().sum().backward()
        gradients = [parameter.grad for parameter in stage.decoder.rise.parameters()]
        assert all(gradient.isfinite().all() for gradient in gradients)
        with torch.no_grad():
            for parameter, gradient in zip(stage.decoder.rise.parameters(), gradients, strict=True):
                parameter -= 0.01 * gradient
    assert stage.decoder.rise(stage.decoder.first(z)).abs().max() > 0


# -- checkerboards ---------------------------------------------------------------------------------------------------


def test_a_checkerboard_is_all_of_its_energy_and_a_ramp_hardly_any():
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    assert checkerboard(board.float().expand(2, 3, 8, 8), (2, 2)) == pytest.approx(1)
    assert checkerboard(torch.ones(1, 1, 8, 8), (2, 2)) == 0
    blocks = torch.rand(1, 1, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert checkerboard(blocks, (4, 4)) == pytest.approx(0, abs=1e-12)
    mixed = board.float() + 2 * torch.rand(8, 8, generator=torch.Generator().manual_seed(0)).repeat(1, 1, 1, 1)
    assert 0.1 < checkerboard(mixed, (2, 2)) < 0.9


def test_it_is_the_energy_at_the_frequency_of_the_step():
    x = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(1))
    inner = x[0, 0, 4:-4, 4:-4]
    energy = torch.fft.fft2(inner).abs().square()
    energy[0, 0] = 0
    assert checkerboard(x, (4, 4)) == pytest.approx((energy[::4, ::4].sum() / energy.sum()).item(), rel=1e-4)


@pytest.mark.parametrize("shape", [(8, 9), (4, 8)])
def test_images_of_too_few_tiles_are_refused(shape):
    with pytest.raises(EvaluationError, match="whole tiles of 2x2"):
        checkerboard(torch.rand(1, 1, *shape), (2, 2))


def test_at_its_start_a_blurred_icnr_decoder_has_a_third_of_the_checkerboard_of_others_at_most():
    x = images("sample", (1, 28, 28), split="test").batch(torch.arange(16))
    found = {}
    for up in ("shuffle_blur", "transpose_uneven", "shuffle_plain"):
        stacks = [zoo.build(f"28x28x1/conv7x7x4(linear=false, width=8, up={up})", seed=seed).eval() for seed in (0, 1)]
        with torch.inference_mode():
            found[up] = sum(checkerboard(stack.decode(stack.encode(x)), (4, 4)) for stack in stacks)
    assert min(found["transpose_uneven"], found["shuffle_plain"]) >= 3 * found["shuffle_blur"]


# -- networks --------------------------------------------------------------------------------------------------------


def test_the_network_of_the_source_has_its_parameters():
    """Counted by hand from its code: a convolution before a batch normalisation has a bias in the decoder alone."""
    baseline = Conv(Place((3, 32, 32), (1000,)), network="pooled")
    encoder = 27 * 12 + 2 * 24 + 108 * 24 + 2 * 48 + 1536 * 1000 + 1000
    bottleneck = 1000 * 1536 + 1536
    nearest = 48 + (216 * 12 + 12) + 24 + 24 + (108 * 3 + 3) + 6
    assert (count(baseline.encoder), count(baseline.decoder)) == (encoder, bottleneck + nearest) == (1540060, 1540569)
    shuffled = Conv(Place((3, 32, 32), (1000,)), network="pooled", up="shuffle_blur")
    shuffles = (24 * 48 + 48 + 48) + 24 + (12 * 12 + 12 + 12) + 6
    assert (count(shuffled.encoder), count(shuffled.decoder)) == (encoder, bottleneck + shuffles) == (1540060, 1538982)


@pytest.mark.parametrize("up", UPS)
def test_its_pixels_are_clamped_and_its_codes_are_not(up):
    stage = Conv(Place((1, 8, 8), (6,), posterior="gaussian"), network="pooled", width=4, up=up)
    posterior = stage.encode(torch.rand(5, 1, 8, 8))
    x_hat = stage.decode(posterior.mean)
    assert posterior.logvar.shape == (5, 6)
    assert x_hat.shape == (5, 1, 8, 8)
    assert 0 <= x_hat.min() < x_hat.max() <= 1
    above = Conv(Place((4, 8, 8), (6,), pixels=False), network="pooled", width=4, up=up)
    assert above.decode(above.encode(torch.randn(5, 4, 8, 8)).mode).min() < 0
    sigmoid = Conv(Place((1, 8, 8), (6,), output="sigmoid"), network="pooled", width=4, up=up)
    probabilities = sigmoid.decode(torch.randn(5, 6))
    assert 0 < probabilities.min() < probabilities.max() < 1


def test_an_option_that_a_network_does_not_have_is_refused():
    with pytest.raises(SpecError, match=r"network=pooled has no linear, .* it has width, up"):
        zoo.build("32x32x3/conv1000(network=pooled, linear=true)")
    with pytest.raises(SpecError, match=r"ends in a dense bottleneck: conv1000\(network=pooled\)"):
        zoo.build("32x32x3/conv8x8x16(network=pooled)")
    with pytest.raises(SpecError, match="30x32 is not a multiple of 4"):
        zoo.build("30x32x3/conv9(network=pooled)")
    with pytest.raises(SpecError, match="width and hidden are at least 1"):
        zoo.build("32x32x3/conv9(network=pooled, width=0)")


def test_every_network_is_written_out_and_read_back(tmp_path):
    for name in NETWORKS:
        stack = zoo.build(f"8x8x1/conv3(network={name}, width=4)").eval()
        loaded = zoo.load(stack.save(tmp_path / name))
        x = torch.rand(2, 1, 8, 8)
        assert torch.equal(loaded.encode(x), stack.encode(x))
        assert f"network={name}" in str(loaded.level(1).written_out)
