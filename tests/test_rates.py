"""The learning-rate finder: what it suggests, that it leaves nothing behind, and runs that take what it found."""

from __future__ import annotations

import json
from math import log10

import pytest
import torch
from click.testing import CliRunner
from zoo_conv.fc import FullyConnected

import zoo
from zoo import files
from zoo.cli import main
from zoo.errors import TrainingError
from zoo.training import InterruptedTrainingError, Options, Sweep, fitting, rates
from zoo.training.loop import Loop
from zoo.training.schedules import rising

SPEC = "8x8x1/conv4x4x3(width=4, norm=batch)/fc4(hidden=[16])+kl(warmup=0.5)"


def squares(count: int = 96) -> torch.Tensor:
    """Images with something to learn: a bright square somewhere."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(count, 1, 8, 8)
    for image, (row, column) in zip(x, torch.randint(5, (count, 2), generator=generator).tolist(), strict=True):
        image[0, row : row + 3, column : column + 3] = 1
    return x


def look(stack, **options):
    options = {"steps": 12, "span": (1e-4, 10.0), "batch_size": 16, "precision": "fp32", "progress": False, **options}
    return zoo.find_lr(stack, squares(), **options)


def train(stack, out=None, **options):
    options = {"steps": 8, "batch_size": 16, "precision": "fp32", "progress": False, "log_every": 1, **options}
    return zoo.fit(zoo.build(stack) if isinstance(stack, str) else stack, squares(), out=out, **options)


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Sweeps of runs that look for their rates themselves, as short as those above."""
    monkeypatch.setattr(fitting, "STEPS", 12)
    monkeypatch.setattr(rates.sweep, "__kwdefaults__", {"steps": 12, "span": (1e-4, 10.0)})


# -- nothing is left behind ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"optimizer": "sgd"}, {"loss_in": "pixels", "ema": 0.9}])
def test_a_stack_is_bit_for_bit_what_it_was(options):
    stack = train(SPEC, level=1)
    stack.level(2).stage.train()
    before, drawn, modes = state(stack), torch.get_rng_state(), [part.training for part in stack.modules()]
    learning = [parameter.requires_grad for parameter in stack.parameters()]
    found = look(stack, **options)
    assert found.level == 2
    assert same(state(stack), before)
    assert all(parameter.is_contiguous() for parameter in stack.parameters())  # convolutions round as memory lies
    assert torch.equal(torch.get_rng_state(), drawn)
    assert [part.training for part in stack.modules()] == modes
    assert [parameter.requires_grad for parameter in stack.parameters()] == learning
    assert all(parameter.grad is None for parameter in stack.parameters())


def test_the_weights_do_move_in_between(monkeypatch):
    stack, seen, record = zoo.build(SPEC), [], rates._Recorder.record

    def seeing(recorder, line):
        seen.append(same(state(stack), before))
        record(recorder, line)

    before = state(stack)
    monkeypatch.setattr(rates._Recorder, "record", seeing)
    look(stack)
    assert not seen[-1]
    assert same(state(stack), before)


def test_a_fit_after_it_is_the_same_as_without():
    stack = zoo.build(SPEC)
    look(stack)
    assert same(state(train(stack, schedule="onecycle")), state(train(SPEC, schedule="onecycle")))


def test_a_run_that_finds_its_rates_is_one_that_was_given_them(tmp_path):
    """Neither an optimiser's state nor a random one comes out of the sweep: not the warm-up's weights either."""
    found = train(SPEC, tmp_path / "auto", lr="auto", level=1)
    run = files.read_json(tmp_path / "auto" / "run.json")
    assert run["options"]["lr"] == "auto"
    assert run["learning_rates"].keys() == {"1"}
    rate = run["learning_rates"]["1"]["auto"]
    assert rate == look(SPEC).suggested
    assert rate not in (1e-3, 10.0)
    assert same(state(found), state(train(SPEC, level=1, lr=rate)))
    train(found, tmp_path / "two", lr="auto", level=2)
    second = files.read_json(tmp_path / "two" / "run.json")["learning_rates"]["2"]["auto"]
    assert second != rate


def test_each_level_takes_its_own_and_what_follows_it_the_same(tmp_path):
    train(SPEC, tmp_path, lr="auto", refine=True, schedule="constant")
    found = files.read_json(tmp_path / "run.json")["learning_rates"]
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    used = {(line["level"], line["phase"]): line["lr"] for line in lines if "lr" in line}
    assert used == pytest.approx({
        (1, "pixels"): found["1"]["auto"], (2, "codes"): found["2"]["auto"], (2, "refine"): 0.1 * found["2"]["auto"],
    })  # fmt: skip


