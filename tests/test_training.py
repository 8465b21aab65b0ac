"""The one loop: it learns, it can be repeated and resumed exactly, and nobody moves what is not theirs."""

from __future__ import annotations

import errno
import json
import math
import shutil
import signal
import time
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from zoo_conv.fc import FullyConnected

from zoo import files
from zoo.builder import build, load
from zoo.cache import folder
from zoo.errors import RegistryError, SpecError, TrainingError
from zoo.interfaces import Phase, Place, Regularizer
from zoo.layout import channels_last
from zoo.stack import Stack
from zoo.training import HISTORY, Options, fit, fitting, objectives
from zoo.training import loop as loops
from zoo.training import precision as precisions
from zoo.training.averaging import Average
from zoo.training.checkpoints import Checkpoint, Shelf
from zoo.training.checks import check_levels
from zoo.training.heads import HeadLearner
from zoo.training.interrupts import listening
from zoo.training.objectives import LevelInCodes, LevelInPixels
from zoo.training.precision import IMAGES, MOST_IMAGES, equal, gains
from zoo.training.progress import Reporter
from zoo.training.schedules import budget, momentum, rate
from zoo.training.validation import Validation

SPEC = "8x8x1/conv4x4x3(width=4, blocks=1)/fc4(hidden=[16])+wae_mmd"


def blobs(count: int = 96, size: int = 8) -> torch.Tensor:
    """Images with something to learn: a bright square somewhere."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(count, 1, size, size)
    for image, (row, column) in zip(x, torch.randint(size - 3, (count, 2), generator=generator).tolist(), strict=True):
        image[0, row : row + 3, column : column + 3] = 1
    return x


def weights(stack) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in stack.state_dict().items()}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def train(spec=SPEC, *, seed=0, **options):
    stack = build(spec)
    return fit(
        stack, blobs(), **{"steps": 12, "batch_size": 16, "progress": False, "seed": seed, "log_every": 4, **options}
    )


def test_the_first_of_what_a_start_sees_are_of_all_images(monkeypatch):
    """Folders lie class by class, and who looks at a part of the sample takes the first of it."""
    seen = []
    monkeypatch.setattr(FullyConnected, "prepare", lambda stage, x: seen.append(x))
    grey = torch.linspace(0, 1, 100).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    fit(build("8x8x1/fc4(hidden=[8])"), grey, val=grey, steps=1, progress=False)
    (sample,) = seen
    assert len(sample) == 100
    first = sample[:20, 0, 0, 0]
    assert 0.35 < first.mean() < 0.65
    assert first.min() < 0.2 < 0.8 < first.max()


def test_what_learning_spoils_is_given_back_as_it_began(caplog):
    """Four numbers say all there is of these images, so a start as principal components cannot be bettered."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(96, 4, generator=generator) @ torch.rand(4, 64, generator=generator) / 4).reshape(-1, 1, 8, 8)
    stack = build("8x8x1/fc4(hidden=[8])")
    fit(stack, x, steps=30, batch_size=16, lr=0.1, progress=False)
    with torch.inference_mode():
        assert (stack(x) - x).square().mean() < 1e-5
    assert "nothing was better on held-out images than what it began with" in caplog.text


def test_gradients_are_left_as_they_are_where_clipping_is_off():
    norms = {}
    for clip in (0.0, 1e-3, 1e9):
        stack = build("8x8x1/fc4(hidden=[8])")
        fit(stack, blobs(), steps=2, batch_size=16, clip=clip, optimizer="sgd", progress=False)
        norms[clip] = weights(stack)
    assert same(norms[0.0], norms[1e9])
    assert not same(norms[0.0], norms[1e-3])


class Poison(Regularizer):
    """A term that is NaN from its third step."""

    def __init__(self, place):
        super().__init__(place, 1.0)
        self.calls = 0

    def forward(self, trip):
        self.calls += self.training
        return trip.z.sum() * (float("nan") if self.calls > 2 else 0.0)


class Judged(Regularizer):
    """A term with a critic that tells codes from normal draws."""

    def __init__(self, place):
        super().__init__(place, 1.0)
        self.critic = nn.Linear(place.code_shape[0], 1)

    def forward(self, trip):
        return -self.critic(trip.z).mean()

    def critic_loss(self, trip):
        return self.critic(trip.z).mean() - self.critic(torch.randn_like(trip.z)).mean()


def test_maps_lie_as_torch_lays_them_and_what_is_no_map_stays():
    module = nn.ModuleDict({"map": nn.Conv2d(2, 3, 3), "one": nn.Conv2d(3, 2, 1), "dense": nn.Linear(2, 3)})
    module.register_buffer("mean", torch.rand(1, 2, 4, 4))

    def strides():
        return {name: tensor.stride() for name, tensor in module.state_dict().items()}

    module.to(memory_format=torch.channels_last)
    wanted = strides()
    module.to(memory_format=torch.contiguous_format)
    assert strides() != wanted
    module["volume"] = nn.Conv3d(2, 3, 2)
    kept = module["volume"].weight.stride()
    channels_last(module, torch.device("cpu"))
    assert module["volume"].weight.stride() == kept
    del module["volume"]
    assert strides() == wanted


