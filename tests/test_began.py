"""The head in balance: its equations, its two players in the one trainer, its three modes, and what is kept."""

from __future__ import annotations

import json

import pytest
import torch
from zoo_began.began import Began

from zoo.builder import build, load
from zoo.errors import EvaluationError, SpecError
from zoo.interfaces import HeadBatch, Place
from zoo.stack import Stack
from zoo.training import HISTORY, InterruptedTrainingError, fit
from zoo.training import loop as loops
from zoo.training.players import Player

MAP, VECTOR, IMAGE = Place((3, 4, 6), pixels=False), Place((9,), pixels=False), Place((1, 8, 8))
RUNGS = Place((3, 2), pixels=False)
HEAD = "began(3, width=8, rate=0.5"
CODES, PIXELS, FULL = f"8x8x1/conv4x4x3(width=4)/{HEAD})", f"8x8x1/fc6(hidden=[8])/{HEAD}, mode=pixels)", (
    f"8x8x1/{HEAD})"
)  # fmt: skip


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


def train(spec=CODES, stack=None, **options):
    options = {"steps": 6, "batch_size": 16, "precision": "fp32", "progress": False, "log_every": 2, **options}
    return fit(stack or build(spec), squares(), **options)


def state(module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def error(v, back):
    """l of the paper."""
    return (v - back).abs().mean()


class TestEquations:
    @pytest.mark.parametrize("place", [MAP, VECTOR, RUNGS, IMAGE], ids=["map", "vector", "rungs", "image"])
    def test_they_are_those_of_the_paper(self, place):
        head = Began(place, gamma=0.6, lambda_k=0.1).train()
        head.k.fill_(0.25)
        x, size = torch.rand(5, *place.input_shape), torch.Size(place.input_shape).numel()
        torch.manual_seed(3)
        losses = [head.loss(HeadBatch(x)), head.critic_loss(HeadBatch(x))]
        torch.manual_seed(3)
        for_g, for_d = (head.generator(2 * torch.rand(5, head.z) - 1) for _ in range(2))
        real, fake = error(x, head.critic(x)), error(for_d, head.critic(for_d))
        torch.testing.assert_close(losses[0], size * error(for_g, head.critic(for_g)))
        torch.testing.assert_close(losses[1], size * (real - 0.25 * fake))
        torch.testing.assert_close(head.k, (0.25 + 0.1 * (0.6 * real - fake)).detach())
        torch.testing.assert_close(head.M, (real + (0.6 * real - fake).abs()).detach())

    def test_in_pixels_frozen_maps_stand_behind_the_generator_and_around_the_autoencoder(self):
        head, images = Began(VECTOR, mode="pixels").train(), torch.rand(5, 2, 3, 3)
        head.k.fill_(0.5)
        head.emphasise(torch.linspace(0.5, 1.5, 9))
        into, out = torch.randn(18, 9), torch.randn(9, 18)

        def encode(x):
            return x.flatten(1) @ into

        def decode(z):
            return (z @ out).unflatten(1, (2, 3, 3))

        def critic(x):
            return decode(head.critic(encode(x) * head.emphasis) / head.emphasis)

        batch = HeadBatch(encode(images), None, images, encode, decode)
        torch.manual_seed(3)
        losses = [head.loss(batch), head.critic_loss(batch)]
        torch.manual_seed(3)
        made = (head.generator(2 * torch.rand(5, head.z) - 1) for _ in range(2))
        for_g, for_d = (decode(codes / head.emphasis) for codes in made)
        torch.testing.assert_close(losses[0], 18 * error(for_g, critic(for_g)))
        real, fake = error(images, critic(images)), error(for_d, critic(for_d))
        torch.testing.assert_close(losses[1], 18 * (real - 0.5 * fake))

    def test_in_eval_mode_the_loss_is_the_measure_and_nothing_moves(self):
        head, x = Began(MAP).eval(), torch.randn(6, 3, 4, 6)
        before = state(head)
        torch.manual_seed(3)
        measured = head.loss(HeadBatch(x))
        torch.manual_seed(3)
        head.critic_loss(HeadBatch(x))
        assert same(state(head), before)
        torch.manual_seed(3)
        head.train().critic_loss(HeadBatch(x))
        torch.testing.assert_close(measured, 72 * head.M)

    @pytest.mark.parametrize(("at", "gamma", "lambda_k", "to"), [(0.9, 1.0, 1e6, 1.0), (0.1, 1e-6, 1e6, 0.0)])
    def test_k_stays_between_0_and_1(self, at, gamma, lambda_k, to):
        head = Began(VECTOR, gamma=gamma, lambda_k=lambda_k).train()
        head.k.fill_(at)
        with torch.no_grad():
            head.generator[-1].weight.mul_(1e-3 if to else 1e3)
            head.critic.decoder[-1].weight.mul_(1e-3)
        head.critic_loss(HeadBatch(torch.randn(8, 9)))
        assert head.k == to

    def test_both_players_draw_from_one_prior(self):
        head, drawn = Began(VECTOR).train(), []
        head.generator.register_forward_pre_hook(lambda _, inputs: drawn.append(inputs[0]))
        batch = HeadBatch(torch.randn(4000, 9))
        head.loss(batch)
        head.critic_loss(batch)
        head.sample(4000)
        for z in drawn:
            assert z.shape == (4000, 3)
            torch.testing.assert_close(z.mean(), torch.tensor(0.0), rtol=0, atol=0.03)
            torch.testing.assert_close(z.var(), torch.tensor(1 / 3), rtol=0, atol=0.02)
            assert z.abs().max() <= 1
        assert len(drawn) == 3

    def test_what_is_generated_comes_to_be_like_the_codes(self):
        codes = torch.randn(256, 1).sign() * torch.tensor([[2.0, -1.0, 0.5, 0, 0, 0]]) + 0.1 * torch.randn(256, 6)
        head = Began(Place((6,), pixels=False), z=2, width=32, lambda_k=0.05).train()
        players = {
            critic: torch.optim.Adam(
                [value for name, value in head.named_parameters() if name.startswith("critic") is critic],
                lr=4e-3 * (head.critic_rate if critic else 1),
                betas=(head.momentum, 0.95),
            )
            for critic in (False, True)
        }
        first = head.eval().loss(HeadBatch(codes)).item()
        head.train()
        for _ in range(300):
            batch = HeadBatch(codes[torch.randint(256, (64,))])
            for critic, player in players.items():
                player.zero_grad()
                (head.critic_loss if critic else head.loss)(batch).div(6).backward()
                player.step()
        assert head.eval().loss(HeadBatch(codes)).item() < 0.5 * first
        nearest = torch.cdist(head.sample(200), codes).min(1).values
        assert nearest.median() < 0.6  # a code from N(0, I) is 2 away


class TestWhereItStands:
    def test_its_numbers_follow_the_code(self):
        assert [Began(place).z for place in (Place((64, 8, 8), pixels=False), VECTOR, IMAGE)] == [64, 3, 8]
        assert Began(Place((64, 8, 8), pixels=False)).width == 64
        assert Began(MAP, z=17, width=5).generator[0].in_features == 17

    def test_full_is_built_of_the_same_blocks_down_to_the_same_4x4(self):
        small, full = (Began(place, width=8) for place in (Place((64, 8, 8), pixels=False), Place((3, 64, 64))))
        assert small.generator[0].out_features == full.generator[0].out_features == 8 * 4 * 4

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ("8x8x1/began(mode=codes)", "on the images themselves it is mode=full"),
            ("8x8x1/began(mode=pixels)", "on the images themselves it is mode=full"),
            ("8x8x1/fc4/began(mode=full)", "stands on the images"),
            ("8x8x1/fc4/began(mode=image)", "mode wants codes or pixels or full"),
            ("8x8x1/fc4/began(0)", "z, width and blocks are at least 1"),
            ("8x8x1/fc4/began(gamma=0)", "gamma is above 0 and at most 1"),
            ("8x8x1/fc4/began(rate=0)", "lambda_k and rate are above 0"),
        ],
    )
    def test_what_cannot_be_is_refused(self, spec, words):
        with pytest.raises(SpecError, match=words):
            build(spec)

    def test_it_knows_no_labels(self):
        with pytest.raises(EvaluationError, match="began knows no labels and cannot draw label 3"):
            build(CODES).sample(2, label=3)

    def test_the_spec_holds_what_was_settled(self):
        assert "mode=codes" in str(build(CODES).head.item)
        assert "mode=full" in str(build(FULL).head.item)


