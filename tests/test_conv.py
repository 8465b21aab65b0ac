"""The convolutional and fully connected stages: shapes, starts, options and refusals."""

from __future__ import annotations

import json

import pytest
import torch
from devices import WithoutFloat64
from torch import nn
from zoo_conv.blocks import factors, step_down
from zoo_conv.conv import Conv
from zoo_conv.fc import FullyConnected
from zoo_conv.projection import principal_components
from zoo_conv.upsampling import Shuffle, icnr, step_up

from zoo.builder import build
from zoo.errors import SpecError
from zoo.interfaces import Place
from zoo.posterior import log_variance
from zoo.training import fit
from zoo.training.validation import Validation


@pytest.mark.parametrize("up", ["shuffle", "nearest", "transpose"])
@pytest.mark.parametrize("norm", ["none", "group", "batch"])
@pytest.mark.parametrize(
    ("shape", "code"),
    [
        ((3, 16, 16), (8, 4, 4)),
        ((1, 28, 28), (10, 7, 7)),
        ((4, 8, 8), (6, 2, 2)),
        ((1, 28, 28), (5,)),
        ((3, 30, 45), (2, 5, 5)),
    ],
)
def test_every_option_goes_there_and_back(shape, code, up, norm):
    stage = Conv(Place(shape, code, pixels=shape[0] != 4, posterior="gaussian"), width=4, up=up, norm=norm)
    x = torch.rand(3, *shape)
    posterior = stage.encode(x)
    assert posterior.mean.shape == (3, *code)
    assert posterior.logvar is not None
    assert stage.decode(posterior.sample()).shape == x.shape


def test_patch_pca_is_where_a_prepared_stage_starts():
    x = torch.rand(200, 3, 8, 8)
    stage = Conv(Place((3, 8, 8), (5, 2, 2)), width=4).eval()
    stage.prepare(x)
    with torch.no_grad():
        z = stage.encode(x).mode
        error = (stage.decode(z) - x).square().mean()
    patches = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(-1, 48)
    singular = torch.linalg.svdvals((patches - patches.mean(0)).double())
    left_out = singular[5:].square().sum() / patches.numel()
    assert error.item() == pytest.approx(left_out.item(), rel=1e-4)
    assert z.std((0, 2, 3)).numpy() == pytest.approx(1.0, rel=1e-2)


def test_components_are_found_where_there_is_no_float64():
    with WithoutFloat64():
        found = principal_components(torch.rand(20, 6, device="meta"), 4)
    assert [(part.device.type, part.dtype) for part in found] == [("meta", torch.float32)] * 3
    assert [part.shape for part in found] == [(6,), (4, 6), (6, 4)]


def test_components_beyond_the_data_are_zero_and_many_inputs_take_the_randomised_way():
    rows = torch.randn(6, 3000)
    _, analysis, synthesis = principal_components(rows, 9)
    assert analysis.shape == (9, 3000)
    assert synthesis.shape == (3000, 9)
    assert analysis[6:].abs().max() == 0
    mean = rows.mean(0)
    back = (rows - mean) @ analysis.T @ synthesis.T + mean
    assert torch.allclose(back, rows, atol=1e-3)


def test_preparing_leaves_the_random_state_alone():
    stage = FullyConnected(Place((2500,), (3,), pixels=False), hidden=())
    torch.manual_seed(1)
    before = torch.get_rng_state()
    stage.prepare(torch.zeros(4, 2500).normal_(generator=torch.Generator().manual_seed(0)))
    assert torch.equal(before, torch.get_rng_state())


def test_trained_map_takes_other_sizes_and_a_dense_bottleneck_refuses_them():
    stage = Conv(Place((3, 16, 16), (8, 4, 4)), width=4)
    z = stage.encode(torch.rand(2, 3, 24, 40)).mode
    assert z.shape == (2, 8, 6, 10)
    assert stage.decode(z).shape == (2, 3, 24, 40)
    with pytest.raises(SpecError, match="multiple of 4"):
        stage.encode(torch.rand(2, 3, 18, 16))
    with pytest.raises(SpecError, match="and nothing else"):
        Conv(Place((1, 8, 8), (3,)), width=4).encode(torch.rand(2, 1, 16, 16))


def test_icnr_starts_as_nearest_neighbour():
    layer = nn.Conv2d(3, 8, 3, padding=1)
    icnr(layer, 4)
    y = Shuffle((2, 2))(layer(torch.rand(1, 3, 5, 5)))
    blocks = y.unfold(2, 2, 2).unfold(3, 2, 2)
    assert torch.equal(blocks.amax((-1, -2)), blocks.amin((-1, -2)))


def test_shuffle_of_uneven_factors_agrees_with_torch_on_even_ones():
    x = torch.rand(2, 12, 3, 3)
    assert torch.equal(Shuffle((2, 2))(x), nn.functional.pixel_shuffle(x, 2))
    assert Shuffle((3, 1))(x).shape == (2, 4, 9, 3)


