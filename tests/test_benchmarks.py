"""The runner of the benchmarks: what a row says, and what is kept of a run."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

import benchmarks.__main__ as runner
from benchmarks.rows import Row


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