def test_a_run_that_is_resumed_takes_what_was_recorded(tmp_path, monkeypatch):
    given, run = [], Loop.run

    def running(loop, course, resumed=None):
        given.append((course.title, loop.options.lr))
        loop.interrupt.asked = course.title == "codes" and resumed is None and len(given) == 6
        return run(loop, course, resumed)

    monkeypatch.setattr(Loop, "run", running)
    with pytest.raises(InterruptedTrainingError, match="--resume"):
        train(SPEC, tmp_path, lr="auto")
    assert [title for title, _ in given] == ["learning rate"] * 2 + ["pixels"] + ["learning rate"] * 2 + ["codes"]
    record = files.read_json(tmp_path / "run.json")
    record["learning_rates"]["2"]["auto"] = 0.0123
    files.write_json(tmp_path / "run.json", record)
    del given[:]
    train(SPEC, tmp_path, lr="auto", resume=True)
    assert given == [("codes", 0.0123)]
    with pytest.raises(TrainingError, match=r"lr: 'auto' then, 0.001 now"):
        train(SPEC, tmp_path, resume=True)


# -- what it suggests ------------------------------------------------------------------------------------------------


def curve(losses, spread=0.01):
    """A sweep of a hundred steps from 1e-6 to 1."""
    return Sweep(1, [rising(step / 100, 1e-6) for step in range(100)], losses, spread)


def test_suggestions_of_a_curve_that_falls_and_rises():
    """Flat to 1e-4, down by 1 to 1e-2, flat to 1e-1, and up."""
    losses = [-min(max((log10(rising(step / 100, 1e-6)) + 4) / 2, 0.0), 1.0) for step in range(83)] + [5.0] * 17
    found = curve(losses)
    assert 1e-2 / 10 < found.minimum <= 1.2e-1 / 10
    assert 1e-4 < found.steep < 2e-2
    assert 1e-4 < found.valley < 2e-2
    assert found.edge == pytest.approx(2e-2, rel=0.3)
    assert found.suggested in found.suggestions.values()


def test_where_a_level_starts_at_its_best_the_edge_still_says_something():
    """Principal components only get worse at first; then there is no valley, and a least one at the lowest rates."""
    losses = [1e-5 * step * 10 ** (6 * step / 100) / 1e2 for step in range(100)]
    found = curve(losses, spread=0.05)
    assert found.minimum < 1e-6
    assert found.edge > 1e-4


def test_the_longest_fall_leaves_out_what_is_between():
    assert rates.falling([5.0, 6.0, 4.0, 4.5, 3.0, 3.0, 1.0]) in ([0, 2, 4, 6], [1, 2, 4, 6], [0, 3, 4, 6])
    assert rates.falling([1.0]) == [0]


def test_smoothing_starts_at_the_first_value_and_follows():
    assert rates.smooth([3.0, 3.0]) == pytest.approx([3.0, 3.0])
    assert rates.smooth([0.0] * 50 + [1.0] * 100)[-1] == pytest.approx(1.0, abs=1e-3)


def test_a_sweep_ends_when_the_loss_runs_away():
    found = look("8x8x1/fc4(hidden=[16], linear=false)", steps=60, span=(1e-4, 1e6), optimizer="sgd", clip=1e9)
    assert 2 < len(found.rates) < 60
    assert found.suggested < found.rates[-1]
    assert found.losses[0] == pytest.approx(0, abs=1e-3)


def test_a_sweep_does_not_warn_that_it_was_in_vain(capsys):
    """Its weights are put back, so nobody asks whether they are better than the first."""
    look(SPEC, progress=True)
    assert "warning" not in capsys.readouterr().err


# -- what cannot be swept --------------------------------------------------------------------------------------------


def test_levels_are_swept_bottom_up():
    assert look(SPEC).level == 1
    with pytest.raises(TrainingError, match="level 2 learns from the codes of those below, and level 1 is not trained"):
        look(SPEC, level=2)
    stack = train(SPEC)
    assert look(stack).level == 2
    assert look(stack, level=1).level == 1


def test_what_learns_nothing_or_against_an_adversary_is_not_swept_and_takes_the_default(tmp_path):
    stack = train("8x8x1/fc3(hidden=[4])/normal", tmp_path, lr="auto", steps=2)
    assert files.read_json(tmp_path / "run.json")["learning_rates"].keys() == {"1"}
    with pytest.raises(TrainingError, match="has nothing that learns by a rate"):
        look(stack, level=2)
    train("6x6x1/began(2, width=2)", lr="auto", steps=2)