@pytest.mark.parametrize("factor", [(2, 2), (3, 3), (7, 7), (5, 1), (1, 2)])
def test_steps_divide_and_multiply_exactly(factor):
    small = step_down(2, 3, factor)(torch.rand(1, 2, 4 * factor[0], 4 * factor[1]))
    assert small.shape == (1, 3, 4, 4)
    for up in ("shuffle", "nearest", "transpose"):
        assert step_up(3, 2, factor, up)(small).shape == (1, 2, 4 * factor[0], 4 * factor[1])


def test_a_side_that_does_not_divide_is_refused():
    with pytest.raises(SpecError, match="28 does not divide into 8"):
        factors(28, 8)


@pytest.mark.parametrize(
    ("shape", "code", "message"),
    [
        ((3, 8, 8), None, "shape of its code"),
        ((12,), (4,), "use fc4"),
        ((3, 8, 8), (2, 16, 16), "larger than its input"),
        ((3, 8, 8), (13, 4, 4), "overcomplete=true"),
        ((3, 8, 8), (2, 3, 3), "does not divide"),
    ],
)
def test_what_cannot_be_built_says_why(shape, code, message):
    with pytest.raises(SpecError, match=message):
        Conv(Place(shape, code))


def test_overcomplete_is_built_when_asked_for():
    assert Conv(Place((3, 8, 8), (13, 4, 4)), overcomplete=True).code_shape == (13, 4, 4)
    with pytest.raises(SpecError, match="overcomplete=true"):
        FullyConnected(Place((4,), (5,), pixels=False))


@pytest.mark.parametrize("noise", ["feature", "shared"])
def test_one_deviation_a_feature(noise):
    stage = Conv(Place((3, 16, 16), (8, 4, 4), posterior="gaussian"), noise=noise, width=4)
    posterior = stage.encode(torch.rand(2, 3, 16, 16))
    assert posterior.noise == noise
    assert posterior.logvar.shape == (2, 8)


def test_without_the_linear_path_it_is_a_plain_autoencoder():
    stage = Conv(Place((3, 16, 16), (8, 4, 4)), linear=False, width=4)
    stage.prepare(torch.rand(10, 3, 16, 16))
    x = torch.rand(2, 3, 16, 16)
    assert stage.encode(x).mode.std() > 0
    assert not any("linear" in name for name, _ in stage.named_parameters())


def test_sigmoid_output_is_a_probability():
    for stage in (
        Conv(Place((1, 8, 8), (3, 2, 2), output="sigmoid"), width=4),
        FullyConnected(Place((1, 8, 8), (3,), output="sigmoid"), hidden=(8,)),
    ):
        x_hat = stage.decode(torch.randn(4, *stage.code_shape))
        assert x_hat.min() > 0
        assert x_hat.max() < 1


@pytest.mark.parametrize("spec", ["fc3", "conv3(width=4)", "conv2x2x3(width=4, linear=false)"])
def test_a_probability_near_one_is_told_from_one_in_bf16(spec):
    """In eight bits of fraction a sigmoid is 1 from a number of 6.3 on, and then has no gradient."""
    stage = build(f"8x8x1/{spec}+bernoulli").level(1).stage
    z = torch.cat([10**scale * torch.randn(64, *stage.code_shape) for scale in (0, 0.5, 1, 1.5, 2)]).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        x_hat = stage.decode(z)
    assert x_hat.dtype == torch.float32
    high = x_hat[(x_hat > 0.999) & (x_hat < 1)]
    assert len(high) > 10
    assert torch.autograd.grad(high.sum(), z)[0].any()


def test_noise_that_is_laid_over_a_map_is_refused_for_numbers():
    with pytest.raises(SpecError, match="conv10 codes to numbers"):
        build("28x28x1/conv10(noise=shared)+kl")
    assert build("28x28x1/conv10(noise=local)+kl").level(1).stage.noise == "local"


def test_no_input_makes_a_variance_that_ends_a_run():
    stage = FullyConnected(Place((4,), (2,), pixels=False, posterior="gaussian"), hidden=(8,))
    with torch.no_grad():
        stage.encoder.logvar.weight.fill_(1e3)
    posterior = stage.encode(1e4 * torch.ones(1, 4))
    assert posterior.logvar.max() <= 2
    assert log_variance(torch.tensor([-100.0, 0.0])).tolist() == pytest.approx([-104.0, -4.0], abs=0.01)


