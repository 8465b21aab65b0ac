"""The plugin keeps the contracts of its kinds, and its transform is the one that it says it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from zoo_dct.command import dct_table
from zoo_dct.laplace import Laplace
from zoo_dct.stage import BlockDCT

import zoo
from zoo import Place, Posterior, RoundTrip
from zoo.testing import check_stage, check_term

if TYPE_CHECKING:
    from pathlib import Path

GREY = Place((1, 16, 16), (64, 2, 2))
COLOUR = Place((3, 12, 8), (7, 3, 4))  # oblong blocks, and a third frequency of which one channel alone is kept
CODES = Place((4, 8, 8), (6, 2, 2), pixels=False)


@pytest.mark.parametrize("place", [GREY, COLOUR, CODES], ids=["grey", "colour", "codes"])
def test_the_stage_keeps_its_contract(place: Place) -> None:
    check_stage(BlockDCT, place)


@pytest.mark.parametrize("place", [GREY, CODES, Place((9,), (4,), pixels=False)], ids=["grey", "codes", "vector"])
def test_the_term_keeps_its_contract(place: Place) -> None:
    check_term(Laplace, place)


def test_it_is_the_transform_of_jpeg() -> None:
    """Equation by equation, for the first few coefficients in the order that the standard prints."""
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    found = BlockDCT(Place((1, 8, 8), (6, 1, 1), pixels=False)).double().encode(x).mean.flatten()
    for (v, u), coefficient in zip([(0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (0, 2)], found.tolist(), strict=True):
        total = sum(
            x[0, 0, row, column].item()
            * math.cos((2 * row + 1) * v * math.pi / 16)
            * math.cos((2 * column + 1) * u * math.pi / 16)
            for row in range(8)
            for column in range(8)
        )
        scale = (math.sqrt(1 / 2) if v == 0 else 1) * (math.sqrt(1 / 2) if u == 0 else 1) / 4
        assert coefficient == pytest.approx(scale * total, abs=1e-6)


@pytest.mark.parametrize("place", [GREY, Place((3, 8, 8), (12, 4, 4)), Place((2, 6, 4), (12, 2, 2), pixels=False)])
def test_all_coefficients_are_the_whole_image(place: Place) -> None:
    stage, x = BlockDCT(place), torch.rand(2, *place.input_shape)
    z = stage.encode(x).mean
    torch.testing.assert_close(stage.decode(z), x)
    seen = 2 * x - 1 if place.pixels else x
    torch.testing.assert_close(z.square().sum(), seen.square().sum())


def test_fewer_coefficients_are_a_blurred_image() -> None:
    x = torch.rand(2, 3, 8, 8)
    blurred = BlockDCT(Place((3, 8, 8), (3, 2, 2)))
    torch.testing.assert_close(blurred.decode(blurred.encode(x).mean)[..., 0, 0], x[..., :4, :4].mean((2, 3)))


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("32x32x1/dct", "wants the shape of its code"),
        ("32x32x1/fc64/dct2x2x4", "codes images and maps"),
        ("32x32x1/dct5x4x10", "32x32 does not divide into 5x4 blocks"),
        ("32x32x1/dct4x4x65", "a block of 8x8x1 has 64 coefficients, 65 are asked for"),
        ("32x32x1/dct4x4x64+kl", "put kl and its like on the level above"),
    ],
)
def test_what_it_cannot_be_is_said(spec: str, problem: str) -> None:
    with pytest.raises(zoo.ZooError, match=problem):
        zoo.build(spec)


def test_the_divergence_is_what_sampling_says() -> None:
    """Against the mean of log q - log p over draws; the folded normal is the only part without a textbook formula."""
    mean, logvar = torch.tensor([[0.0, 0.5, -2.0, 3.0]]), torch.tensor([[0.0, -3.0, 0.5, -6.0]])
    posterior = Posterior(mean, logvar)
    trip = RoundTrip(mean, posterior, mean, mean)
    q, p = torch.distributions.Normal(mean, posterior.std), torch.distributions.Laplace(0, math.sqrt(1 / 2))
    z = q.sample((400_000,))
    number = Laplace(Place((9,), (4,)))(trip)
    assert number.item() == pytest.approx((q.log_prob(z) - p.log_prob(z)).sum(2).mean().item(), abs=0.02)


def test_the_prior_is_the_distribution_that_it_says() -> None:
    z = Laplace(Place((9,), (4,))).sample(50_000, torch.Generator().manual_seed(0))
    assert z.mean().item() == pytest.approx(0, abs=0.01)
    assert z.var().item() == pytest.approx(1, abs=0.02)
    assert z.abs().mean().item() == pytest.approx(math.sqrt(1 / 2), abs=0.01)


def test_a_table_of_another_stage_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 8, 8), np.uint8), allow_pickle=False)
    words = ["8x8x1/fc3", "--data", str(tmp_path / "images.npy")]
    with pytest.raises(zoo.ZooError, match="8x8x1/fc3 does not begin with a dct level"):
        dct_table.main(words, standalone_mode=False)


@pytest.mark.parametrize("spec", ["16x16x1/dct2x2x20", "16x16x1/dct4x4x8/dct2x2x9/fc3(hidden=[8])+laplace"])
def test_it_trains_and_comes_back(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone there is nothing to learn; its codes are brought to unit scale all the same."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    x = torch.rand(64, 1, 16, 16)
    stack = zoo.fit(zoo.build(spec), x, steps=2, progress=False, precision="fp32")
    z = stack.encode(x)
    torch.testing.assert_close(
        stack.encode(x, 1).std((0, 2, 3)), torch.ones(stack.level(1).code_shape[0]), rtol=0.1, atol=0
    )
    again = zoo.load(stack.save(tmp_path / "stack"))
    torch.testing.assert_close(again.encode(x), z)
    torch.testing.assert_close(again.decode(z), stack.decode(z))
    assert zoo.load(tmp_path / "stack", part="decoder").decode(z).equal(again.decode(z))