def test_a_stage_may_keep_a_tensor_of_five_axes():
    stack = build("8x8x1/fc2(hidden=[4])")
    cube = nn.Parameter(torch.rand(2, 2, 2, 2, 2))
    stack.level(1).stage.encoder.register_parameter("cube", cube)
    assert fit(stack, blobs(), steps=2, progress=False).level(1).trained


def test_it_learns_and_leaves_unit_scale_codes(tmp_path):
    stack = train(out=tmp_path, steps=60)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    for level in (1, 2):
        errors = [line["val"]["loss"] for line in lines if line["level"] == level and "val" in line]
        assert errors[-1] < errors[0]
    assert {"step", "seconds", "images_per_second", "lr", "loss", "terms"} <= lines[0].keys()
    with torch.no_grad():
        maps = stack.encode(blobs(), 1)
    assert maps.std((0, 2, 3)).numpy() == pytest.approx(1.0, abs=0.15)
    assert not stack.training
    assert same(weights(load(tmp_path)), weights(stack))


def test_same_seed_same_weights_and_the_global_state_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = weights(train())
    assert torch.equal(before, torch.get_rng_state())
    assert same(first, weights(train()))
    assert not same(first, weights(train(seed=1)))


@pytest.mark.parametrize("stop", [1, 7, 15])
@pytest.mark.parametrize("which", [True, "last"])
def test_a_stopped_run_resumes_to_the_same_bytes(tmp_path, monkeypatch, stop, which):
    whole = weights(train(out=tmp_path / "whole"))
    step, taken = loops._Run._step, []

    def stopping(run, progress):
        taken.append(1)
        if len(taken) == stop:
            run.loop.interrupt.asked = True
        return step(run, progress)

    monkeypatch.setattr(loops._Run, "_step", stopping)
    with pytest.raises(loops.InterruptedTrainingError, match="--resume"):
        train(out=tmp_path / "parts")
    resumed = train(out=tmp_path / "parts", resume=which)
    assert same(whole, weights(resumed))
    assert len(taken) == 24
    history = [(tmp_path / name / "history.jsonl").read_text().splitlines() for name in ("whole", "parts")]
    assert [json.loads(line)["step"] for line in history[0]] == [json.loads(line)["step"] for line in history[1]]


def test_resume_from_the_best_point_and_refusals(tmp_path):
    train(out=tmp_path)
    with pytest.raises(TrainingError, match="holds a run already"):
        train(out=tmp_path)
    with pytest.raises(TrainingError, match=r"lr: 0\.001 then, 0\.01 now"):
        train(out=tmp_path, resume=True, lr=0.01)
    with pytest.raises(TrainingError, match="no run to resume"):
        train(out=tmp_path / "elsewhere", resume=True)
    before = weights(load(tmp_path))
    assert sorted(path.stem for path in (tmp_path / "checkpoints").glob("0*"))[-1] == "01-000000012f"
    assert same(before, weights(train(out=tmp_path, resume=True)))  # finished already
    assert (tmp_path / "checkpoints" / "best.safetensors").is_file()
    Shelf(tmp_path / "checkpoints").save(Checkpoint(9, 1, tensors={"stack/x": torch.zeros(1)}))
    with pytest.raises(TrainingError, match="does not fit this stack"):
        train(out=tmp_path, resume=True)
    assert train(out=tmp_path, resume="best").code_shape == (4,)


def test_a_saved_stack_trains_on(tmp_path):
    first = train(out=tmp_path / "one")
    still = fit(load(tmp_path / "one"), blobs(), steps=1, lr=1e-9, progress=False)
    assert torch.allclose(still(blobs()), first(blobs()), atol=1e-3)  # it goes on from where it was
    more = fit(load(tmp_path / "one"), blobs(), steps=5, progress=False, out=tmp_path / "two")
    assert not same(weights(first), weights(more))
    assert (tmp_path / "two" / "config.json").is_file()


def test_a_report_does_not_outlive_the_weights_it_tells_of(tmp_path):
    build(SPEC).save(tmp_path / "one", report={"of": "the first weights"})
    stack = load(tmp_path / "one")
    assert stack.report == {"of": "the first weights"}
    fit(stack, blobs(), steps=1, level=1, progress=False, out=tmp_path / "two")
    assert stack.report is None
    assert not (tmp_path / "two" / "report.json").exists()
    assert "Not yet evaluated" in (tmp_path / "two" / "README.md").read_text()


def test_a_level_on_top_waits_for_those_below():
    with pytest.raises(TrainingError, match=r"level 1 is not trained: train it first"):
        fit(build(SPEC), blobs(), steps=1, level=2, progress=False)
    with pytest.raises(TrainingError, match=r"level 1 is not trained: train it first"):
        fit(build("8x8x1/fc4/normal"), blobs(), steps=1, level=2, progress=False)


