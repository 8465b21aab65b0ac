"""Corrupted images: how they are named and made, that the loss compares with the clean ones, and what comes back."""

from __future__ import annotations

import json

import pytest
import torch

from zoo import build, evaluate, fit
from zoo.data import Images
from zoo.data.corruption import Corruption
from zoo.errors import DataError, TrainingError
from zoo.evaluation.restoration import restore
from zoo.experiments.bench import as_file
from zoo.training import Options
from zoo.training.objectives import LevelInCodes, LevelInPixels, WholeStack

TINY = {"steps": 6, "batch_size": 8, "progress": False, "ema": 0.5, "precision": "fp32"}


def squares(count: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


class Reversed:
    """Stands in for a corruption, with nothing random about it."""

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        return 1 - x


class TestWords:
    @pytest.mark.parametrize(
        ("text", "corruption"),
        [
            ("noise=0.3", Corruption(noise=0.3)),
            ("noise", Corruption(noise=0.3)),
            ("mask", Corruption(mask=0.5)),
            (" mask=.25 + noise=2 ", Corruption(noise=2, mask=0.25)),
        ],
    )
    def test_they_are_read_and_written_back(self, text, corruption):
        assert Corruption.parse(text) == corruption
        assert Corruption.parse(str(corruption)) == corruption

    @pytest.mark.parametrize(
        "text",
        ["", "+", "blur", "noise+", "noise=", "noise=x", "noise=-1", "noise=0", "mask=0", "mask=1", "mask=1.5",
         "noise+noise=0.1", "mask0.5", "noise=1e3", "noise=inf"],
    )  # fmt: skip
    def test_others_are_refused(self, text):
        with pytest.raises(DataError, match="corrupt="):
            Corruption.parse(text)

    def test_options_hear_of_it_at_once(self):
        assert Options(corrupt="mask").corruption == Corruption(mask=0.5)
        assert Options().corruption is None
        with pytest.raises(DataError, match="corrupt='blur'"):
            Options(corrupt="blur")


class TestMaking:
    def test_noise_has_its_deviation_and_stays_within_images(self):
        x = torch.full((200, 3, 8, 8), 0.5)
        seen = Corruption(noise=0.05).apply(x, torch.Generator().manual_seed(0))
        assert (seen - x).std().item() == pytest.approx(0.05, rel=0.02)
        assert (seen - x).mean().item() == pytest.approx(0, abs=1e-3)
        loud = Corruption(noise=5).apply(x)
        assert (loud.min(), loud.max()) == (0, 1)

    def test_a_mask_takes_whole_pixels_one_by_one(self):
        x = 0.1 + 0.9 * torch.rand(200, 3, 8, 8)
        seen = Corruption(mask=0.3).apply(x, torch.Generator().manual_seed(0))
        gone = seen == 0
        assert torch.equal(gone.any(1), gone.all(1))
        assert gone.float().mean().item() == pytest.approx(0.3, abs=0.02)
        assert torch.equal(seen[~gone], x[~gone])
        assert gone.flatten(1).float().mean(1).std() > 0.01  # not one mask for all

    def test_what_went_in_is_left_alone_and_a_seed_repeats_it(self):
        x, corruption = squares(), Corruption(noise=0.3, mask=0.5)
        before = x.clone()
        one, again, other = (corruption.apply(x, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        assert torch.equal(x, before)
        assert torch.equal(one, again)
        assert not torch.equal(one, other)


class TestLoss:
    def test_the_clean_image_is_what_comes_back_is_compared_with(self):
        stack, x = build("8x8x1/fc4(hidden=[8])+mse", seed=0), squares(8)
        learner = LevelInCodes(stack, 1)
        learner.corruption = Reversed()
        level = stack.level(1)
        expected = (level.decode(level.encode(1 - x).mode) - x).square().flatten(1).sum(1).mean()
        torch.testing.assert_close(learner(x).terms["mse"], expected)
        learner.corruption = None
        assert learner(x).terms["mse"] != expected

    def test_and_so_it_is_in_pixels_and_end_to_end(self):
        stack, x = build("8x8x1/conv4x4x2(width=2)/fc4(hidden=[8])+mse", seed=0), squares(8)
        expected = (stack.to_pixels(stack.encode(1 - x)) - x).square().flatten(1).sum(1).mean()
        for learner in (LevelInPixels(stack, 2), WholeStack(stack)):
            learner.corruption = Reversed()
            torch.testing.assert_close(learner(x).terms["mse"], expected)

    def test_every_reconstruction_compares_with_it(self):
        x = squares(8)
        for name in ("gaussian", "mse", "mae", "bernoulli", "ssim"):
            stack = build(f"8x8x1/fc4(hidden=[8])+{name}", seed=0)
            learner = LevelInCodes(stack, 1)
            learner.corruption = Reversed()
            told = learner(x).terms[name]
            level = stack.level(1)
            torch.testing.assert_close(told, level.terms[name](level.round_trip(x, 1 - x)))
            assert told != level.terms[name](level.round_trip(1 - x))


class TestTraining:
    def test_it_learns_to_restore(self):
        base = torch.zeros(256, 1, 8, 8)
        base[:128, :, :, :4] = 1
        base[128:, :, 4:] = 1
        words = "noise=0.2+mask=0.3"
        options = {"steps": 150, "batch_size": 32, "lr": 5e-3, "progress": False}
        clean, trained = (
            fit(build("8x8x1/fc2(hidden=[16])", seed=0), base, **options, corrupt=corrupt) for corrupt in (None, words)
        )
        shown = Images((base * 255).byte())
        with torch.inference_mode():
            before, after = (restore(stack, shown, Corruption.parse(words)) for stack in (clean, trained))
        assert before["mse_corrupted"] == after["mse_corrupted"] > 0.05
        assert after["mse"] < 0.5 * before["mse"]
        assert after["psnr"] > before["psnr"] > after["psnr_corrupted"]

    def test_same_seed_same_weights_and_the_corruption_matters(self):
        def weights(**options):
            stack = fit(build("8x8x1/fc4(hidden=[8], linear=false)+kl", seed=0), squares(), **TINY | options)
            return torch.cat([parameter.detach().flatten() for parameter in stack.parameters()])

        one = weights(corrupt="noise=0.3")
        assert torch.equal(one, weights(corrupt="noise=0.3"))
        for other in ({}, {"corrupt": "noise=0.2"}, {"corrupt": "noise=0.3", "seed": 1}):
            assert not torch.equal(one, weights(**other))

    def test_it_is_written_down_and_a_run_with_another_is_not_resumed(self, tmp_path):
        spec = "8x8x1/fc4(hidden=[8])"
        fit(build(spec, seed=0), squares(), **TINY, corrupt="mask=0.5", out=tmp_path)
        assert json.loads((tmp_path / "run.json").read_text())["options"]["corrupt"] == "mask=0.5"
        with pytest.raises(TrainingError, match=r"corrupt: 'mask=0.5' then, 'mask=0.4' now"):
            fit(build(spec, seed=0), squares(), **TINY, corrupt="mask=0.4", out=tmp_path, resume=True)

    def test_codes_of_finished_levels_are_those_of_clean_images(self, tmp_path):
        seen = []
        stack = build("8x8x1/conv4x4x2(width=2, blocks=0)/fc3(hidden=[4])", seed=0)
        encode = stack.level(2).stage.encode
        stack.level(2).stage.encode = lambda x: seen.append(x.detach().clone()) or encode(x)
        x = squares(32)
        fit(stack, x, **TINY, corrupt="mask=0.9")
        with torch.inference_mode():
            known = stack.encode((x * 255).round() / 255, 1) * stack.level(2).emphasis
        for row in torch.cat([batch for batch in seen if len(batch) == 8]):
            assert (known - row).abs().flatten(1).amax(1).min() < 1e-4


def test_evaluation_tells_of_it_when_asked():
    stack = build("8x8x1/fc2(hidden=[4])", seed=0)
    shown = Images((squares(40) * 255).byte())
    asked = evaluate(stack, shown, train=shown, corrupt="noise=0.1")
    assert "restoration" not in evaluate(stack, shown, train=shown)
    found = asked["restoration"]
    assert found["corrupt"] == "noise=0.1"
    assert found["psnr_corrupted"] > found["psnr"]  # nothing has been learned
    assert "noise=0.1" in asked["summary"]


def test_names_of_runs_as_folders():
    assert as_file("bernoulli + ssim-noise=0.3") == "bernoulli-ssim-noise-0.3"
