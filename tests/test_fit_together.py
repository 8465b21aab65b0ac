"""Stacks that learn at once: each comes to what it would have come to alone."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from zoo_conv.fc import FullyConnected

from zoo.builder import build, load
from zoo.data import images
from zoo.errors import TrainingError
from zoo.training import InterruptedTrainingError, fit, fit_together
from zoo.training import loop as loops
from zoo.training import run as runs

OPTIONS = {"steps": 30, "batch_size": 16, "progress": False, "precision": "fp32"}
SEEDS, RATES = (3, 1, 7), (1e-3, 3e-3, 5e-4)


def pixels(count, seed):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


TRAIN, HELD = pixels(100, 0), pixels(30, 1)


def built(spec, seed=0):
    torch.manual_seed(seed)
    return build(spec)


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "trackers", lambda **_: [])
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def close(stack, other, within=1e-5):
    assert stack.state_dict().keys() == other.state_dict().keys()
    for name, tensor in stack.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=within, atol=within)


def learns_as_alone(stacks, data=(TRAIN, HELD), together=None):
    """Trained together, each comes to what a copy of it comes to by itself, on these images or the same ones."""
    train, held = data
    alone = [
        fit(deepcopy(stack), train, val=held, seed=seed, lr=rate, **OPTIONS)
        for stack, seed, rate in zip(stacks, SEEDS, RATES, strict=True)
    ]
    train, held = together or data
    fit_together(stacks, train, val=held, seeds=SEEDS, rates=RATES, **OPTIONS)
    for stack, other in zip(stacks, alone, strict=True):
        close(stack, other, within=1e-4)


class TestEachIsAsAlone:
    @pytest.mark.parametrize(
        "spec",
        [
            "8x8x1/fc3(hidden=[16])+kl({})",
            "8x8x1/fc3(hidden=[16])+mc({})",
            "8x8x1/fc3(hidden=[16])+wae_mmd({})",
            "8x8x1/fc3(hidden=[16])+mse+kl({}, warmup=0.5)",
            "8x8x1/fc3(hidden=[16])+mse+wae_mmd({}, adaptive=10)",
            "8x8x1/conv2x2x2(width=4)+kl({})",
        ],
    )
    def test_on_images(self, spec):
        stacks = [built(spec.format(weight), seed) for seed, weight in enumerate((0.1, 1, 10))]
        learns_as_alone(stacks)
        assert (stacks[0](HELD) - stacks[1](HELD)).abs().max() > 1e-3

    def test_on_the_codes_of_a_level_they_share(self, tmp_path):
        fit(build("8x8x1/conv2x2x4(width=4)"), TRAIN, val=HELD, out=tmp_path / "below", **OPTIONS)
        spec = f"folder({tmp_path / 'below'})/fc3(hidden=[16])+kl"
        stacks = [built(f"{spec}({weight})", seed) for seed, weight in enumerate((0.1, 1, 10))]
        learns_as_alone(stacks)

    def test_without_images_to_validate_on_they_share_a_part(self):
        stacks = [built(f"8x8x1/fc3(hidden=[16])+kl({weight})", weight) for weight in (1, 2, 3)]
        divided = images(TRAIN, (1, 8, 8), split="train").held_out(5, seed=0)
        learns_as_alone(stacks, divided, together=(TRAIN, None))

    def test_alone_another_seed_is_another_result(self):
        """Without which the tests above could not fail."""
        one, other = (fit(built("8x8x1/fc3+kl"), TRAIN, val=HELD, seed=seed, **OPTIONS) for seed in (0, 1))
        assert (one(HELD) - other(HELD)).abs().max() > 1e-3


class TestARun:
    SPEC = "8x8x1/fc3(hidden=[16])+kl"

    def stacks(self):
        return [built(self.SPEC, seed) for seed in range(2)]

    def test_is_saved_and_resumed_exactly(self, tmp_path, monkeypatch):
        whole = fit_together(self.stacks(), TRAIN, out=tmp_path / "whole", **OPTIONS)
        step = loops._Run._step

        def stopping(run, progress):
            run.loop.interrupt.asked = run.step == 10
            return step(run, progress)

        with monkeypatch.context() as patch:
            patch.setattr(loops._Run, "_step", stopping)
            with pytest.raises(InterruptedTrainingError):
                fit_together(self.stacks(), TRAIN, out=tmp_path / "cut", **OPTIONS)
        fit_together(self.stacks(), TRAIN, out=tmp_path / "cut", resume=True, **OPTIONS)
        for number, stack in enumerate(whole, 1):
            saved = load(tmp_path / "cut" / str(number))
            assert all(torch.equal(tensor, saved.state_dict()[name]) for name, tensor in stack.state_dict().items())

    def test_of_other_seeds_is_another_run(self, tmp_path):
        fit_together(self.stacks(), TRAIN, out=tmp_path, **OPTIONS)
        with pytest.raises(TrainingError, match=r"seeds: \[0, 1\] then, \[4, 5\] now"):
            fit_together(self.stacks(), TRAIN, out=tmp_path, resume=True, seeds=(4, 5), **OPTIONS)

    def test_leaves_every_stack_tensors_of_its_own(self):
        for stack in fit_together(self.stacks(), TRAIN, **OPTIONS):
            assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in stack.state_dict().values())

    def test_that_explodes_says_which_stack(self):
        with pytest.raises(TrainingError, match=r"stack 2 of 2: the loss .* learning rate 1e\+06\)"):
            fit_together(self.stacks(), TRAIN, rates=(1e-3, 1e6), clip=1e9, **OPTIONS)


class TestRefused:
    @pytest.mark.parametrize(
        ("specs", "options", "words"),
        [
            (["8x8x1/fc3", "8x8x1/fc2"], {}, "stack 2 is 8x8x1/fc2"),
            (["8x8x1/fc3+kl", "8x8x1/fc3+kl(warmup=0.5)"], {}, "nothing but the weights"),
            (["8x8x1/fc3+wae_gan", "8x8x1/fc3+wae_gan"], {}, "wae_gan has a critic"),
            (["8x8x1/fc3+wae_mmd(pretrain=5)"] * 2, {}, "ends when it is good enough"),
            (["8x8x1/fc3/normal"] * 2, {}, "ends in a head"),
            (["8x8x1/conv2x2x2/fc3"] * 2, {}, "level 1 of stack 1 is not trained"),
            (["8x8x1/fc3"] * 2, {"seeds": (1,)}, "2 stacks, 1 seeds"),
            (["8x8x1/fc3"] * 2, {"rates": (1e-3, 0.0)}, "above 0"),
            (["8x8x1/fc3"] * 2, {"refine": True}, "leave out level, refine, progressive and compile"),
            ([], {}, "at least one"),
        ],
    )
    def test_with_the_reason(self, specs, options, words):
        stacks = [build(spec) for spec in specs]
        with pytest.raises(TrainingError, match=words):
            fit_together(stacks, TRAIN, **OPTIONS, **options)

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            (["8x8x1/fc3", "8x8x1/fc3"], "takes stacks, of .* not a str"),
            ("8x8x1/fc3", "takes stacks, of .* not a str"),
            (build("8x8x1/fc3"), "several stacks, in a list"),
        ],
    )
    def test_what_is_no_list_of_stacks(self, given, words):
        with pytest.raises(TrainingError, match=words):
            fit_together(given, TRAIN, **OPTIONS)

    def test_what_is_done_for_one_at_a_time_alone(self, monkeypatch):
        encode = FullyConnected.encode
        monkeypatch.setattr(FullyConnected, "encode", lambda self, x: encode(self, x * float(x.max() > -1)))
        fit(built("8x8x1/fc3"), TRAIN, **OPTIONS)
        with pytest.raises(TrainingError, match=r"8x8x1/fc3 cannot learn together: train one after the other \(vmap"):
            fit_together([built("8x8x1/fc3", seed) for seed in (0, 1)], TRAIN, **OPTIONS)

    @pytest.mark.parametrize("first", [0, 1])
    def test_one_that_trains_on_beside_one_that_is_new(self, first):
        new, old = built("8x8x1/fc3", 0), fit(built("8x8x1/fc3", 1), TRAIN, **OPTIONS)
        with pytest.raises(TrainingError, match="learn apart"):
            fit_together([new, old][:: -1 if first else 1], TRAIN, **OPTIONS)

    def test_one_stack_twice(self):
        stack = build("8x8x1/fc3")
        with pytest.raises(TrainingError, match="one stack twice"):
            fit_together([stack, stack], TRAIN, **OPTIONS)
