"""The regularizer with a critic: its numbers, its two players in the one trainer, and what is kept of them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from zoo_adversarial.wae_gan import WAEGAN

from zoo.builder import build, load
from zoo.errors import SpecError
from zoo.interfaces import Place, RoundTrip
from zoo.posterior import Posterior
from zoo.training import InterruptedTrainingError, fit
from zoo.training import loop as loops
from zoo.training.players import Player

SPEC = "8x8x1/conv4x4x3(width=4)+wae_gan(width=8, depth=2)/fc4(hidden=[16])+wae_gan(width=8, depth=2)"
VECTOR, MAP = Place((1, 8, 8), (5,)), Place((1, 8, 8), (4, 3, 2))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def squares(count: int = 96) -> torch.Tensor:
    """Images with something to learn: a bright square somewhere."""
    x = torch.zeros(count, 1, 8, 8)
    corners = torch.randint(5, (count, 2), generator=torch.Generator().manual_seed(0)).tolist()
    for image, (row, column) in zip(x, corners, strict=True):
        image[0, row : row + 3, column : column + 3] = 1
    return x


def trip(z: torch.Tensor) -> RoundTrip:
    x = torch.zeros(len(z), 1, 8, 8)
    return RoundTrip(x, Posterior(z), z, x)


def train(spec=SPEC, stack=None, **options):
    options = {"steps": 6, "batch_size": 16, "precision": "fp32", "progress": False, "log_every": 2, **options}
    return fit(stack or build(spec), squares(), **options)


def state(stack) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in stack.state_dict().items()}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class TestNumbers:
    @pytest.mark.parametrize("place", [VECTOR, MAP], ids=["vector", "map"])
    def test_they_are_the_cross_entropies_of_the_paper(self, place):
        term, z = WAEGAN(place, width=8), torch.randn(6, *place.code_shape)
        logits = term.critic(z)
        assert logits.shape == (6, 1)
        number = binary_cross_entropy_with_logits(logits, torch.ones(6, 1))
        torch.testing.assert_close(term(trip(z)), number)
        torch.manual_seed(3)
        loss = term.critic_loss(trip(z))
        torch.manual_seed(3)
        true = term.critic(torch.randn_like(z))
        torch.testing.assert_close(loss, binary_cross_entropy_with_logits(true, torch.ones(6, 1))
                                   + binary_cross_entropy_with_logits(logits, torch.zeros(6, 1)))  # fmt: skip

    @pytest.mark.parametrize("place", [VECTOR, MAP], ids=["vector", "map"])
    def test_the_trick_adds_the_log_density_of_the_prior_image_by_image(self, place):
        term, z = WAEGAN(place, width=8, trick=True), 2 * torch.randn(6, *place.code_shape)
        density = torch.distributions.Normal(0.0, 1.0).log_prob(z).flatten(1).sum(1)
        expected = torch.nn.functional.softplus(-(term.critic(z)[:, 0] + density)).mean()
        torch.testing.assert_close(term(trip(z)), expected)

    @pytest.mark.parametrize("trick", [False, True])
    def test_a_critic_that_has_not_learned_is_undecided(self, trick):
        place = Place((1, 8, 8), (32,))
        terms = [WAEGAN(place, trick=trick) for _ in range(4)]
        z = torch.randn(512, 32)
        numbers = torch.stack([term(trip(z)).detach() for term in terms])
        if not trick:
            assert numbers.sub(math.log(2)).abs().max() < 0.1
        else:  # log p(z) alone varies by sqrt(32 / 2) = 4 about its mean
            assert numbers.max() < 4

    def test_they_are_of_float32_under_autocast(self):
        term, z = WAEGAN(VECTOR, width=8), torch.randn(6, 5)
        with torch.autocast("cpu", torch.bfloat16):
            under = term(trip(z.bfloat16()))
        torch.testing.assert_close(under, term(trip(z.bfloat16().float())), rtol=0, atol=0)

    @pytest.mark.parametrize("trick", [False, True])
    def test_codes_and_critic_meet_at_the_prior(self, trick):
        term = WAEGAN(Place((1, 8, 8), (2,)), width=32, depth=2, trick=trick)
        mean, std = torch.tensor([2.0, -1.0], requires_grad=True), torch.tensor([0.3, 2.0], requires_grad=True)
        encoder = torch.optim.AdamW([mean, std], lr=0.03)
        critic = torch.optim.AdamW(term.critic.parameters(), lr=0.015)
        for step in range(400):
            for group in encoder.param_groups:
                group["lr"] = 0.03 * (1 - step / 400)
            taken = trip(mean + std * torch.randn(128, 2))
            encoder.zero_grad()
            term(taken).backward()
            encoder.step()
            critic.zero_grad()
            term.critic_loss(taken.detach()).backward()
            critic.step()
        torch.testing.assert_close(mean, torch.zeros(2), rtol=0, atol=0.3)
        torch.testing.assert_close(std.abs(), torch.ones(2), rtol=0, atol=0.3)

    @pytest.mark.parametrize("options", [{"depth": 0}, {"width": 0}, {"rate": 0.0}])
    def test_a_critic_without_layers_or_a_rate_is_refused(self, options):
        with pytest.raises(SpecError, match="a critic has layers, and learns"):
            WAEGAN(VECTOR, **options)


class TestPlayers:
    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    @pytest.mark.parametrize("options", [{}, {"loss_in": "pixels", "refine": True}], ids=["codes", "pixels, refined"])
    def test_no_turn_moves_the_weights_or_gradients_of_another(self, precision, options, monkeypatch):
        """Weights, gradients and buffers are copied when a course begins and at the end of every turn.

        So a turn is all that happened since the last one ended, the forward pass before its step too.
        """
        stack, turns, last = build(SPEC), [], {}
        step, begin = Player.step, loops._Run.__init__

        def copied():
            gradients = {f"{name}.grad": parameter.grad for name, parameter in stack.named_parameters()}
            tensors = {**dict(stack.named_parameters()), **gradients, **dict(stack.named_buffers())}
            return {name: torch.empty(0) if it is None else it.detach().clone() for name, it in tensors.items()}

        def begun(run, *arguments):
            begin(run, *arguments)
            last.update(copied())

        def watched(player, *arguments):
            norm = step(player, *arguments)
            own = {id(parameter) for parameter in player.parameters}
            mine = {name for name, parameter in stack.named_parameters() if id(parameter) in own}
            assert {".critic." in name for name in mine} == {player.name != "stage"}
            now = copied()
            moved = {name for name, tensor in now.items() if not torch.equal(tensor, last[name])}
            assert {name.removesuffix(".grad") for name in moved} <= mine
            assert moved & mine
            assert {name for name in moved if name.endswith(".grad")}
            last.update(now)
            turns.append(player.name)
            return norm

        monkeypatch.setattr(loops._Run, "__init__", begun)
        monkeypatch.setattr(Player, "step", watched)
        train(stack=stack, steps=3, precision=precision, **options)
        refined = ["stage", "wae_gan", "1.wae_gan"] if options else []
        assert turns == ["stage", "wae_gan"] * 3 + ["stage", "wae_gan"] * 3 + refined * 3

    def test_the_critic_learns_at_its_own_rate(self, monkeypatch):
        seen, step = {}, Player.step

        def watched(player, *arguments):
            norm = step(player, *arguments)
            seen.setdefault(player.name, []).append({group["lr"] for group in player.optimizer.param_groups})
            return norm

        monkeypatch.setattr(Player, "step", watched)
        train("8x8x1/fc4(hidden=[8], linear=false)+wae_gan(width=8, rate=0.25)")
        for (stage,), (critic,) in zip(seen["stage"], seen["wae_gan"], strict=True):
            assert critic == pytest.approx(0.25 * stage)

    def test_the_last_average_is_kept_whatever_the_critic_says(self, monkeypatch):
        forward, go, runs, rising = WAEGAN.forward, loops._Run.go, [], itertools.count()

        def judged(term, trip):
            return forward(term, trip) + (0 if term.training else 100 * next(rising))

        def gone(run):
            runs.append(run)
            go(run)

        monkeypatch.setattr(WAEGAN, "forward", judged)
        monkeypatch.setattr(loops._Run, "go", gone)
        train("8x8x1/fc4(hidden=[8])+wae_gan(width=8)", steps=20)
        (run,) = runs
        assert next(rising) > 2
        ((_, best),) = run.validation.best
        assert same(best, run.average.state())
        assert all(torch.equal(kept, value) for kept, value in zip(run.average.live, best.values(), strict=True))


class TestKept:
    @pytest.mark.parametrize("stop", [1, 4, 9, 14])
    def test_a_stopped_run_resumes_to_the_same_bits(self, stop, tmp_path, monkeypatch):
        whole = train(out=tmp_path / "whole", refine=True)
        step, taken = loops._Run._step, []

        def stopping(run, progress):
            taken.append(1)
            run.loop.interrupt.asked = len(taken) == stop
            return step(run, progress)

        monkeypatch.setattr(loops._Run, "_step", stopping)
        with pytest.raises(InterruptedTrainingError):
            train(out=tmp_path / "parts", refine=True)
        resumed = train(out=tmp_path / "parts", refine=True, resume=True)
        assert same(state(whole), state(resumed))
        assert any(".critic." in name for name in state(whole))

    def test_a_saved_stack_has_its_critic_and_both_train_on(self, tmp_path):
        first = train(out=tmp_path)
        loaded = load(tmp_path)
        assert same(state(first), state(loaded))
        train(stack=loaded, steps=3)
        moved = {name for name, tensor in state(loaded).items() if not torch.equal(tensor, state(first)[name])}
        assert any(".critic." in name for name in moved)
        assert any(".stage." in name for name in moved)

    @pytest.mark.parametrize("part", ["encoder", "decoder"])
    def test_half_a_stack_loads_too(self, part, tmp_path):
        whole = train(out=tmp_path)
        half = load(tmp_path, part=part)
        x, z = squares(4), torch.randn(4, 4)
        with torch.no_grad():
            if part == "encoder":
                torch.testing.assert_close(half.encode(x), whole.encode(x))
            else:
                torch.testing.assert_close(half.decode(z), whole.decode(z))