def test_a_level_is_prepared_where_a_phase_on_codes_alone_comes_before(monkeypatch):
    """Which is passed over: without its start a level is swept that nobody would train."""
    prepared, prepare = [], FullyConnected.prepare
    monkeypatch.setattr(FullyConnected, "prepare", lambda stage, x: prepared.append(len(x)) or prepare(stage, x))
    found = look("8x8x1/fc4(hidden=[16])+wae_mmd(pretrain=4)")
    assert prepared == [91, 91]  # for each of the two passes
    assert found.losses[0] == pytest.approx(0, abs=1e-3)


def test_a_level_that_grows_is_swept_at_the_size_that_it_begins_with(tmp_path):
    grows = "8x8x1/conv2x2x3(width=4)"
    stack = zoo.build(grows)
    before = state(stack)
    found = look(stack, progressive=(4,))
    assert same(state(stack), before)
    train(grows, tmp_path, lr="auto", progressive=(4,))
    assert files.read_json(tmp_path / "run.json")["learning_rates"]["1"]["auto"] == found.suggested
    assert found.losses != look(grows).losses
    with pytest.raises(TrainingError, match="only level 1 learns from images that grow, not level 2"):
        look(train(SPEC), level=2, progressive=(4,))


def test_rates_that_are_none_are_refused():
    with pytest.raises(TrainingError, match="lr='fast': wants a number above 0, or 'auto'"):
        Options(lr="fast")
    with pytest.raises(TrainingError, match="lr=0: wants more than 0"):
        Options(lr=0)
    with pytest.raises(TrainingError, match="a rate that rises"):
        look(SPEC, span=(1.0, 0.1))
    with pytest.raises(TrainingError, match="leave out refine"):
        look(SPEC, refine=True)
    with pytest.raises(TrainingError, match="take their rates as rates="):
        zoo.fit_together([zoo.build("8x8x1/fc2")], squares(), lr="auto")


def test_an_interrupt_in_a_sweep_says_how_to_go_on(tmp_path, monkeypatch):
    run = Loop.run

    def asked(loop, course, resumed=None):
        loop.interrupt.asked = True
        return run(loop, course, resumed)

    monkeypatch.setattr(Loop, "run", asked)
    with pytest.raises(InterruptedTrainingError, match=r"looking for the learning rate of level 1\..*--resume"):
        train(SPEC, tmp_path, lr="auto")


def test_a_sweep_that_fails_leaves_the_stack_as_it_was(monkeypatch):
    def failing(*_):
        assert not all(parameter.is_contiguous() for parameter in stack.parameters())
        raise TrainingError("the loss is not finite")

    stack = train(SPEC, level=1)
    stack.level(2).stage.train()
    before, modes = state(stack), [part.training for part in stack.modules()]
    monkeypatch.setattr(rates, "_train", failing)
    with pytest.raises(TrainingError, match="not finite"):
        look(stack)
    assert same(state(stack), before)
    assert all(parameter.is_contiguous() for parameter in stack.parameters())
    assert [part.training for part in stack.modules()] == modes


# -- the program -----------------------------------------------------------------------------------------------------


def test_the_program_suggests_and_draws(tmp_path):
    picture = tmp_path / "sweep.png"
    words = ["lr-find", "14x14x1/fc3(hidden=[8])", "--data", "sample", "--steps", "6", "--out", str(picture)]
    said = CliRunner().invoke(main, words)
    assert said.exit_code == 0, said.output
    assert {"valley", "steep", "minimum", "edge", "auto"} <= set(said.output.split())
    assert picture.stat().st_size > 10_000


def test_the_program_sweeps_as_it_is_told_to_train():
    words = ["lr-find", "8x8x1/conv2x2x3(width=4)", "--data", "sample", "--steps", "4", "--batch-size", "8"]
    how = ["--progressive", "4", "--corrupt", "mask=0.5", "--clip", "0", "--precision", "fp32", "--weight-decay", "0.5"]
    said = CliRunner().invoke(main, [*words, *how])
    assert said.exit_code == 0, said.output
    options = {"progressive": (4,), "corrupt": "mask=0.5", "clip": 0, "precision": "fp32", "weight_decay": 0.5}
    found = zoo.find_lr(words[1], "sample", steps=4, batch_size=8, progress=False, **options)
    assert said.output.split()[-1] == f"{found.suggested:.2g}"
    plain = CliRunner().invoke(main, words)
    assert plain.output != said.output


def test_the_program_trains_at_a_rate_that_it_finds(tmp_path):
    words = ["train", "14x14x1/fc3(hidden=[8])", "--data", "sample", "--steps", "2", "--lr", "auto", "--out"]
    said = CliRunner().invoke(main, [*words, str(tmp_path / "run")])
    assert said.exit_code == 0, said.output
    assert "1" in files.read_json(tmp_path / "run" / "run.json")["learning_rates"]
    assert CliRunner().invoke(main, [*words, str(tmp_path / "other"), "--lr", "-1"]).exit_code == 2