class TestPlayers:
    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    @pytest.mark.parametrize("spec", [CODES, PIXELS, FULL], ids=["codes", "pixels", "full"])
    def test_no_turn_moves_the_weights_or_gradients_of_another(self, spec, precision, monkeypatch):
        """Weights and gradients are copied when the head's course begins and at the end of every turn."""
        stack, turns, last = build(spec), [], {}
        step, begin = Player.step, loops._Run.__init__

        def copied():
            gradients = {f"{name}.grad": parameter.grad for name, parameter in stack.named_parameters()}
            tensors = {**dict(stack.named_parameters()), **gradients}
            return {name: torch.empty(0) if it is None else it.detach().clone() for name, it in tensors.items()}

        def begun(run, *arguments):
            begin(run, *arguments)
            last.update(copied())

        def watched(player, *arguments):
            norm = step(player, *arguments)
            own = {id(parameter) for parameter in player.parameters}
            mine = {name for name, parameter in stack.named_parameters() if id(parameter) in own}
            assert {name.startswith("head.critic.") for name in mine} == {player.name == "head"}
            now = copied()
            moved = {name for name, tensor in now.items() if not torch.equal(tensor, last[name])}
            assert {name.removesuffix(".grad") for name in moved} == mine
            last.update(now)
            turns.append(player.name)
            return norm

        monkeypatch.setattr(loops._Run, "__init__", begun)
        train(stack=stack, steps=2, precision=precision, level=1) if stack.levels else None
        monkeypatch.setattr(Player, "step", watched)
        train(stack=stack, steps=3, precision=precision, level=len(stack.levels) + 1)
        assert turns == ["stage", "head"] * 3

    def test_rate_and_momentum_are_its_own(self, monkeypatch):
        seen, step = {}, Player.step

        def watched(player, *arguments):
            norm = step(player, *arguments)
            seen[player.name] = {(group["lr"], group["betas"]) for group in player.optimizer.param_groups}
            return norm

        monkeypatch.setattr(Player, "step", watched)
        train(FULL)
        (stage,), (critic,) = seen["stage"], seen["head"]
        assert critic[0] == pytest.approx(0.5 * stage[0])
        assert stage[1] == critic[1] == (0.5, 0.95)

    def test_the_critics_loss_is_of_the_size_of_an_image_in_pixels(self, monkeypatch):
        sizes, step = [], Player.step

        def watched(player, loss, *arguments):
            sizes.append((player.name, loss.item()))
            return step(player, loss, *arguments)

        monkeypatch.setattr(Player, "step", watched)
        stack = build(PIXELS)
        train(stack=stack, steps=1)
        assert 0 < dict(sizes)["head"] < 1  # k is 0 in the first step, so this is the mean error of a pixel


