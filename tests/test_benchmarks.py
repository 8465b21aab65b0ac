"""The runner of the benchmarks: what a row says, and what is kept of a run."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import benchmarks.__main__ as runner
from benchmarks import page, pairs, scale, startup, trainer_overhead
from benchmarks.pairs import Taken
from benchmarks.rows import Row
from benchmarks.stepping import step_of, stepping
from zoo.builder import build
from zoo.training import averaging, schedules
from zoo.training.schedules import Budget


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        (Row("s", 0.2, 0.4, "ours <= 0.25"), True),
        (Row("s", 0.3, 0.4, "ours <= 0.25"), False),
        (Row("images/s", 300.0, 100.0, "ratio >= 3"), True),
        (Row("images/s", 200.0, 100.0, "ratio >= 3"), False),
        (Row("images/s", 200.0, None, "ratio >= 3"), False),
        (Row("images/s", 200.0), True),
    ],
)
def test_a_bar_is_kept_or_missed(row, kept):
    assert row.kept is kept


def test_a_bar_that_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match=r"ours <= 0\.25"):
        Row("s", 0.2, bar="less than a second")


def test_a_run_prints_a_table_and_keeps_its_rows(monkeypatch, capsys, tmp_path):
    rows = [Row("speed, images/s", 200.0, 100.0, "ratio >= 3"), Row("size, bytes", 5.0)]
    monkeypatch.setattr(runner, "available", lambda: {"fake": SimpleNamespace(__doc__="Fake.", run=lambda: rows)})
    monkeypatch.setattr(sys, "argv", ["benchmarks", "fake", "--json", str(tmp_path / "fake.json")])
    assert runner.main() == 1
    assert "MISSED" in capsys.readouterr().out
    kept = json.loads((tmp_path / "fake.json").read_text())
    assert kept["rows"][0] == {
        "name": "speed, images/s",
        "ours": 200.0,
        "anchor": 100.0,
        "ratio": 2.0,
        "bar": "ratio >= 3",
    }
    assert kept["machine"]["cores"] >= 1
    assert kept["versions"]["torch"]


def test_benchmarks_are_found_and_an_unknown_one_is_refused(monkeypatch, capsys):
    assert "startup" in runner.available()
    monkeypatch.setattr(sys, "argv", ["benchmarks", "strtup"])
    with pytest.raises(SystemExit):
        runner.main()
    assert "startup" in capsys.readouterr().err


BENCHMARKS = ("codes", "data", "levels", "load", "memory", "peers", "resume", "scale", "startup", "together",
              "trainer_overhead", "unit")  # fmt: skip


def test_the_loop_by_hand_has_the_trainers_learning_rates():
    steps, rates = 3 * averaging.YOUNG, []
    level, pixels = build("8x8x1/fc2(hidden=[4])").level(1), torch.randint(256, (8, 1, 8, 8), dtype=torch.uint8)
    watch = register_optimizer_step_post_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    try:
        taken = sum(1 for _ in trainer_overhead.by_hand(level, pixels, batch_size=4, steps=steps))
    finally:
        watch.remove()
    warm = Budget(steps, None).warm
    wanted = [schedules.rate("cosine", step / steps, warm(step, step / steps)) for step in range(steps)]
    assert taken == steps
    assert rates == pytest.approx([trainer_overhead.LR * factor for factor in wanted])


def test_every_benchmark_is_listed_with_what_it_measures(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--list"])
    assert runner.main() == 0
    listed = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert sorted(listed) == [*BENCHMARKS]
    assert all(listed.values())


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_have_one_shape(name):
    asked = inspect.signature(runner.available()[name].run).parameters
    assert {*asked} <= {"long"}
    assert all(parameter.default is False for parameter in asked.values())


@pytest.mark.parametrize("long", [False, True])
def test_long_reaches_those_that_have_something_long(monkeypatch, capsys, long):
    asked = []

    def run(*, long=False):
        asked.append(long)
        return []

    there = {"fake": SimpleNamespace(__doc__="Fake.", run=run), "other": SimpleNamespace(__doc__="O.", run=list)}
    monkeypatch.setattr(runner, "available", lambda: there)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "fake", "other", *["--long"] * long])
    assert runner.main() == 0
    assert asked == [long]


def test_the_ratio_is_that_of_neighbours():
    """The machine was ten times slower in the second turn, for both."""
    taken = [(Taken(1, 1), Taken(2, 3)), (Taken(10, 1), Taken(20, 3)), (Taken(2, 1), Taken(4, 3))]
    wall, processor = pairs.rates("images/s", taken, 100, "ratio >= 2")
    assert (wall.anchor, wall.ratio, wall.kept) == (25, 2, True)
    assert (processor.ratio, processor.bar) == (3, None)


def test_ours_and_the_anchor_take_turns():
    calls = []
    assert len(pairs.in_turn(lambda: calls.append("ours"), lambda: calls.append("anchor"), turns=2)) == 2
    assert calls == ["ours", "anchor"] * 3


def test_steps_of_any_optimiser_are_seen():
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    with stepping() as moments:
        for _ in range(3):
            optimizer.step()
    optimizer.step()
    assert len(moments) == 3
    assert step_of([Taken(0, 0), Taken(5, 1), Taken(6, 3), Taken(8, 5)]) == Taken(2, 2)


def test_a_history_is_read_by_level():
    lines = [
        {"level": 1, "step": 1, "loss": 3.0},
        {"level": 1, "step": 1, "val": {"loss": 2.0, "mse": 0.5}},
        {"level": 2, "step": 1, "loss": 1.0},
    ]
    assert scale.values(lines, 1, "loss") == [3.0]
    assert scale.values(lines, 1, "mse") == [0.5]
    assert scale.values(lines, 2, "mse") == []


def test_a_dummy_plugin_is_one_to_the_zoo(tmp_path):
    startup.install(tmp_path, "dummy_a")
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "list", "dummy*"], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert "dummy_a" in done.stdout
    assert not done.stderr


def test_the_page_holds_what_was_kept(monkeypatch, tmp_path):
    rows = [Row("speed | images/s", 200.0, 100.0, "ratio >= 3"), Row("size, bytes", 5.0)]
    kept = {"rows": [row.to_json() for row in rows], "machine": {"processor": "P", "cores": 2, "load": 0.25},
            "versions": {"python": "3.11", "torch": "2.10"}}  # fmt: skip
    (tmp_path / "fake.json").write_text(json.dumps(kept))
    (tmp_path / "table.json").write_text(json.dumps({"rows": [{"key": 1}]}))
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    there = {name: SimpleNamespace(__doc__="What.\n\nAs ``zoo.fit``.\n") for name in ("table", "unmeasured", "fake")}
    text = page.page(there)
    assert "## fake\n\nWhat.\n\nAs `zoo.fit`.\n" in text
    assert r"| speed \| images/s | 200 | 100 | 2 | ratio >= 3 | **missed** |" in text
    assert "| size, bytes | 5 |  |  |  |  |" in text
    assert "P, 2 cores" in text
    assert "## table" not in text
    assert "## unmeasured" not in text


def test_the_page_is_that_of_the_results():
    assert page.PAGE.read_text("utf-8") == page.page(runner.available())