@pytest.mark.parametrize("options", [{"level": 1}, {"level": 3}, {"level": 2, "loss_in": "pixels"}])
def test_only_levels_that_are_trained_are_looked_at(options):
    """Level 2 reads pixels, which says nothing against the others' codes."""
    stack = build("8x8x1/fc4(hidden=[8])+bernoulli/fc2(linear=false)+bernoulli/normal")
    for level in stack.lower():
        level.trained.fill_(True)
    check_levels(stack, Options(steps=1, **options))


def test_moments_are_asked_of_levels_that_others_learn_from():
    stack = build("8x8x1/fc8(hidden=[8])+kl/fc4(hidden=[8])/fc2(hidden=[8])")
    check_levels(stack, Options(steps=1, codes="moments", level=2))
    check_levels(stack, Options(steps=1, codes="moments", loss_in="pixels"))
    for level in (None, 3):
        with pytest.raises(SpecError, match=r"level 2, fc4.*no posterior to draw from"):
            check_levels(stack, Options(steps=1, codes="moments", level=level))


@pytest.mark.parametrize("top", ["fc4(hidden=[8], linear=false)", "normal"])
def test_a_sample_is_encoded_in_parts(monkeypatch, top):
    def prepared():
        stack, shown = build(f"8x8x1/conv4x4x3(width=4, blocks=0)/{top}"), []
        encode = stack.encode
        monkeypatch.setattr(stack, "encode", lambda x, levels=None: shown.append(len(x)) or encode(x, levels))
        stack.level(1).trained.fill_(True)
        learner = LevelInPixels(stack, 2) if stack.head is None else HeadLearner(stack, "pixels")
        torch.manual_seed(0)  # sensitivity is probed at random
        learner.prepare(blobs(25))
        if stack.head is None:
            stack.level(2).trained.fill_(True)
            learner.prepare(blobs(25))  # of no use to a level that trains on: nothing is encoded
        return stack, shown

    whole, shown = prepared()
    assert shown == [25]
    monkeypatch.setattr(objectives, "ENCODED", 10)
    parts, shown = prepared()
    assert shown == [10, 10, 5]
    assert all(
        torch.allclose(x, y, atol=1e-4) for x, y in zip(*(weights(s).values() for s in (whole, parts)), strict=True)
    )


def test_upper_levels_leave_the_lower_ones_as_they_were():
    stack = build(SPEC)
    fit(stack, blobs(), steps=4, level=1, progress=False)
    lower = {name: tensor for name, tensor in weights(stack).items() if name.startswith("levels.0.")}
    for loss_in in ("codes", "pixels"):
        fit(stack, blobs(), steps=4, level=2, loss_in=loss_in, progress=False)
        assert same(lower, {name: tensor for name, tensor in weights(stack).items() if name.startswith("levels.0.")})
    assert all(parameter.requires_grad for parameter in stack.parameters())
    assert all(parameter.grad is None for parameter in stack.level(1).parameters())


