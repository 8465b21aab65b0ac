"""The three kinds of noise of `conv`, from the spec to samples, under each term that wants a deviation."""

from __future__ import annotations

import pytest
import torch

from zoo.builder import build
from zoo.training import fit

NOISES = ("local", "feature", "shared")
TERMS = ("kl", "mc", "stl")


def ramps(count: int = 256) -> torch.Tensor:
    """Images of 8x8 with two numbers behind each: a slope across and one down."""
    slopes = torch.rand(count, 2, 1, 1, generator=torch.Generator().manual_seed(0))
    line = torch.linspace(0, 1, 8)
    return ((slopes[:, :1] * line + slopes[:, 1:] * line[:, None]) * 127).round() / 255


def stack_of(noise: str, term: str):
    return build(f"8x8x1/conv2x2x3(noise={noise}, width=4, blocks=0)+{term}")


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("noise", NOISES)
def test_a_level_learns_under_it(noise, term):
    x, torch_state = ramps(), torch.get_rng_state()
    stack = stack_of(noise, term)
    level = stack.level(1)
    level.prepare(x)
    level.trained.fill_(True)  # prepared above, so that the start is what it is compared with
    before = objective(level, x)
    fit(stack, x, steps=60, batch_size=32, lr=1e-2, precision="fp32", progress=False)
    assert objective(level, x) < before - 50  # nats
    posterior = stack.posterior(x)
    assert posterior.noise == noise
    assert posterior.logvar.shape == ((256, 3, 2, 2) if noise == "local" else (256, 3))
    assert (stack(x) - x).square().mean() < 0.01 * x.var(0).mean()
    torch.testing.assert_close(drawn(posterior).std((0, 2, 3)), torch.ones(3), rtol=0.1, atol=0)  # folded
    assert stack.sample(3, seed=0).shape == (3, 1, 8, 8)
    assert torch.equal(torch_state, torch.get_rng_state())


@torch.no_grad()
def objective(level, x) -> float:
    """Nats per image: the mean over draws of the sum of the terms."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trips = [level.round_trip(x) for _ in range(8)]
    return sum(float(term(trip)) for trip in trips for term in level.terms.values()) / len(trips)


def drawn(posterior) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.cat([posterior.sample(generator) for _ in range(8)]).detach()
