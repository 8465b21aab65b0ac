"""What the program says when something goes wrong, and the exit codes it says it with."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from zoo import registry
from zoo.cli import main

SPEC = "8x8x1/conv2x2x4(width=4, blocks=0)/fc2+wae_mmd"


def zoo(*words, code=0):
    """Run the program in this process; its result, which must have this exit code."""
    result = CliRunner().invoke(main, [str(word) for word in words], prog_name="zoo")
    assert result.exit_code == code, f"{result.exit_code}\n{result.output}\n{result.exception!r}"
    return result


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "cnov8x8x4"], "did you mean 'conv'?"),
        (["show", "conv8x8x64+kl(wieght=2)"], "  64x64x3/conv8x8x64+kl(wieght=2)\n                     ^"),
        (["show", "no/such/folder"], "Nor is no/such/folder a folder"),
        (["show", "."], "there is no config.json in this folder"),
        (["cite", "kl"], "'kl' is no stage or head but a regularizer"),
        (["train", "fc8+", "--data", "sample", "--out", "run"], "fc8+"),
        (["train", SPEC, "--data", "no_such_data", "--out", "run"], "no_such_data"),
        (["train", SPEC, "--data", "sample", "--out", "run", "--resume"], "no run to resume"),
        (["eval", "nowhere", "--data", "sample"], "no stack at nowhere"),
        (["sample", "nowhere", "--out", "a.png"], "no stack at nowhere"),
        (["draw", "nowhere", "--data", "sample", "--out", "pictures"], "no stack at nowhere"),
        (["encode", "nowhere", "--data", "sample", "--out", "codes"], "no stack at nowhere"),
        (["decode", "nowhere", "codes", "--out", "images"], "no stack at nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_messages(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = zoo(*words, code=1)
    assert result.stderr.startswith("Error: ")
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shwo"], "No such command"),
        (["train", SPEC], "Missing option"),
        (["train", SPEC, "--data", "a", "--out", "b", "--steps", "1", "--epochs", "2"], "--epochs and --steps: one of"),
        (["train", SPEC, "--data", "a", "--out", "b", "--from", "best"], "it takes --resume"),
        (["train", SPEC, "--data", "a", "--out", "b", "--optimizer", "lion"], "'lion' is not one of"),
        (["train", SPEC, "--data", "a", "--out", "b", "--batch-size", "0"], "0 is not in the range"),
        (["train", SPEC, "--data", "a", "--out", "b", "--lr", "fast"], "'fast' is no number above 0, nor auto"),
        (["train", SPEC, "--data", "a", "--out", "b", "--milestones", "x"], "'x' is no list of parts of the budget"),
        (["train", SPEC, "--data", "a", "--out", "b", "--progressive", "8,x"], "'8,x' is no list of heights"),
        (["eval", "run", "--data", "a", "--samples", "10"], "--samples needs --features"),
        (["sample", "run", "--out", "a.jpg"], "a picture is a .png file"),
        (["sample", "run", "-n", "0", "--out", "a.png"], "0 is not in the range"),
        (["list", "--kind", "stages"], "'stages' is not one of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_exits_with_2(words, said):
    assert said in zoo(*words, code=2).stderr


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")]
)
@pytest.mark.parametrize("words", [["train", SPEC, "--data", "sample", "--out", "run"], ["show", SPEC]])
def test_too_little_memory_is_no_bug(error, words, monkeypatch):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("zoo.builder.build", fails)
    said = zoo(*words, code=1).stderr
    assert said.startswith("Error: out of memory: ")
    assert ("--batch-size" in said) is (words[0] == "train")  # only where there is that option
    assert "smaller images" in said
    assert "bug" not in said


@pytest.mark.parametrize("words", [["show"], ["eval", "--data", "sample"]])
def test_a_run_that_is_not_finished_is_no_wrong_folder(words, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    assert "training is not finished" in zoo(words[0], tmp_path, *words[1:], code=1).stderr


def test_debug_shows_the_traceback():
    result = subprocess.run([sys.executable, "-m", "zoo", "--debug", "show", "."], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback")
    assert "zoo.errors.FileError: no stack at ." in result.stderr


def test_what_is_not_expected_is_called_a_bug(monkeypatch):
    monkeypatch.setattr(registry, "plugins", lambda: 1 / 0)
    result = zoo("plugins", code=1)
    assert result.stderr.startswith("Error: ZeroDivisionError: division by zero\nThis is a bug")
    assert "zoo --debug" in result.stderr
    assert isinstance(CliRunner().invoke(main, ["--debug", "plugins"]).exception, ZeroDivisionError)


def test_files_that_cannot_be_used_are_no_bug(monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device", "run/config.json")

    monkeypatch.setattr(registry, "plugins", full)
    assert zoo("plugins", code=1).stderr == "Error: run/config.json: No space left on device\n"


def test_ctrl_c_is_no_error(monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "plugins", interrupted)
    assert zoo("plugins", code=130).stderr == "Stopped.\n"