def test_refining_moves_every_level_and_lowers_the_error(tmp_path):
    spec = SPEC.removesuffix("+wae_mmd")  # a regularizer may rather lower its own term
    stack = train(spec, steps=40, lr=0.01, refine=True, out=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    before = [line["val"]["mse"] for line in lines if line["phase"] == "codes" and "val" in line][-1]
    after = [line["val"]["mse"] for line in lines if line["phase"] == "refine" and "val" in line][-1]
    assert after < before
    assert not same(weights(stack), weights(train(spec, steps=40, lr=0.01)))


def test_a_head_and_a_level_without_parameters_are_fitted():
    stack = train("8x8x1/conv2x2x3(width=4)/normal")
    sample = stack.sample(5, seed=0)
    assert sample.shape == (5, 1, 8, 8)
    assert torch.equal(sample, stack.sample(5, seed=0))
    assert 0 <= sample.min() <= sample.max() <= 1


def test_a_stage_that_asks_for_phases_is_trained_in_them(tmp_path, monkeypatch):
    phases = (
        Phase("decoder first", share=1, rates={"decoder": 1.0}),
        Phase("all", share=3, rates={"decoder": 1.0, "encoder": 0.1}),
    )
    monkeypatch.setattr(FullyConnected, "phases", lambda self: phases)
    seen = {}

    def watched(loop, course, resumed=None):
        before = weights(loop.stack)
        steps = run(loop, course, resumed)
        moved = {name for name, tensor in weights(loop.stack).items() if not torch.equal(tensor, before[name])}
        seen[course.title] = (steps, {name.split(".")[3] for name in moved})
        return steps

    run = loops.Loop.run
    monkeypatch.setattr(loops.Loop, "run", watched)
    stack = build("8x8x1/fc4(hidden=[8])+wae_mmd")
    stack.level(1).trained.fill_(True)  # so that nothing is prepared, and what moves has learned
    fit(stack, blobs(), steps=12, progress=False, out=tmp_path)
    assert seen == {"decoder first": (3, {"decoder"}), "all": (9, {"decoder", "encoder"})}
    assert all(parameter.requires_grad for parameter in stack.parameters())


def test_a_phase_that_would_train_nothing_is_refused_before_anything_is_trained(monkeypatch):
    stack = build("8x8x1/fc4(hidden=[8])/fc2(hidden=[4])")
    own = (Phase("halves", rates={"encodr": 1.0, "decoder": 0.0}), Phase())
    monkeypatch.setattr(stack.level(2).stage, "phases", lambda: own)
    before = weights(stack)
    with pytest.raises(TrainingError, match=r"phase 'halves' trains nothing .*'encodr'.* begin with encoder, decoder"):
        fit(stack, blobs(), steps=2, progress=False)
    assert same(weights(stack), before)
    fit(stack, blobs(), steps=2, level=1, progress=False)  # whose phases are right


def test_what_is_frozen_in_a_critic_stays():
    stack = build("8x8x1/fc4(hidden=[8])")
    level = stack.level(1)
    judged = level.terms["judged"] = Judged(Place((1, 8, 8), (4,)))
    features = nn.Linear(4, 4).requires_grad_(False)
    judged.critic = nn.Sequential(features, nn.Linear(4, 1))
    before = weights(judged)
    fit(stack, blobs(), steps=3, progress=False)
    moved = {name for name, tensor in weights(judged).items() if not torch.equal(tensor, before[name])}
    assert moved == {"critic.1.weight"}  # its bias is in both sides of the loss
    assert not any(parameter.requires_grad for parameter in features.parameters())


def test_a_critic_is_left_to_learn_when_a_loss_ends_the_run():
    stack = build("8x8x1/fc4(hidden=[8])")
    level = stack.level(1)
    level.terms["judged"] = Judged(Place((1, 8, 8), (4,)))
    level.terms["poison"] = Poison(level.stage.place)
    with pytest.raises(TrainingError, match="not finite at step 2"):
        fit(stack, blobs(), steps=5, precision="fp32", progress=False)
    assert all(parameter.requires_grad for parameter in stack.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_neither_player_touches_the_other(precision, monkeypatch):
    stack = build("8x8x1/fc4(hidden=[8])")
    level = stack.level(1)
    level.terms["judged"] = Judged(level.stage.place)
    level.terms["judged"].place = level.stage.place
    turns = []

    def watched(player, loss, factor, momentum=None):
        mine = {id(parameter) for parameter in player.parameters}
        others = [parameter for parameter in stack.parameters() if id(parameter) not in mine]
        before = [(parameter.detach().clone(), parameter.grad) for parameter in others]
        own = [parameter.detach().clone() for parameter in player.parameters]
        norm = step(player, loss, factor, momentum)
        for parameter, (value, gradient) in zip(others, before, strict=True):
            assert torch.equal(parameter, value)
            assert parameter.grad is gradient
        assert any(not torch.equal(old, new) for old, new in zip(own, player.parameters, strict=True))
        turns.append(player.name)
        return norm

    step = loops.players.__globals__["Player"].step
    monkeypatch.setattr(loops.players.__globals__["Player"], "step", watched)
    fit(stack, blobs(), steps=3, precision=precision, progress=False)
    assert turns == ["stage", "judged"] * 3


def test_a_loss_that_is_not_finite_stops_with_step_and_term(tmp_path):
    stack = build("8x8x1/fc4(hidden=[8])")
    level = stack.level(1)
    level.terms["poison"] = Poison(level.stage.place)
    with pytest.raises(TrainingError, match=r"not finite at step 2 \(term poison") as caught:
        fit(stack, blobs(), steps=5, precision="fp32", progress=False, out=tmp_path)
    assert "learning rate" in str(caught.value)


def test_an_exploding_loss_stops(tmp_path):
    stack = build("8x8x1/fc4(hidden=[8])+mse")
    with pytest.raises(TrainingError, match=r"exploded|not finite"):
        fit(stack, blobs(), steps=200, optimizer="sgd", lr=1e6, clip=1e9, progress=False, schedule="constant")


def test_terms_for_pixels_are_refused_on_codes():
    with pytest.raises(SpecError, match="--loss-in pixels"):
        train("8x8x1/conv4x4x3(width=4)/fc4+bernoulli")
    train("8x8x1/conv4x4x3(width=4)+bernoulli/fc4(hidden=[8])+bernoulli", loss_in="pixels", steps=2)
    for how in ({"loss_in": "pixels"}, {"refine": True, "loss_in": "pixels"}):
        with pytest.raises(SpecError, match="name bernoulli on level 1 as well"):  # or it judges what no sigmoid bounds
            train("8x8x1/conv4x4x3(width=4)/fc4(hidden=[8])+bernoulli", steps=2, **how)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 1, "steps": 2}, "epochs and steps"),
        ({"lr": 0.0}, "more than 0"),
        ({"optimizer": "adamm"}, "adam"),
        ({"ema": 1.0}, "below 1"),
        ({"milestones": (0.5, 1.0)}, "parts of the budget"),
        ({"fold": "6/5"}, "one of at least two parts"),
        ({"fold": "1/1"}, "one of at least two parts"),
        ({"fold": "first"}, "one of at least two parts"),
        ({"lrr": 1.0}, "no option 'lrr'"),
        ({"level": 3}, "levels 1 to 2"),
        ({"level": 1, "refine": True}, "leave out one of them"),
        ({"steps": 2.5}, "a whole number"),
        ({"seed": 1.5}, "a whole number"),
        ({"weight_decay": -1.0}, "0 or more"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(TrainingError, match=message):
        fit(build(SPEC), blobs(), progress=False, **options)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "adamax", "sgd"])
