"""The program at work: train, measure, draw, sample, encode, decode; stopped and resumed; the demo."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import state
from click.testing import CliRunner
from pace import PATIENCE
from PIL import Image
from safetensors.torch import load_file, save_file

from zoo import builder, evaluation, files, pictures
from zoo.cli import demonstrating, main
from zoo.data import images

SPEC = "8x8x1/conv2x2x4(width=4, blocks=0)/fc2+wae_mmd"
STEPS = ("--steps", 3, "--precision", "fp32")


def zoo(*words, code=0):
    """Run the program in this process; its result, which must have this exit code."""
    result = CliRunner().invoke(main, [str(word) for word in words], prog_name="zoo")
    assert result.exit_code == code, f"{result.exit_code}\n{result.output}\n{result.exception!r}"
    return result


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of two classes, with images of the same name in both."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (folder / name).mkdir()
        for number in range(20):
            pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """A stack that was trained for a moment."""
    out = tmp_path_factory.mktemp("runs") / "run"
    said = zoo("train", SPEC, "--data", photos, "--out", out, *STEPS).stdout
    assert f"zoo eval {out} --data {photos}" in said
    assert f"zoo sample {out}" in said
    return out


def test_what_was_trained_is_a_stack(run):
    stack = builder.load(run)
    assert str(stack.spec).startswith("8x8x1/conv2x2x4")
    assert (run / "history.jsonl").is_file()


def test_eval(run, photos):
    result = zoo("eval", run, "--data", photos)
    assert "level 2: fc2+wae_mmd" in result.stdout
    report = json.loads((run / "report.json").read_text())
    assert "Not yet evaluated" not in (run / "README.md").read_text()
    printed = json.loads(zoo("eval", run, "--data", photos, "--json").stdout)
    assert printed["end_to_end"] == report["end_to_end"]
    assert zoo("show", run).stdout.count("level 2: fc2+wae_mmd") >= 1
    assert json.loads(zoo("show", run, "--json").stdout)["report"]["end_to_end"] == report["end_to_end"]


def test_eval_to_a_file_leaves_the_stack_as_it_is(run, photos, tmp_path):
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    zoo("eval", run, "--data", photos, "--out", tmp_path / "elsewhere.json")
    assert json.loads((tmp_path / "elsewhere.json").read_text())["levels"]
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_a_published_stage_is_measured_and_encodes_like_a_folder(photos, tmp_path):
    name = "conv7x7x10.fashion_mnist"
    told = zoo("eval", name, "--data", photos)
    assert "end to end" in told.stdout or "level 1" in told.stdout
    assert "not kept, as this is no folder of yours: --out FILE keeps it" in told.stderr
    zoo("eval", name, "--data", photos, "--out", tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["levels"]
    zoo("encode", name, "--data", photos, "--out", tmp_path / "codes")
    assert len(json.loads((tmp_path / "codes" / "files.json").read_text())["weights"]) == 1
    zoo("decode", name, tmp_path / "codes", "--out", tmp_path / "images")
    assert len([*(tmp_path / "images").iterdir()]) == 40


def test_sample(run, tmp_path):
    pictures = [tmp_path / f"{name}.png" for name in "abc"]
    for picture, seed in zip(pictures, (1, 1, 2), strict=True):
        assert zoo("sample", run, "-n", 9, "--out", picture, "--seed", seed).stdout == f"{picture}\n"
    same, again, other = (picture.read_bytes() for picture in pictures)
    assert same == again != other
    assert "label" in zoo("sample", run, "--out", pictures[0], "--label", 1, code=1).stderr


def test_draw(run, photos, tmp_path):
    zoo("draw", run, "--data", photos, "--out", tmp_path)
    names = {"reconstructions.png", "pairs.png", "samples.png", "interpolation.png", "codes.png", "curves.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    for name in names:
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 100


def test_draw_takes_a_part_of_the_images_and_a_seed(run, photos, tmp_path):
    zoo("draw", run, "--data", photos, "--split", "train", "--seed", 3, "--out", tmp_path / "asked")
    pictures.draw(builder.load(run), str(photos), tmp_path / "wanted", split="train", seed=3)
    pictures.draw(builder.load(run), str(photos), tmp_path / "usual")
    for name in ("reconstructions.png", "samples.png"):
        asked, wanted, usual = ((tmp_path / folder / name).read_bytes() for folder in ("asked", "wanted", "usual"))
        assert asked == wanted != usual


def test_eval_takes_so_many_images_at_once(run, photos, tmp_path):
    words = ("--data", photos, "--split", "all", "--out", tmp_path / "report.json", "--json")
    for size in (7, 256):
        report = json.loads(zoo("eval", run, *words, "--batch-size", size).stdout)
        assert report["throughput"]["batch_size"] == min(size, 40)


def test_encode_and_decode(run, photos, tmp_path):
    zoo("encode", run, "--data", photos, "--out", tmp_path / "codes")
    tensors = load_file(tmp_path / "codes" / "codes.safetensors")
    told = json.loads((tmp_path / "codes" / "files.json").read_text())
    assert tensors["codes"].shape == (40, 2)
    assert tensors["codes"].dtype == torch.float32
    assert told["files"] == [f"{name}/{number:02}.png" for name in ("cats", "dogs") for number in range(20)]
    assert told["classes"] == ["cats", "dogs"]
    assert tensors["labels"].tolist() == [0] * 20 + [1] * 20
    stack = builder.load(run)
    pixels = torch.tensor(np.asarray(Image.open(photos / "dogs" / "03.png"))) / 255
    with torch.inference_mode():
        assert torch.allclose(stack.encode(pixels[None, None])[0], tensors["codes"][23], atol=1e-5)
        x_hat = stack.decode(tensors["codes"][23:24])[0, 0]

    zoo("decode", run, tmp_path / "codes", "--out", tmp_path / "images")
    names = {path.name for path in (tmp_path / "images").iterdir()}
    assert names == {f"{number:02}{copy}.png" for number in range(20) for copy in ("", "-2")}
    shown = torch.tensor(np.asarray(Image.open(tmp_path / "images" / "03-2.png")))
    assert (shown / 255 - x_hat).abs().max() <= 0.51 / 255


def test_a_part_of_the_images_and_a_lower_level(photos, tmp_path):
    run = tmp_path / "run"
    zoo("train", "8x8x1/fc6(hidden=[8])/fc2(hidden=[8])", "--data", photos, "--out", run, "--steps", 1)
    names = {}
    for split in ("train", "test"):
        zoo("encode", run, "--data", photos, "--split", split, "--level", 1, "--out", tmp_path / split)
        told = json.loads((tmp_path / split / "files.json").read_text())
        assert (told["split"], told["level"]) == (split, 1)
        names[split] = {*told["files"]}
        assert load_file(tmp_path / split / "codes.safetensors")["codes"].shape == (len(names[split]), 6)
    assert names["test"]
    assert not names["train"] & names["test"]
    zoo("decode", run, tmp_path / "test", "--out", tmp_path / "images")
    assert len([*(tmp_path / "images").iterdir()]) == len(names["test"])
    assert (
        "has levels 1 to 2"
        in zoo("encode", run, "--data", photos, "--level", 3, "--out", tmp_path / "no", code=2).stderr
    )


def test_eval_takes_other_images_to_fit_on(run, photos, tmp_path):
    array, others = tmp_path / "some.npy", tmp_path / "others.npy"
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(photos.rglob("*.png"))])
    np.save(array, pixels[::2])
    np.save(others, pixels[1::2])
    notes = {}
    for name, fitted_on in (("alone", ()), ("beside", ("--train", others)), ("among", ("--train", photos))):
        said = zoo("eval", run, "--data", array, *fitted_on, "--out", tmp_path / "report.json", "--json").stdout
        notes[name] = [note for note in json.loads(said)["notes"] if "--train (train=)" in note]
    assert [len(notes[name]) for name in ("alone", "beside", "among")] == [1, 0, 1]
    assert "of the 20 images that are measured are training images too" in notes["among"][0]


def test_decode_takes_any_file_of_codes(run, tmp_path):
    save_file({"codes": torch.randn(3, 2)}, tmp_path / "mine.safetensors")
    zoo("decode", run, tmp_path / "mine.safetensors", "--out", tmp_path / "images")
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["00000.png", "00001.png", "00002.png"]


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"codes": torch.zeros(3, 5)}, "decodes floating-point ones of (2,)"),
        ({"codes": torch.zeros(3, 2, dtype=torch.int64)}, "decodes floating-point ones of (2,)"),
        ({"codes": torch.full((3, 2), torch.nan)}, "holds codes that are not finite"),
        ({"z": torch.zeros(3, 2)}, "holds no tensor 'codes'"),
    ],
)
def test_decode_refuses_other_codes(run, tmp_path, tensors, said):
    save_file(tensors, tmp_path / "mine.safetensors")
    assert said in zoo("decode", run, tmp_path / "mine.safetensors", "--out", tmp_path / "images", code=1).stderr
    assert not (tmp_path / "images").exists()


def test_decoding_replaces_no_images_but_its_own(run, photos, tmp_path):
    """Decoded images have the names of those that were encoded."""
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(photos.rglob("*.png"))[:3]):
        (flat / f"{number}.png").write_bytes(path.read_bytes())
    before = {path.name: path.read_bytes() for path in flat.iterdir()}
    zoo("encode", run, "--data", flat, "--out", tmp_path / "codes")
    assert "no decoding wrote it" in zoo("decode", run, tmp_path / "codes", "--out", flat, code=1).stderr
    assert {path.name: path.read_bytes() for path in flat.iterdir()} == before
    for _ in range(2):
        zoo("decode", run, tmp_path / "codes", "--out", tmp_path / "back")
    assert {path.name for path in (tmp_path / "back").iterdir()} == before.keys()


def test_encoding_replaces_no_files_json_but_its_own(run, photos, tmp_path):
    for others in ('{"files": ["mine"]}', "[1, 2]", "no JSON"):
        (tmp_path / "files.json").write_text(others)
        said = zoo("encode", run, "--data", photos, "--out", tmp_path, code=1).stderr
        assert "no encoding wrote it" in said
        assert (tmp_path / "files.json").read_text() == others
        assert {path.name for path in tmp_path.iterdir()} == {"files.json"}
    for _ in range(2):
        zoo("encode", run, "--data", photos, "--out", tmp_path / "codes")


def test_codes_never_have_the_names_of_others(run, photos, tmp_path, monkeypatch):
    """An encoding that is stopped between its two files leaves codes without names, not with those of the last one."""
    zoo("encode", run, "--data", photos, "--out", tmp_path)

    def stopped(path, value):
        raise KeyboardInterrupt

    monkeypatch.setattr("zoo.files.write_json", stopped)
    zoo("encode", run, "--data", photos, "--split", "test", "--out", tmp_path, code=130)
    assert {path.name for path in tmp_path.iterdir()} == {"codes.safetensors"}


def test_what_is_written_is_not_read_as_data(run, photos, tmp_path, monkeypatch):
    shutil.copytree(photos, tmp_path / "photos")
    monkeypatch.chdir(tmp_path / "photos")
    for words in (("train", SPEC, "--steps", 1), ("draw", run), ("encode", run)):
        said = zoo(*words, "--data", ".", "--out", tmp_path / "photos", code=2).stderr
        assert "is the folder of the images" in said
    before = images(".", (1, 8, 8), split="all")
    zoo("train", SPEC, "--steps", 1, "--data", ".", "--out", "runs/one")
    for out in ("pictures", "runs", "runs/two", "cats/one"):
        said = zoo("draw", "runs/one", "--data", ".", "--out", out, code=2).stderr
        assert f"--out {out} is below the folder of the images, .:" in said
    for out in ("runs/one", "runs/one/pictures", ".hidden/pictures", "../beside"):
        zoo("draw", "runs/one", "--data", ".", "--out", out)
        assert images(".", (1, 8, 8), split="all").files == before.files


def test_a_level_that_is_not_trained_is_the_next(photos, tmp_path):
    said = zoo("train", SPEC, "--data", photos, "--steps", 1, "--level", 1, "--out", tmp_path / "one").stdout
    (command,) = said.splitlines()[1:]
    assert command.split()[:2] == ["zoo", "train"]
    assert "--level 2" in command
    assert "zoo eval" not in said


def test_decoded_files_stay_in_their_folder(run, tmp_path):
    save_file({"codes": torch.zeros(5, 2)}, tmp_path / "codes.safetensors")
    names = ["../../up.png", "/etc/passwd", "..\\back.png", ".hidden", "a" * 400 + ".png"]
    (tmp_path / "files.json").write_text(json.dumps({"files": names}))
    zoo("decode", run, tmp_path, "--out", tmp_path / "images")
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == sorted(
        ["up.png", "passwd.png", "back.png", "_hidden.png", "a" * 200 + ".png"]
    )
    assert {path.name for path in tmp_path.iterdir()} == {"codes.safetensors", "files.json", "images"}


def test_decode_notices_codes_of_another_stack(run, tmp_path):
    save_file({"codes": torch.zeros(1, 2)}, tmp_path / "codes.safetensors")
    (tmp_path / "files.json").write_text(json.dumps({"spec": "8x8x1/fc2", "weights": ["0f"], "files": None}))
    assert "those of another stack, 8x8x1/fc2" in zoo("decode", run, tmp_path, "--out", tmp_path / "images").stderr
    for names in (["a.png", "b.png"], "a", {"a.png": 1}):
        (tmp_path / "files.json").write_text(json.dumps({"files": names}))
        assert "one file for each of 1 codes" in zoo("decode", run, tmp_path, "--out", tmp_path, code=1).stderr


def test_a_saved_stack_is_trained_on(run, photos, tmp_path):
    zoo("train", run, "--data", photos, "--out", tmp_path / "more", "--level", 2, *STEPS)
    before, after = builder.load(run), builder.load(tmp_path / "more")
    same = [
        all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
        for one, two in zip(before.levels, after.levels, strict=True)
    ]
    assert same == [True, False]


def test_a_run_is_not_overwritten(run, photos):
    assert "--resume" in zoo("train", SPEC, "--data", photos, "--out", run, *STEPS, code=1).stderr


def test_every_option_reaches_the_trainer(photos, tmp_path):
    zoo(
        "train", "8x8x1/conv2x2x4(width=4, blocks=0)+kl/fc2", "--data", photos, "--val", photos,
        "--out", tmp_path / "run",
        "--epochs", 1, "--loss-in", "pixels", "--refine", "--batch-size", 8, "--seed", 3, "--lr", 0.002,
        "--optimizer", "adam", "--schedule", "constant", "--weight-decay", 0, "--clip", 2, "--ema", 0,
        "--precision", "fp32", "--log-every", 2, "--strict", "--augment", "flip", "--views", 2,
        "--corrupt", "noise=0.1", "--milestones", "0.4,0.6",
    )  # fmt: skip
    options = json.loads((tmp_path / "run" / "run.json").read_text())["options"]
    assert options == {
        "epochs": 1, "steps": None, "minutes": None, "loss_in": "pixels", "refine": True, "batch_size": 8, "seed": 3,
        "lr": 0.002, "optimizer": "adam", "schedule": "constant", "weight_decay": 0.0, "clip": 2.0, "ema": 0.0,
        "precision": "fp32", "compile": False, "log_every": 2, "level": None, "codes": "mean", "code_dtype": "float32",
        "augment": "flip", "views": 2, "corrupt": "noise=0.1", "milestones": [0.4, 0.6], "fold": None,
        "progressive": [],
    }  # fmt: skip


def test_ctrl_c_stops_a_run_and_resume_finishes_it(photos, tmp_path):
    """A run that was stopped and resumed ends with the weights of one that was not."""
    words = ["train", SPEC, "--data", str(photos), "--steps", "250", "--precision", "fp32", "--log-every", "1"]
    out = tmp_path / "stopped"
    command = [sys.executable, "-m", "zoo", *words, "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    history = out / "history.jsonl"
    until = time.monotonic() + PATIENCE
    while not (history.is_file() and history.read_text().count("\n") > 5) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, error
    assert said == ""
    assert "--resume" in error
    assert "Traceback" not in error
    assert not (out / "config.json").exists()

    zoo(*words, "--out", out, "--resume")
    zoo(*words, "--out", tmp_path / "whole")
    stopped, whole = builder.load(out).state_dict(), builder.load(tmp_path / "whole").state_dict()
    assert all(torch.equal(stopped[name], whole[name]) for name in whole)


def test_demo(photos, monkeypatch, tmp_path):
    monkeypatch.setattr(demonstrating, "DATA", str(photos))
    monkeypatch.setattr(demonstrating, "STEPS", 3)
    out = tmp_path / "demo"
    said = zoo("demo", "--out", out).stdout
    assert "level 2: fc8+wae_mmd" in said
    for name in demonstrating.RESULTS:
        assert (out / name).is_file(), name
        assert name in said
    trained = (out / "config.json").read_bytes()

    again = zoo("demo", "--out", out)
    assert "is finished" in again.stderr
    assert again.stdout == said
    (out / "samples.png").unlink()  # stopped while it drew
    zoo("demo", "--out", out)
    assert (out / "samples.png").is_file()
    assert (out / "config.json").read_bytes() == trained

    monkeypatch.setattr(demonstrating, "STEPS", 4)
    (out / "samples.png").unlink()
    assert "--fresh starts again" in zoo("demo", "--out", out, code=1).stderr
    for mine in ("mine.txt", "README.md", "logs/mine.log"):
        (out / mine).parent.mkdir(exist_ok=True)
        (out / mine).write_text("kept")
    zoo("demo", "--out", out, "--fresh")
    assert all((out / mine).read_text() == "kept" for mine in ("mine.txt", "README.md", "logs/mine.log"))
    assert (out / "config.json").read_bytes() != trained


def test_the_demo_is_measured_where_it_was_trained(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(state, "PartialState", lambda: SimpleNamespace(device=torch.device("meta")))  # a GPU, say
    monkeypatch.setattr(demonstrating, "_trained", lambda out: builder.build("28x28x1/fc2"))
    monkeypatch.setattr(evaluation, "evaluate", lambda stack, *_, **__: seen.append(stack.device.type) or {})
    monkeypatch.setattr(pictures, "draw", lambda stack, *_: seen.append(stack.device.type))
    monkeypatch.setattr(files, "write_report", lambda *_: None)
    demonstrating._run(tmp_path)
    assert seen == ["meta", "meta"]


def test_the_demo_removes_only_a_demo(run):
    before = sorted(path.name for path in run.iterdir())
    assert "holds another run" in zoo("demo", "--out", run, "--fresh", code=1).stderr
    assert sorted(path.name for path in run.iterdir()) == before
