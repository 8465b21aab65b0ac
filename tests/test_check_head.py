"""The check of a head passes a good one and tells a broken one what it breaks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.errors import SpecError
from zoo.interfaces import Head, Place
from zoo.testing import ConformanceError, check_head

PLACE = Place((5,), pixels=False)


class Shifted(Head):
    """A good head: a unit Gaussian with a learned mean, and a critic that does nothing useful."""

    source = "Nobody (2020). A test."
    pixels = False

    def __init__(self, place):
        super().__init__(place)
        self.mean = nn.Parameter(torch.zeros(place.input_shape))
        self.critic = nn.Linear(1, 1)

    def loss(self, batch):
        codes = batch.codes if batch.images is None else batch.encode(batch.images)
        if batch.images is None and self.pixels:
            raise SpecError("my loss is in pixels")
        return (codes - self.mean).square().flatten(1).sum(1).mean().float() / 2

    def critic_loss(self, batch):
        return self.critic(batch.codes.flatten(1).mean(1, keepdim=True)).float().mean().square()

    def sample(self, n, *, label=None, generator=None):
        return self.mean + torch.randn((n, *self.place.input_shape), generator=generator).to(self.mean)


class InPixels(Shifted):
    pixels = True


class WrongCodes(Shifted):
    def sample(self, n, *, label=None, generator=None):
        return super().sample(n + 1, generator=generator)


class OwnNoise(Shifted):
    def sample(self, n, *, label=None, generator=None):
        return super().sample(n)


class LabelCrash(Shifted):
    def sample(self, n, *, label=None, generator=None):
        if label is not None:
            raise KeyError(label)
        return super().sample(n, generator=generator)


class Forgetful(Shifted):
    def prepare(self, codes, labels=None):
        self.offset = codes.mean()

    def loss(self, batch):
        return super().loss(batch) + getattr(self, "offset", 0)


class CriticInLoss(Shifted):
    def critic_loss(self, batch):
        return super().critic_loss(batch) + self.mean.sum() * 2


class Frozen(Shifted):
    def loss(self, batch):
        return super().loss(batch).detach()


class ShyOfLabels(Shifted):
    def prepare(self, codes, labels=None):
        if labels is not None:
            raise KeyError("labels")


class ForgetsWithLabels(Forgetful):
    def prepare(self, codes, labels=None):
        if labels is not None:
            super().prepare(codes, labels)


class ByFeature(Shifted):
    def emphasise(self, sensitivity):
        self.mean.data.mul_(sensitivity[:4])


class ByVectors(Shifted):
    def measures(self):
        return {"mean": self.mean.detach()}


BROKEN_HEADS = {
    WrongCodes: r"sample\(1\) has shape \(2, 5\), not \(1, 5\)",
    OwnNoise: "sample ignores its generator",
    LabelCrash: "draw it or raise a ZooError",
    Forgetful: "state is missing",
    CriticInLoss: "critic_loss sends a gradient to mean",
    Frozen: "no gradient of loss reaches mean",
    ShyOfLabels: r"prepare \(with labels\) raises KeyError",
    ForgetsWithLabels: "state is missing",
    ByFeature: "emphasise raises RuntimeError",
    ByVectors: r"measures\(\)\['mean'\] has shape \(5,\), not \(\)",
}


@pytest.mark.parametrize("cls", [Shifted, InPixels])
def test_a_good_head_passes_in_codes_and_in_pixels(cls):
    check_head(cls, PLACE)


@pytest.mark.parametrize("cls", BROKEN_HEADS)
def test_a_broken_head_is_told_what_it_breaks(cls):
    with pytest.raises(ConformanceError, match=BROKEN_HEADS[cls]):
        check_head(cls, PLACE)


class Viewing(Shifted):
    def loss(self, batch):
        batch.codes.view(len(batch.codes), -1)
        return super().loss(batch)


def test_maps_are_laid_as_the_trainer_lays_them():
    place = Place((3, 4, 4), pixels=False)
    check_head(Shifted, place)
    with pytest.raises(ConformanceError, match=r"loss on cpu, channels last.* raises RuntimeError: view size"):
        check_head(Viewing, place)


def test_the_check_leaves_the_random_state_alone_and_refuses_another_kind():
    state = torch.random.get_rng_state()
    check_head(Shifted, PLACE)
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(ConformanceError, match="is not a Head"):
        check_head(nn.Linear, PLACE)