@pytest.mark.parametrize("schedule", ["cosine", "multistep", "onecycle", "constant"])
def test_every_optimiser_runs_under_every_schedule(optimizer, schedule):
    train("8x8x1/fc4(hidden=[8])", optimizer=optimizer, schedule=schedule, steps=3)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "adamax", "sgd"])
def test_one_cycle_moves_rates_and_momenta_of_every_optimiser(optimizer, monkeypatch):
    """By the cosines of Smith and Topin: up and down in 30 % of the steps, and back in the others."""
    seen, step = {"stage": [], "wae_gan": []}, loops._Run._step

    def watched(run, progress):
        found = step(run, progress)
        for player in (run.stage, *run.critics):
            seen[player.name].append({**player.optimizer.param_groups[0], "progress": progress})
        return found

    monkeypatch.setattr(loops._Run, "_step", watched)
    train(
        "8x8x1/fc4(hidden=[8])+wae_gan(rate=0.5, width=8)", optimizer=optimizer, schedule="onecycle", steps=20, lr=0.01
    )
    for name, highest in (("stage", 0.01), ("wae_gan", 0.005)):
        assert len(seen[name]) == 20
        for group in seen[name]:
            progress = group["progress"]
            risen = progress < 0.3
            swing = (1 - math.cos(math.pi * (progress / 0.3 if risen else 1 - (progress - 0.3) / 0.7))) / 2
            least = 1 / 25 if risen else 1e-4
            assert group["lr"] == pytest.approx(highest * (least + (1 - least) * swing))
            momenta = [group["momentum"]] if optimizer == "sgd" else [group["betas"][0]]
            assert momenta == pytest.approx([0.95 - 0.1 * swing])
        assert optimizer == "sgd" or {group["betas"][1] for group in seen[name]} == {
            0.95 if optimizer == "adamw" else 0.999
        }


def test_minutes_are_a_budget_too(tmp_path):
    train("8x8x1/fc4(hidden=[8])", steps=None, minutes=0.01, out=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert 0.3 < lines[-1]["seconds"] < 5


def test_batch_norm_and_compile_train():
    train("8x8x1/conv4x4x3(width=4, norm=batch)", steps=4)


def test_schedules_start_warm_peak_and_end_low():
    assert rate("cosine", 0.0, 0.01) == pytest.approx(0.01)
    assert rate("cosine", 0.0, 1.0) == 1
    assert rate("cosine", 1.0, 1.0) == pytest.approx(0.01)
    assert [rate("multistep", p, 1.0) for p in (0.4, 0.6, 0.8)] == pytest.approx([1, 0.1, 0.01])
    assert [rate("multistep", p, 1.0, (0.2, 0.3, 0.9)) for p in (0.1, 0.2, 0.5, 0.9)] == pytest.approx(
        [1, 0.1, 0.01, 0.001]
    )
    assert rate("onecycle", 0.3, 0.1) == pytest.approx(1)
    assert rate("onecycle", 0.0, 0.1) == pytest.approx(1 / 25)
    assert rate("onecycle", 1.0, 1.0) == pytest.approx(1e-4)
    first = [budget(Options(steps=steps), 9).warm(0, 0.0) for steps in (10, 100, 10_000)]
    assert first == pytest.approx([1, 1 / 6, 1 / 101])
    assert budget(Options(steps=10_000), 9).warm(99, 0.0099) == pytest.approx(100 / 101)
    by_time = budget(Options(minutes=2), 35)  # a warm-up takes a twentieth of the time, however few steps that are
    assert [by_time.warm(*at) for at in ((0, 0.0), (1, 0.025), (2, 0.05), (100, 0.001))] == pytest.approx(
        [1 / 101, 0.5, 1, 1]
    )
    assert (momentum(0.0), momentum(0.3), momentum(1.0)) == pytest.approx((0.95, 0.85, 0.95))
    assert budget(Options(epochs=3, batch_size=10), 35).steps == 9
    assert budget(Options(minutes=2), 35).progress(1, 60) == 0.5


def test_the_average_follows_its_formula_and_can_stand_in():
    layer = nn.Linear(2, 2)
    average = Average(layer, 0.9)
    expected = layer.weight.detach().clone()
    for step in range(1, 30):
        nn.init.constant_(layer.weight, float(step))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert torch.allclose(average.state()["weight"], expected)
    with average.in_place():
        assert torch.allclose(layer.weight, expected)
    assert layer.weight.eq(29).all()


def test_statistics_of_batch_norms_are_averaged_like_the_weights_that_they_go_with():
    layer = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, momentum=1.0))
    average, expected = Average(layer, 0.9), layer[1].running_mean.clone()
    for step in range(5):
        layer(torch.randn(8, 2) + step)
        average.update(step)
        expected.lerp_(layer[1].running_mean, 1 - min(0.9, (1 + step) / (10 + step)))
    own = layer[1].running_mean.clone()
    with average.in_place():
        assert torch.allclose(layer[1].running_mean, expected)
    assert torch.equal(layer[1].running_mean, own)
    assert {"1.running_mean", "1.running_var"} < average.state().keys()
    assert average.state(layer[0]).keys() == {"0.weight", "0.bias"}
    assert average.state(layer[1]).keys() == {"1.weight", "1.bias", "1.running_mean", "1.running_var"}


