"""The check of a term passes a good one and tells a broken one what it breaks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.errors import TrainingError
from zoo.interfaces import Place, Reconstruction, Regularizer, RoundTrip
from zoo.posterior import Posterior
from zoo.testing import ConformanceError, check_term

SMALL = Place((1, 8, 8), (5,))


class Squares(Reconstruction):
    """A good reconstruction."""

    source = "Nobody (2020). A test."
    positional = "weight"

    def __init__(self, place, *, weight: float = 1.0):
        super().__init__(place, weight)

    def forward(self, trip):
        if trip.x.shape != trip.x_hat.shape:
            raise ValueError("shapes differ")
        return (trip.x.float() - trip.x_hat.float()).square().flatten(1).sum(1).mean()


class NoWeight(Squares):
    positional = None

    def __init__(self, place):
        super().__init__(place)


class DeafWeight(Squares):
    def __init__(self, place, *, weight: float = 1.0):
        super().__init__(place)


class Weighted(Squares):
    def forward(self, trip):
        return self.weight * super().forward(trip)


class Vector(Squares):
    def forward(self, trip):
        return (trip.x - trip.x_hat).square().flatten(1).sum(1)


class HalfPrecision(Squares):
    def forward(self, trip):
        return (trip.x - trip.x_hat).square().flatten(1).sum(1).mean()


class Summed(Squares):
    def forward(self, trip):
        return super().forward(trip) * len(trip.x)


class Detached(Squares):
    def forward(self, trip):
        return super().forward(trip.detach()) + trip.x_hat.float().sum() * 0


class Distance(Squares):
    def forward(self, trip):
        return super().forward(trip).sqrt()


class Broadcasting(Squares):
    def forward(self, trip):
        return (trip.x.float() - trip.x_hat.float()).square().flatten(1).sum(1).mean()


class IdleParameter(Squares):
    def __init__(self, place, *, weight: float = 1.0):
        super().__init__(place, weight=weight)
        self.temperature = nn.Parameter(torch.ones(()))


BROKEN_RECONSTRUCTIONS = {
    NoWeight: "building it with weight=2.5 raises TypeError",
    DeafWeight: "weight=2.5 makes weight 1.0",
    Weighted: "multiplies by its weight",
    Vector: r"has shape \(6,\), not \(\)",
    HalfPrecision: "bf16 trip is torch.bfloat16",
    Summed: "grows with the batch",
    Detached: "no gradient reaches x_hat",
    Distance: "gradient is NaN or infinite, x_hat is x",
    Broadcasting: "an x_hat of another shape",
    IdleParameter: "reaches temperature",
}


def test_a_good_reconstruction_passes():
    check_term(Squares, SMALL)


@pytest.mark.parametrize("cls", BROKEN_RECONSTRUCTIONS)
def test_a_broken_reconstruction_is_told_what_it_breaks(cls):
    with pytest.raises(ConformanceError, match=BROKEN_RECONSTRUCTIONS[cls]):
        check_term(cls, SMALL)


class Viewing(Squares):
    def forward(self, trip):
        error = (trip.x.float() - trip.x_hat.float()).square()
        if trip.x.shape != trip.x_hat.shape:
            raise ValueError("shapes differ")
        return error.view(len(error), -1).sum(1).mean()


def test_maps_are_laid_as_the_trainer_lays_them():
    place = Place((3, 8, 8), (5,))
    check_term(Squares, place)
    with pytest.raises(ConformanceError, match=r"forward on cpu, channels last.* raises RuntimeError: view size"):
        check_term(Viewing, place)


def test_a_term_is_told_its_code_shape():
    with pytest.raises(ConformanceError, match="code shape"):
        check_term(Squares, Place((1, 8, 8)))


class Adversary(Regularizer):
    """A good regularizer with a critic."""

    source = "Nobody (2020). A test."
    positional = "weight"

    def __init__(self, place, *, weight: float = 1.0):
        super().__init__(place, weight)
        size = torch.Size(place.code_shape).numel()
        self.critic = nn.Sequential(nn.Linear(size, 8), nn.SiLU(), nn.Linear(8, 1))

    def forward(self, trip):
        return nn.functional.softplus(-self.critic(trip.z.float().flatten(1)).float()).mean()

    def critic_loss(self, trip):
        codes = trip.z.float().flatten(1)
        real, fake = self.critic(torch.randn_like(codes)).float(), self.critic(codes).float()
        return (nn.functional.softplus(-real) + nn.functional.softplus(fake)).mean()


class DeafCritic(Adversary):
    def critic_loss(self, trip):
        return super().critic_loss(trip).detach() + 0 * self.critic[0].bias.sum()


class SilentCritic(Adversary):
    critic_loss = Regularizer.critic_loss


class Greedy(Adversary):
    def __init__(self, place, *, weight: float = 1.0):
        super().__init__(place, weight=weight)
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, trip):
        return super().forward(trip) * self.gain

    def critic_loss(self, trip):
        return super().critic_loss(trip) * self.gain


class FixedPrior(Adversary):
    def sample(self, n, generator=None):
        return torch.randn(n, *self.place.code_shape)


class WidePrior(Adversary):
    def sample(self, n, generator=None):
        return 9 * super().sample(n, generator)


class WrongPrior(Adversary):
    def sample(self, n, generator=None):
        return super().sample(n, generator).flatten(1)[:, 1:]


class RoundedCode(Adversary):
    def draw(self, posterior):
        return posterior.mean.detach().round()


class Believer(Adversary):
    posterior = "gaussian"


BROKEN_REGULARIZERS = {
    DeafCritic: "no gradient of critic_loss reaches critic.0.weight",
    SilentCritic: "owns a critic but no critic_loss",
    Greedy: "critic_loss sends a gradient to gain",
    FixedPrior: "sample ignores its generator",
    WidePrior: "prior has scale 8.9",
    WrongPrior: r"sample\(3\) has shape \(3, 4\), not \(3, 5\)",
    RoundedCode: "no gradient reaches the posterior|does not require grad",
    Believer: "gives the number .* for a point posterior",
}


class Careful(Adversary):
    """A good one that says for itself that it needs a deviation, wherever it is asked."""

    posterior = "gaussian"

    def draw(self, posterior):
        if posterior.logvar is None:
            raise TrainingError("without a deviation there is nothing to draw from")
        return posterior.sample()


def test_a_refusal_while_the_code_is_drawn_is_one():
    check_term(Careful, SMALL)


class ViewingCritic(Adversary):
    def critic_loss(self, trip):
        trip.z.view(len(trip.z), -1)
        return super().critic_loss(trip)


class Doubting(Adversary):
    """By a hinge loss, summed: while its logits are within the margins, what a bias is told adds up to 0 exactly."""

    def critic_loss(self, trip):
        codes = trip.z.float().flatten(1)
        real, fake = self.critic(torch.randn_like(codes)).float(), self.critic(codes).float()
        return nn.functional.relu(1 - real).sum() + nn.functional.relu(1 + fake).sum()


def test_a_critic_that_doubts_is_no_broken_one():
    term, codes = Doubting(SMALL), torch.randn(6, *SMALL.code_shape)
    term.critic_loss(RoundTrip(codes, Posterior(codes), codes, codes)).backward()
    assert not term.critic[-1].bias.grad.any()
    check_term(Doubting, SMALL)


def test_a_critic_learns_from_maps_as_they_are_laid():
    with pytest.raises(ConformanceError, match=r"critic_loss on cpu, channels last.* raises RuntimeError: view size"):
        check_term(ViewingCritic, Place((3, 16, 16), (4, 4, 4)))


def test_a_good_regularizer_with_a_critic_passes():
    check_term(Adversary, SMALL)
    check_term(Adversary, Place((3, 16, 16), (4, 4, 4)))


@pytest.mark.parametrize("cls", BROKEN_REGULARIZERS)
def test_a_broken_regularizer_is_told_what_it_breaks(cls):
    with pytest.raises(ConformanceError, match=BROKEN_REGULARIZERS[cls]):
        check_term(cls, SMALL)


def test_the_check_leaves_the_random_state_alone_and_refuses_another_kind():
    state = torch.random.get_rng_state()
    check_term(Adversary, SMALL)
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(ConformanceError, match="is not a Reconstruction"):
        check_term(nn.MSELoss, SMALL)
