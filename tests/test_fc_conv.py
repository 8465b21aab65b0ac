"""`fc_conv` and `fc` in the shapes of the Fashion-MNIST VAE: parameters layer by layer, and what they compute."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo_conv.fc_conv import _FromFeatures, _ToFeatures

from zoo import build, fit
from zoo.errors import SpecError

# Layers of the source's two networks, with a code of 10: weights and biases in the order in which images meet them.
FC_CONV = [
    *((32, 1, 28, 28), (32,), (10, 32, 1, 1), (10,), (10, 32, 1, 1), (10,)),
    *((10, 118, 1, 1), (118,), (118, 1, 28, 28), (1,)),
]
FC = [(400, 784), (400,), (10, 400), (10,), (10, 400), (10,), (400, 10), (400,), (784, 400), (784,)]


def shapes(stack) -> list[tuple[int, ...]]:
    return [tuple(parameter.shape) for parameter in stack.parameters()]


def test_the_source_s_network_layer_by_layer():
    stack = build("28x28x1/fc_conv10+kl+bernoulli")
    assert shapes(stack) == FC_CONV
    assert sum(parameter.numel() for parameter in stack.parameters()) == 119_591


def test_the_source_s_dense_network_is_an_fc():
    stack = build("28x28x1/fc10(hidden=[400], linear=false)+kl+bernoulli")
    assert sorted(shapes(stack)) == sorted(FC)
    assert sum(parameter.numel() for parameter in stack.parameters()) == 640_804


def test_without_a_prior_there_is_no_log_variance():
    assert shapes(build("28x28x1/fc_conv10")) == FC_CONV[:4] + FC_CONV[6:]


@pytest.mark.parametrize(("channels", "kernel"), [(1, (28, 28)), (3, (6, 5))])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_kernels_do_what_convolutions_do(channels, kernel, layout):
    torch.manual_seed(0)
    down, up = _ToFeatures(channels, 7, kernel).to(memory_format=layout), _FromFeatures(7, channels, kernel)
    x = torch.rand(4, channels, *kernel).contiguous(memory_format=layout)
    y = down(x)
    assert y.shape == (4, 7, 1, 1)
    torch.testing.assert_close(y, nn.Conv2d.forward(down, x))
    torch.testing.assert_close(up(y), nn.ConvTranspose2d.forward(up, y))


def test_images_come_back_as_images_and_codes_as_they_are():
    torch.manual_seed(0)
    z = 30 * torch.randn(9, 3)
    image = build("8x6x3/fc_conv3").level(1).stage.decode(z)
    assert image.shape == (9, 3, 8, 6)
    assert 0 <= image.min() < 0.2 < 0.8 < image.max() <= 1
    codes = build("8x8x1/conv4x4x2(width=2)/fc_conv3").level(2).stage.decode(z)
    assert codes.min() < 0 or codes.max() > 1


def test_standardised_inputs_are_those_it_was_trained_on():
    torch.manual_seed(0)
    x = (0.2 + 0.1 * torch.randn(64, 1, 8, 8)).clamp(0, 1)
    plain, standard = (build(f"8x8x1/fc_conv3{options}+kl") for options in ("", "(standardise=true)"))
    fit(standard, x, steps=1, lr=1e-30, progress=False, batch_size=8, ema=0)
    kept = (x * 255).round() / 255
    stage = standard.level(1).stage.encoder
    assert stage.mean_of_inputs.item() == pytest.approx(kept.mean().item(), abs=5e-3)
    assert stage.deviation_of_inputs.item() == pytest.approx(kept.std().item(), abs=5e-3)
    plain.level(1).stage.encoder.load_state_dict(stage.state_dict(), strict=False)
    shifted = (x - stage.mean_of_inputs) / stage.deviation_of_inputs
    torch.testing.assert_close(standard.level(1).stage.encode(x).mean, plain.level(1).stage.encode(shifted).mean)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("28x28x1/fc_conv", "width of its code"),
        ("28x28x1/fc_conv7x7x1", "width of its code"),
        ("28x28x1/fc10/fc_conv4", "a vector of 10"),
        ("28x28x1/fc_conv10(down=0)", "at least one feature"),
        ("4x4x1/fc_conv17", "overcomplete=true"),
    ],
)
def test_what_it_cannot_be(spec, problem):
    with pytest.raises(SpecError, match=problem):
        build(spec)


def test_it_learns():
    torch.manual_seed(0)
    x = torch.zeros(256, 1, 8, 8)
    x[:128, :, :, :4] = 1
    x[128:, :, 4:] = 1
    stack = fit(build("8x8x1/fc_conv2(down=16, up=16)+bernoulli"), x, steps=150, lr=1e-2, batch_size=32, progress=False)
    with torch.inference_mode():
        assert (stack(x) - x).square().mean() < 0.01