def test_the_last_step_has_a_line_of_its_own(tmp_path):
    train("8x8x1/fc4(hidden=[4])", steps=7, log_every=5, out=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 5, 7]


def test_a_short_run_learns_from_more_images_than_it_looks_at(tmp_path):
    train("8x8x1/fc4(hidden=[4])", steps=30, batch_size=8, val=blobs(60), out=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "val" in line] == [8, 16, 24, 30]


@pytest.mark.parametrize(("patience", "first"), [(None, [5, 10]), (50, [*range(1, 11)])])
def test_looks_are_spread_over_the_phases_of_a_level(tmp_path, monkeypatch, patience, first):
    """But for a phase that ends by them, which has its own."""
    phases = (Phase("first", share=0.1, patience=patience), Phase("second", share=0.9))
    monkeypatch.setattr(FullyConnected, "phases", lambda self: phases)
    train("8x8x1/fc4(hidden=[4])", steps=100, batch_size=8, val=blobs(8), out=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    found = {
        name: [line["step"] for line in lines if "val" in line and line["phase"] == name]
        for name in ("first", "second")
    }
    assert found == {"first": first, "second": [*range(5, 91, 5)]}


def test_a_budget_of_time_is_for_learning(tmp_path, monkeypatch):
    """Looks at held-out images take a tenth of it, or are few."""
    look, looks = Validation.look, []

    def slow(validation):
        looks.append(time.perf_counter())
        time.sleep(0.2)
        return look(validation)

    monkeypatch.setattr(Validation, "look", slow)
    train("8x8x1/fc4(hidden=[4])", steps=None, minutes=1 / 60, out=tmp_path)
    assert len(looks) <= 3  # of the start, of the end, and one where the machine was busy
    monkeypatch.setattr(Validation, "look", lambda validation: looks.append(0.0) or look(validation))
    looks.clear()
    train("8x8x1/fc4(hidden=[4])", steps=None, minutes=1 / 30, out=tmp_path / "quick")
    assert 5 <= len(looks) <= 22


def test_frozen_levels_are_as_they_are_in_whatever_mode_they_come(tmp_path):
    """Statistics of their batch norms neither move nor count a batch of the images that are encoded."""
    train("8x8x1/conv4x4x3(width=4, norm=batch)", steps=2, out=tmp_path)
    found = []
    for mode in (False, True):
        stack = build(f"folder({json.dumps(str(tmp_path))})/fc2(hidden=[4])").train(mode)
        below = {name: value.clone() for name, value in stack.level(1).state_dict().items()}
        fit(stack, blobs(), steps=2, progress=False)
        assert all(torch.equal(below[name], value) for name, value in stack.level(1).state_dict().items())
        found.append(stack.level(2).state_dict())
    assert all(torch.equal(found[0][name], value) for name, value in found[1].items())


def test_a_stack_with_batch_norms_is_the_one_that_was_best(tmp_path, monkeypatch):
    """However far statistics and weights went afterwards, what comes back has the loss that was the least."""
    monkeypatch.setattr("zoo.training.looks.VALIDATIONS", 10)
    monkeypatch.setattr(Validation, "start", lambda _: None)  # which is better than all that follows at this rate
    spec = "8x8x1/conv4x4x3(width=4, norm=batch)+kl"
    stack = train(spec, steps=40, lr=1.0, schedule="constant", out=tmp_path, val=blobs(40), precision="fp32")
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    found = [line["val"] for line in lines if "val" in line]
    best = min(found, key=lambda val: val["loss"])
    assert found[-1] != best  # otherwise this says nothing
    with torch.no_grad():
        error = nn.functional.mse_loss(stack(blobs(40)), blobs(40)).item()
    assert error == pytest.approx(best["mse"], rel=1e-4)


def test_an_old_average_takes_in_every_fourth_step_and_forgets_as_fast():
    layer = nn.Linear(1, 1, bias=False)
    average, expected, looked = Average(layer, 0.9), layer.weight.item(), 0
    for step in range(400):
        nn.init.constant_(layer.weight, 1.0 if step < 300 else 2.0)
        before = average.state()["weight"].item()
        average.update(step)
        looked += average.state()["weight"].item() != before
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * layer.weight.item()
        if step in (303, 307, 315):  # the last of four that are taken in with the first of them
            assert average.state()["weight"].item() == pytest.approx(expected, abs=0.01)
    assert looked < 100 + 300 / 4
    nn.init.constant_(layer.weight, 7.0)
    following = Average(layer, 0.0)
    nn.init.constant_(layer.weight, 8.0)
    following.update(401)
    assert following.state()["weight"].item() == 8.0


def test_a_trained_stack_computes_what_is_loaded_of_it(tmp_path):
    stack = build("16x16x3/conv4x4x8(width=8)")
    fit(stack, torch.rand(64, 3, 16, 16), steps=3, batch_size=8, out=tmp_path / "run", progress=False)
    assert all(parameter.is_contiguous() for parameter in stack.parameters())  # convolutions round as memory lies
    loaded, x = load(tmp_path / "run"), torch.rand(5, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(stack(x), loaded(x))


@pytest.mark.parametrize(
    ("loss", "error", "same"), [(0.3, 0.009, True), (0.3, 0.011, False), (900, 8, True), (900, 10, False)]
)
def test_losses_are_equal_to_a_hundredth(loss, error, same):
    class Rounding(nn.Module):
        def forward(self, *_):
            return SimpleNamespace(total=torch.tensor(loss + error * torch.is_autocast_enabled("cpu")))

    assert equal(Rounding(), torch.zeros(1), None) is same


def test_a_cast_of_weights_is_not_kept_when_they_change():
    layer, x = nn.Linear(4, 4), torch.ones(1, 4)
    with torch.autocast("cpu", enabled=False):  # as is around every course
        with precisions.cast(x.device, bf16=True):
            assert layer(x).any()
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        with precisions.cast(x.device, bf16=True):
            assert not layer(x).any()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_autocast_of_the_caller_changes_nothing(precision):
    found = []
    for around in (nullcontext(), torch.autocast("cpu", enabled=False), torch.autocast("cpu", torch.bfloat16)):
        stack = build("8x8x1/conv4x4x3(width=4, linear=false)")
        with around:
            fit(stack, blobs(32), steps=6, batch_size=8, precision=precision, val=blobs(8), progress=False)
        found.append(weights(stack))
    assert same(found[0], found[1])
    assert same(found[0], found[2])


def test_the_precision_probe_changes_nothing():
    stack = build("8x8x1/conv4x4x3(width=4, norm=batch)").train()
    learner = LevelInCodes(stack, 1).train()
    before, state = weights(stack), torch.get_rng_state()
    gains(torch.device("cpu"))
    equal(learner, blobs(16), None)
    assert equal(learner, blobs(16), None)
    assert same(before, weights(stack))
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in stack.parameters())


@pytest.mark.parametrize(
    ("launch", "image", "warm", "most", "gained"),
    [
        (1e-4, 1e-5, 10, 1024, True),  # 16 images are launched as long as they are computed
        (1e-4, 1e-3, 10, IMAGES, True),  # 16 images are enough
        (1e-4, 1e-9, 10, MOST_IMAGES, False),  # so fast that it is never but launched
        (1e-2, 1e-5, 1e-9, 2 * IMAGES, False),  # what is quick once, at first, is not counted
    ],
)
def test_a_gpu_is_asked_with_so_many_images_that_it_is_busy(monkeypatch, launch, image, warm, most, gained):
    asked = []

    def seconds(layer, x, *, bf16):
        first = not asked or all(other[1] != bf16 for other in asked)
        asked.append((len(x), bf16))
        return max(launch, len(x) * image * (0.5 if bf16 else 1)) * (warm if first else 1)

    monkeypatch.setattr(precisions, "_seconds", seconds)
    gains.cache_clear()
    assert gains(torch.device("meta")) is gained
    assert max(count for count, _ in asked) == most
    assert {count for count, bf16 in asked if bf16} == {most}


def test_a_cpu_is_asked_with_few(monkeypatch):
    asked = []
    monkeypatch.setattr(precisions, "_seconds", lambda layer, x, *, bf16: asked.append((len(x), bf16)) or 1.0)
    gains.cache_clear()
    assert gains(torch.device("cpu")) is False
    gains.cache_clear()
    assert asked == [(IMAGES, False), (IMAGES, True)] * precisions.TRIES


@pytest.mark.parametrize("error", [TrainingError("the loss exploded"), KeyboardInterrupt()])
def test_what_ends_early_is_given_back_as_what_ends_well(monkeypatch, error):
    """In the order of memory of a stack that is loaded, on the CPU; and torch is as it was."""
    stack, flags = build("16x16x3/conv4x4x8(width=8)"), torch.backends.cudnn
    before = flags.deterministic, flags.benchmark

    def stepping(run, progress):
        assert not all(parameter.is_contiguous() for parameter in stack.parameters())
        assert (flags.deterministic, flags.benchmark) == (True, False)  # or convolutions on a GPU would not repeat
        raise error

    monkeypatch.setattr(flags, "benchmark", not before[1])
    monkeypatch.setattr(loops._Run, "_step", stepping)
    with pytest.raises(type(error)):
        fit(stack, torch.rand(64, 3, 16, 16), steps=3, batch_size=8, progress=False)
    assert all(parameter.is_contiguous() for parameter in stack.parameters())
    assert not stack.training
    assert (flags.deterministic, flags.benchmark) == (before[0], not before[1])


@pytest.mark.parametrize("options", [{}, {"augment": "flip+shift2+rotate15", "views": 2, "codes": "moments"}])
def test_a_default_device_of_the_users_changes_nothing(tmp_path, monkeypatch, options):
    """``meta`` stands for a GPU that torch.set_default_device names: nothing of a run on a CPU is made there."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    spec, x = "8x8x1/conv4x4x3(width=4, blocks=1)+kl/fc4(hidden=[16])+wae_mmd(kernel=rbf)", blobs()
    how = {"steps": 4, "batch_size": 16, "progress": False, **options}
    plain = fit(build(spec), x, **how)
    for name in ("from codes that are there", "from codes that are made"):
        stack = build(spec)
        with torch.device("meta"):
            fit(stack, x, out=tmp_path / name, **how)
        assert same(weights(stack), weights(plain))
        shutil.rmtree(tmp_path / "cache")


def test_no_pickle_is_written(tmp_path):
    train(out=tmp_path)
    suffixes = {path.suffix for path in tmp_path.rglob("*") if path.is_file() and "logs" not in path.parts}
    assert suffixes <= {".json", ".jsonl", ".safetensors", ".md"}
    for path in tmp_path.rglob("*.safetensors"):
        files.read_tensors(path)


def test_a_critic_without_a_loss_is_the_plugins_fault():
    class Judge(Regularizer):
        def __init__(self, place):
            super().__init__(place, 1.0)
            self.critic = nn.Linear(4, 1)

        def forward(self, trip):
            return self.critic(trip.z).mean()

    stack = build("8x8x1/fc4(hidden=[16])")
    stack.level(1).terms["judge"] = Judge(Place((1, 8, 8), (4,)))
    with pytest.raises(RegistryError, match="Judge owns a critic but no critic_loss"):
        fit(stack, blobs(), steps=2, progress=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_that_comes_after_the_last_step_is_handed_on(number, monkeypatch):
    """The stack is trained and the caller is asked: a recipe would begin with its next run otherwise."""
    move, told = Stack.to, []
    before = signal.signal(number, lambda got, _: told.append(got))

    def asked(stack, *arguments, **options):
        if arguments == ("cpu",):  # after everything else
            signal.raise_signal(number)
        return move(stack, *arguments, **options)

    monkeypatch.setattr(Stack, "to", asked)
    try:
        stack = fit(build("8x8x1/fc2(hidden=[8])"), blobs(), steps=2, progress=False)
    finally:
        signal.signal(number, before)
    assert stack.level(1).trained
    assert told == [number]


def test_what_a_launcher_sends_twice_is_one_request():
    with listening() as interrupt:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):  # asked for by hand it is
            signal.raise_signal(signal.SIGINT)
        interrupt.asked = False  # or it is handed on


def test_a_run_in_a_folder_takes_no_cache_that_can_be_written_to(tmp_path, monkeypatch):
    @contextmanager
    def refused(*_, **__):
        with folder.writing():
            raise PermissionError(errno.EACCES, "may only be read")
        yield

    monkeypatch.setattr(fitting, "held_if_free", refused)
    fit(build("8x8x1/fc2(hidden=[8])"), blobs(), steps=2, out=tmp_path / "run", progress=False)
    assert load(tmp_path / "run").level(1).trained


def test_a_history_that_is_shorter_than_a_checkpoint_says_is_not_filled_up(tmp_path):
    reporter = Reporter(tmp_path, SimpleNamespace(is_main_process=True), visible=False)
    (tmp_path / HISTORY).write_bytes(b"{}\n{}\n")
    for length, left in ((100, 6), (3, 3)):
        reporter.cut(length)
        assert (tmp_path / HISTORY).stat().st_size == left