class TestModes:
    @pytest.mark.parametrize(
        ("spec", "options", "phase"),
        [
            (CODES, {}, "codes"),
            (CODES, {"loss_in": "pixels"}, "pixels"),
            (PIXELS, {}, "pixels"),
            (FULL, {}, "codes"),
            (FULL, {"loss_in": "pixels"}, "pixels"),
            (f"8x8x1/conv4x4x3(width=4)/fc6(hidden=[8])+kl/{HEAD})", {}, "codes"),
        ],
    )
    def test_the_loss_lives_where_the_spec_or_the_run_says(self, spec, options, phase, tmp_path):
        stack = train(spec, out=tmp_path, **options)
        lines = [json.loads(line) for line in (tmp_path / HISTORY).read_text().splitlines()]
        heads = [line for line in lines if line["level"] == len(stack.levels) + 1]
        assert {line["phase"] for line in heads} == {phase}
        told = [line["measures"] for line in heads if "terms" in line]
        assert all(0 <= line["k"] <= 1 and line["M"] > 0 for line in told)
        assert told[-1] == {"M": stack.head.M.item(), "k": stack.head.k.item()}
        images = stack.sample(3, seed=1)
        assert images.shape == (3, 1, 8, 8)
        assert images.min() >= 0
        assert images.max() <= 1

    def test_a_head_trained_in_codes_trains_on_in_pixels(self):
        stack = train(CODES, steps=20)
        levels, before, k = state(stack.levels), state(stack.head), stack.head.k.item()
        train(stack=stack, level=2, steps=4, loss_in="pixels")
        assert same(state(stack.levels), levels)
        after = state(stack.head)
        assert torch.equal(after["emphasis"], before["emphasis"])
        assert not torch.equal(after["generator.0.weight"], before["generator.0.weight"])
        assert not torch.equal(after["critic.encoder.1.weight"], before["critic.encoder.1.weight"])
        assert 0 < abs(stack.head.k.item() - k) < 0.05

    def test_features_count_as_they_do_in_the_image(self, monkeypatch):
        told, sensitivity = [], Stack.sensitivity

        def watched(stack, z, levels):
            told.append(sensitivity(stack, z, levels))
            return told[-1]

        monkeypatch.setattr(Stack, "sensitivity", watched)
        stack = train(CODES)
        assert torch.equal(stack.head.emphasis, told[-1])
        assert stack.head.emphasis.shape == (3, 1, 1)
        train("8x8x1/conv4x4x3(width=4)/normal")
        train(FULL)
        assert len(told) == 1