@pytest.mark.parametrize(("rows", "count", "exactly"), [(64, 8, True), (64, 2, False), (20, 8, False)])
def test_many_components_of_enough_rows_are_exact(monkeypatch, rows, count, exactly):
    monkeypatch.setattr("zoo_conv.projection.EXACT_UP_TO", 8)
    monkeypatch.setattr("zoo_conv.projection.MANY_UP_TO", 32)
    drawn, lowrank = [], torch.svd_lowrank
    monkeypatch.setattr(torch, "svd_lowrank", lambda *a, **k: drawn.append(1) or lowrank(*a, **k))
    x = torch.randn(rows, 24, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -1, 24)
    mean, analysis, synthesis = principal_components(x, count)
    assert bool(drawn) is not exactly
    told = (torch.linalg.svdvals(x - x.mean(0))[count:].square().sum() / x.numel()).item()
    error = ((x - mean) @ analysis.T @ synthesis.T + mean - x).square().mean().item()
    assert error == pytest.approx(told, rel=1e-3 if exactly else 0.1)


LINEAR = ("encoder.linear.", "decoder.linear.")


@pytest.fixture
def last(monkeypatch):
    """The last weights are kept, whatever others had for a loss."""
    monkeypatch.setattr("zoo.training.looks.VALIDATIONS", 1)
    monkeypatch.setattr(Validation, "start", lambda _: None)


NOISE = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def linear_path(stack, number=1):
    stage = stack.level(number).stage
    return {name: value.clone() for name, value in stage.state_dict().items() if name.startswith(LINEAR)}


def moved(before, after):
    return max((after[name] - value).abs().max().item() for name, value in before.items())


def trained(spec, steps, **options):
    return fit(build(spec), NOISE, steps=steps, batch_size=16, progress=False, **options)


@pytest.mark.usefixtures("last")
@pytest.mark.parametrize("top", ["conv2x2x3", "conv6", "fc3(hidden=[8])+wae_mmd"])
def test_components_of_codes_stay_while_a_level_is_trained_for_the_first_time(top, tmp_path):
    trained("8x8x1/conv4x4x4(width=4)", 3, out=tmp_path)
    one, many = (trained(f"folder({json.dumps(str(tmp_path))})/{top}", steps, ema=0.0) for steps in (1, 9))
    assert linear_path(one, 2)
    assert all(torch.equal(value, linear_path(many, 2)[name]) for name, value in linear_path(one, 2).items())
    rest = [stack.level(2).stage.state_dict() for stack in (one, many)]
    assert any(not torch.equal(value, rest[1][name]) for name, value in rest[0].items())


@pytest.mark.usefixtures("last")
@pytest.mark.parametrize("spec", ["8x8x1/conv2x2x3(width=4)", "8x8x1/conv6(width=4)", "8x8x1/fc3(hidden=[8])+wae_mmd"])
def test_components_of_images_learn_slowly_while_a_level_is_trained_for_the_first_time(spec):
    start, after = (trained(spec, steps, ema=0.0, lr=lr, optimizer="adam", schedule="constant", weight_decay=0.0)
                    for steps, lr in ((1, 1e-9), (9, 0.1)))  # fmt: skip
    assert 0 < moved(linear_path(start), linear_path(after)) <= 1.5 * 9 * 0.1 * 0.01


@pytest.mark.usefixtures("last")
@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ("8x8x1/fc3(hidden=[8])+kl", {}),
        ("8x8x1/fc3(hidden=[8])+bernoulli", {}),
        ("8x8x1/fc3(hidden=[8])", {"corrupt": "noise=0.3"}),
    ],
)
def test_they_learn_at_the_full_rate_where_they_are_not_what_is_asked_for(spec, options):
    start, after = (trained(spec, steps, ema=0.0, lr=lr, schedule="constant", **options)
                    for steps, lr in ((1, 1e-9), (3, 0.1)))  # fmt: skip
    assert moved(linear_path(start), linear_path(after)) > 0.05  # a step of Adam is about the rate


@pytest.mark.usefixtures("last")
@pytest.mark.parametrize(("options", "rate"), [({"level": 1}, 0.1), ({"level": 2}, 0.1), ({"refine": True}, 0.01)])
def test_they_learn_at_the_full_rate_when_a_level_trains_on(options, rate):
    stack = trained("8x8x1/conv2x2x3(width=4)/fc3(hidden=[8])", 3)
    before = [linear_path(stack, number) for number in (1, 2)]
    fit(stack, NOISE, steps=3, batch_size=16, ema=0.0, lr=0.1, schedule="constant", progress=False, **options)
    wide = [moved(path, linear_path(stack, number)) > rate / 2 for number, path in enumerate(before, 1)]
    assert wide == [options.get("level", 1) == 1, options.get("level", 2) == 2]


@pytest.mark.usefixtures("last")
def test_components_of_codes_learn_where_the_loss_is_in_pixels(tmp_path):
    trained("8x8x1/conv2x2x3(width=4)", 3, out=tmp_path)
    above = f"folder({json.dumps(str(tmp_path))})/fc3(hidden=[8])"
    start, after = (
        linear_path(trained(above, steps, ema=0.0, lr=lr, schedule="constant", loss_in="pixels"), 2)
        for steps, lr in ((1, 1e-9), (3, 0.1))
    )
    assert moved(start, after) > 0.05