class TestKept:
    @pytest.mark.parametrize("spec", [CODES, PIXELS], ids=["codes", "pixels"])
    def test_a_stopped_run_resumes_to_the_same_bits(self, spec, tmp_path, monkeypatch):
        whole = train(spec, out=tmp_path / "whole")
        step, taken = loops._Run._step, []

        def stopping(run, progress):
            taken.append(1)
            run.loop.interrupt.asked = len(taken) == 10
            return step(run, progress)

        with monkeypatch.context() as patch:
            patch.setattr(loops._Run, "_step", stopping)
            with pytest.raises(InterruptedTrainingError):
                train(spec, out=tmp_path / "stopped")
        resumed = train(spec, out=tmp_path / "stopped", resume=True)
        assert same(state(resumed), state(whole))
        assert 0 < resumed.head.k <= 1
        one, other = ((tmp_path / name / HISTORY).read_text().splitlines() for name in ("whole", "stopped"))
        assert [json.loads(line).get("measures") for line in one] == [
            json.loads(line).get("measures") for line in other
        ]

    @pytest.mark.parametrize("spec", [CODES, PIXELS, FULL], ids=["codes", "pixels", "full"])
    def test_saved_and_loaded_it_draws_the_same_bits(self, spec, tmp_path):
        stack = train(spec, out=tmp_path)
        loaded = load(tmp_path)
        assert same(state(loaded), state(stack))
        assert torch.equal(loaded.sample(5, seed=2), stack.sample(5, seed=2))
        assert torch.equal(loaded.sample(2, seed=2), load(tmp_path).sample(2, seed=2))
