"""Resuming: the same run to the last bit, another run never, and a folder that two write to neither."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from children import ended, start, until
from devices import Drawing

from zoo import codes
from zoo.builder import build
from zoo.cache import making
from zoo.data import Images
from zoo.errors import TrainingError
from zoo.interfaces import Regularizer
from zoo.seeding import seeded
from zoo.training import InterruptedTrainingError, checkpoints, fit, randomness, records
from zoo.training import loop as loops
from zoo.training import run as runs
from zoo.training.together import Together

SPEC = "8x8x1/conv2x2x4(width=4, blocks=0)+kl/fc2(hidden=[4])+kl"
STEPS = 6


def pixels(count=120):
    """A bright square somewhere."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(count, 1, 8, 8, dtype=torch.uint8)
    for image, (row, column) in zip(x, torch.randint(5, (count, 2), generator=generator).tolist(), strict=True):
        image[0, row : row + 3, column : column + 3] = 255
    return x


def train(out, *, spec=SPEC, data=None, stack=None, **options):
    data = Images(pixels(), name="squares") if data is None else data
    options = {"steps": STEPS, "batch_size": 16, "progress": False, "log_every": 2, "precision": "fp32", **options}
    return fit(stack or build(spec), data, out=out, **options)


def weights(out):
    return {path.name: path.read_bytes() for path in out.glob("level-*")}


def told(out):
    """The history's lines, without the times."""
    lines = map(json.loads, (out / "history.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if "second" not in key} for line in lines]


def checkpoints_mapped(run):
    """The lines of this process's memory map that are of a run's checkpoints."""
    maps = Path("/proc/self/maps").read_text("utf-8").splitlines()
    return [line for line in maps if f"{run}/checkpoints/" in line]


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "trackers", lambda **_: [])
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return monkeypatch


@pytest.fixture
def stopped(monkeypatch):
    """Have a run asked to stop after some steps, all told."""
    step = loops._Run._step

    def stop(after, work):
        taken = []

        def stopping(run, progress):
            taken.append(1)
            run.loop.interrupt.asked = len(taken) >= after
            return step(run, progress)

        with monkeypatch.context() as patch:
            patch.setattr(loops._Run, "_step", stopping)
            with pytest.raises(InterruptedTrainingError):
                work()

    return stop


@pytest.fixture
def begun(tmp_path, stopped):
    """The folder of a run that was stopped after its third step."""
    stopped(3, lambda: train(tmp_path / "run"))
    return tmp_path / "run"


@pytest.mark.parametrize(("then", "now"), [({}, {"encoder": 0.0}), ({"encoder": 0.0}, {})])
def test_a_checkpoint_of_a_version_that_trained_other_parameters(tmp_path, stopped, monkeypatch, then, now):
    spec = "8x8x1/fc2(hidden=[4])"
    monkeypatch.setattr("zoo_conv.fc.settled_components", lambda *_: then)
    stopped(3, lambda: train(tmp_path, spec=spec))
    monkeypatch.setattr("zoo_conv.fc.settled_components", lambda *_: now)
    with pytest.raises(
        TrainingError, match=r"another version, which trained other parameters \(learns\.stage\.encoder"
    ):
        train(tmp_path, spec=spec, resume=True)


class TestAnotherRun:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"lr": 0.01}, [r"lr: 0\.001 then, 0\.01 now"]),
            ({"seed": 3}, ["seed: 0 then, 3 now", "data|val"]),
            ({"steps": 7}, ["steps: 6 then, 7 now"]),
            ({"steps": None, "epochs": 1}, ["steps: 6 then, None now", "epochs: None then, 1 now"]),
            ({"codes": "moments", "ema": 0.5}, ["codes: 'mean' then, 'moments' now", r"ema: 0\.998 then, 0\.5 now"]),
            ({"augment": "flip", "views": 2}, ["augment: None then, 'flip' now", "views: 0 then, 2 now"]),
            ({"level": 1}, ["level: None then, 1 now"]),
            ({"spec": SPEC.replace("fc2", "fc3")}, ["spec: .*fc2.* then, .*fc3.* now", "levels: .* then, .* now"]),
            ({"spec": SPEC.replace("+kl/", "+kl(2)/")}, [r"spec: .*kl\(2\)", r"levels: .* then, .*kl\(.*weight=2"]),
            ({"data": Images(pixels().flip(0), name="squares")}, ["data: .* then, .* now", "val: .* then, .* now"]),
            ({"data": Images(pixels(119), name="squares")}, ["data: '120 images .* then, '119 images", "val"]),
            ({"val": Images(pixels(9), name="others")}, ["val: '6 images of squares.* then, '9 images of others"]),
        ],
    )
    def test_is_refused_and_every_difference_named(self, begun, change, words):
        before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
        with pytest.raises(TrainingError, match="holds another run, which cannot be resumed as this one") as refused:
            train(begun, resume=True, **change)
        for word in words:
            assert refused.match(word)
        assert str(refused.value).count(" then, ") == len(words)
        assert {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()} == before
        train(begun, resume=True)

    def test_other_first_weights_matter_until_there_is_a_checkpoint(self, tmp_path, monkeypatch):
        def killed(*_):
            raise KeyboardInterrupt

        first = build(SPEC)
        with monkeypatch.context() as patch:
            patch.setattr(loops._Run, "_step", killed)
            with pytest.raises(KeyboardInterrupt):
                train(tmp_path / "run", stack=first)
        torch.manual_seed(1)
        other = build(SPEC)
        with torch.no_grad():
            next(other.parameters()).add_(1)
        with pytest.raises(TrainingError, match=r"first weights: '[0-9a-f]{12}' then, '[0-9a-f]{12}' now"):
            train(tmp_path / "run", stack=other, resume=True)

    def test_but_not_after_it(self, begun, tmp_path):
        train(tmp_path / "whole")
        other = build(SPEC)
        with torch.no_grad():
            next(other.parameters()).add_(1)
        train(begun, stack=other, resume=True)
        assert weights(begun) == weights(tmp_path / "whole")

    def test_other_labels(self, tmp_path, stopped):
        one, other = (Images(pixels(), labels=torch.arange(120) % classes, name="squares") for classes in (2, 3))
        stopped(2, lambda: train(tmp_path / "run", data=one))
        with pytest.raises(TrainingError, match=r"data: .* then, .* now"):
            train(tmp_path / "run", data=other, resume=True)

    @pytest.mark.parametrize(
        ("what", "value"),
        [("torch", "1.13"), ("threads", 77), ("zoo", "0.0.1"), ("plugins", {}), ("device", "cuda (NVIDIA H100)")],
    )
    def test_another_setting_is_only_warned_of(self, begun, capsys, what, value):
        run = json.loads((begun / "run.json").read_text())
        run["setting"][what] = value
        (begun / "run.json").write_text(json.dumps(run))
        train(begun, resume=True, progress=True)
        said = capsys.readouterr().err
        assert f"warning: resumed under another setting ({what} {value} then, " in said
        assert (begun / "config.json").is_file()

    def test_the_same_setting_is_not(self, begun, capsys):
        train(begun, resume=True, progress=True)
        assert "warning" not in capsys.readouterr().err

    def test_nor_a_device_that_was_not_written_down(self, begun, capsys):
        run = json.loads((begun / "run.json").read_text())
        assert run["setting"].pop("device") == "cpu"
        (begun / "run.json").write_text(json.dumps(run))
        train(begun, resume=True, progress=True)
        assert "warning" not in capsys.readouterr().err

    def test_a_gpu_is_written_down_by_its_name(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"number {device.index}")
        assert records._named_device(torch.device("cuda", 1)) == "cuda (number 1)"


class TestTheSameRun:
    @pytest.mark.parametrize(
        "options",
        [
            {"augment": "flip+shift1"},
            {"codes": "moments"},
            {"augment": "flip+shift1", "views": 2},
            {"augment": "shift1", "views": 3, "codes": "moments", "code_dtype": "float16", "loss_in": "codes"},
            {"augment": "flip", "loss_in": "pixels", "refine": True},
        ],
    )
    def test_fresh_draws_go_on_where_they_were(self, tmp_path, monkeypatch, stopped, options):
        train(tmp_path / "whole", **options)
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "another cache"))
        stopped(3, lambda: train(tmp_path / "parts", **options))
        stopped(7, lambda: train(tmp_path / "parts", resume=True, **options))
        torch.manual_seed(17)
        train(tmp_path / "parts", resume=True, **options)
        assert len(weights(tmp_path / "whole")) == 2
        assert weights(tmp_path / "parts") == weights(tmp_path / "whole")

    @pytest.mark.parametrize("corrupt", ["noise=0.3", "mask=0.5", "noise=0.2+mask=0.3"])
    @pytest.mark.parametrize("options", [{}, {"loss_in": "pixels", "refine": True}], ids=["codes", "pixels"])
    def test_of_corrupted_images(self, tmp_path, stopped, corrupt, options):
        """Noise and masks are drawn in every step that sees images, and while the held-out loss is measured."""
        chosen = {"corrupt": corrupt, "ema": 0.5, **options}
        train(tmp_path / "whole", **chosen)
        for turn, after in enumerate((2, 3, 2 * STEPS - 5)):
            stopped(after, lambda turn=turn: train(tmp_path / "parts", resume=turn > 0, **chosen))
            torch.manual_seed(turn)
        train(tmp_path / "parts", resume=True, **chosen)
        assert len(weights(tmp_path / "whole")) == 2
        assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
        assert told(tmp_path / "parts") == told(tmp_path / "whole")

    @pytest.mark.parametrize("head", ["flow(width=8, blocks=1, steps=1, classes=true)", "mixture(8, classes=true)"])
    def test_of_a_head_that_learns_by_class(self, tmp_path, stopped, head):
        """It draws times, noise and whose label to leave out, and has seen the labels before its first step."""
        data = Images(pixels(), labels=torch.arange(120) % 3, name="squares")
        chosen = {"spec": f"8x8x1/fc3(hidden=[4])/{head}", "data": data, "lr": 0.01, "ema": 0.5}
        train(tmp_path / "whole", **chosen)
        steps = (3, 2 * STEPS - 5, 1) if "flow" in head else (3, 2)
        for turn, after in enumerate(steps):
            stopped(after, lambda turn=turn: train(tmp_path / "parts", resume=turn > 0, **chosen))
            torch.manual_seed(turn)
        stack = train(tmp_path / "parts", resume=True, **chosen)
        assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
        assert stack.head.labels() == [0, 1, 2]

    def test_without_them_it_would_not_be(self, tmp_path):
        """So that what is compared above is not the same whatever is drawn."""
        one, other = tmp_path / "one", tmp_path / "other"
        train(one, codes="moments")
        train(other)
        assert weights(one).keys() != weights(other).keys()

    def test_numbers_of_numpy_and_python_go_on_too(self, tmp_path, stopped):
        train(tmp_path / "whole", stack=noisy())
        for after in (2, 5, 4):
            first = not (tmp_path / "parts").exists()
            stopped(after, lambda first=first: train(tmp_path / "parts", stack=noisy(), resume=not first))
            np.random.seed(after)
            random.seed(after)
        train(tmp_path / "parts", stack=noisy(), resume=True)
        assert weights(tmp_path / "parts") == weights(tmp_path / "whole")

    def test_the_users_own_numbers_are_left_alone(self, tmp_path):
        def drawn():
            return torch.rand(1).item(), random.random(), random.gauss(0, 1), np.random.rand()  # noqa: S311

        stack = noisy()
        drawn()  # Python keeps half of a pair of normal draws
        states = torch.get_rng_state(), random.getstate(), np.random.get_state()
        expected = drawn()
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])
        train(tmp_path / "run", stack=stack)
        assert drawn() == expected

    def test_from_the_best_point_and_then_from_the_last(self, tmp_path, stopped):
        train(tmp_path / "whole")
        parts = tmp_path / "parts"
        stopped(STEPS + 2, lambda: train(parts))
        assert (parts / "checkpoints" / "best.safetensors").is_file()
        stopped(2, lambda: train(parts, resume="best"))
        stopped(1, lambda: train(parts, resume=True))
        train(parts, resume=True)
        assert weights(parts) == weights(tmp_path / "whole")
        steps = [[json.loads(line)["step"] for line in (out / "history.jsonl").read_text().splitlines()]
                 for out in (parts, tmp_path / "whole")]  # fmt: skip
        assert steps[0] == steps[1]

    def test_a_run_that_is_killed_goes_on_from_the_best_point_where_there_is_no_later_one(self, tmp_path, monkeypatch):
        """Killed in its first minute; or soon after it went on from its best point, which let go of later ones."""
        train(tmp_path / "whole")
        step = loops._Run._step
        killed = tmp_path / "run"
        for last, how in ((4, {}), (3, {"resume": "best"})):

            def stepping(run, progress, last=last):
                if run.step == last:
                    raise MemoryError
                return step(run, progress)

            monkeypatch.setattr(loops._Run, "_step", stepping)
            with pytest.raises(MemoryError):
                train(killed, **how)
        monkeypatch.setattr(loops._Run, "_step", step)
        best = checkpoints.Shelf(killed / "checkpoints").load("best")
        assert 0 < best.step <= 3
        train(killed, resume=True)
        assert weights(killed) == weights(tmp_path / "whole")

    def test_from_the_best_point_before_there_is_one(self, tmp_path, stopped):
        """A run of 60 steps is validated every third."""
        stopped(2, lambda: train(tmp_path / "run", steps=60))
        with pytest.raises(TrainingError, match="no best"):
            train(tmp_path / "run", steps=60, resume="best")
        assert (tmp_path / "run/checkpoints/00-000000002.safetensors").is_file()

    def test_a_run_that_was_killed_with_its_best_point_alone_is_not_begun_anew(self, tmp_path, monkeypatch):
        step, best = loops._Run._step, tmp_path / "run/checkpoints/best.safetensors"

        def stepping(run, progress):
            if run.step == 2:
                raise KeyboardInterrupt
            return step(run, progress)

        monkeypatch.setattr(loops._Run, "_step", stepping)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run")
        assert [*best.parent.iterdir()] == [best]
        with pytest.raises(TrainingError, match="holds a run already"):
            train(tmp_path / "run")
        assert best.is_file()

    def test_the_best_point_that_a_run_goes_on_from_stays(self, tmp_path):
        """It is older than the two others on the shelf, which keeps the last two."""
        shelf = checkpoints.Shelf(tmp_path)
        for step in (10, 105, 106):
            checkpoint = checkpoints.Checkpoint(0, step)
            checkpoint.put("stack", {"weight": torch.ones(2)})
            shelf.save(checkpoint, best=step == 10)
        shelf.forget_after(shelf.load("best"))
        last = shelf.load("last")
        assert last is not None
        assert last.step == 10

    def test_what_is_encoded_is_kept(self, tmp_path, monkeypatch):
        train(tmp_path / "whole")
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "another cache"))
        monkeypatch.setattr(making, "SHARD_BYTES", 4 * 16 * 30)  # four shards
        monkeypatch.setattr(codes, "BATCH", 30)
        views, encoded, asked = codes._Encoder._views, [], []

        def encoding(encoder, first, size):
            encoded.append(first)
            if len(encoded) == 2:
                asked[0].asked = True
            return views(encoder, first, size)

        def listened(run, course, resumed=None):
            asked.append(run.interrupt)
            return steps(run, course, resumed)

        steps = loops.Loop.run
        monkeypatch.setattr(loops.Loop, "run", listened)
        monkeypatch.setattr(codes._Encoder, "_views", encoding)
        with pytest.raises(InterruptedTrainingError, match=r"while encoding through level 1\. What is encoded is kept"):
            train(tmp_path / "parts")
        assert encoded == [0, 30]
        train(tmp_path / "parts", resume=True)
        assert encoded == [0, 30, 0, 30, 60, 90]  # of the first four are encoded again to see, the second was not kept
        assert weights(tmp_path / "parts") == weights(tmp_path / "whole")

    @pytest.mark.parametrize("after", [3, STEPS + 2])
    def test_no_checkpoint_stays_mapped(self, tmp_path, monkeypatch, stopped, after):
        """Or Windows could neither replace nor remove it."""
        stopped(after, lambda: train(tmp_path / "run"))
        step, mapped = loops._Run._step, []

        def stepping(run, progress):
            mapped.append(checkpoints_mapped(tmp_path / "run"))
            return step(run, progress)

        monkeypatch.setattr(loops._Run, "_step", stepping)
        train(tmp_path / "run", resume=True)
        assert mapped == [[]] * (2 * STEPS - after)

    def test_nor_does_that_of_a_course_which_is_over(self, tmp_path, monkeypatch, stopped):
        class Killed(BaseException):
            """As if it had been."""

        def encoding(*_, **__):
            mapped.append(checkpoints_mapped(tmp_path / "run"))
            raise Killed

        mapped = []
        monkeypatch.setattr(codes, "encode", encoding)
        for resume in (False, True):
            with pytest.raises(Killed):
                train(tmp_path / "run", resume=resume)
        assert mapped == [[], []]


class TestAnyDevice:
    """Apple's here, which has one random state; those of NVIDIA have one each."""

    DEVICE = torch.device("mps")

    @pytest.fixture
    def gpu(self, monkeypatch):
        return Drawing(monkeypatch)

    def test_what_it_draws_goes_on_where_it_was(self, gpu):
        states = randomness.state(self.DEVICE)
        drawn = gpu.draw(self.DEVICE)
        assert gpu.draw(self.DEVICE) != drawn
        randomness.restore(states, self.DEVICE)
        assert gpu.draw(self.DEVICE) == drawn

    def test_what_a_run_draws_follows_from_its_seed_and_changes_nothing(self, gpu):
        found, before = [], gpu.get_rng_state(self.DEVICE)
        for lasting in (randomness.apart(self.DEVICE, 3), randomness.apart(self.DEVICE, 4), seeded(3, self.DEVICE)):
            with lasting:
                found.append(gpu.draw(self.DEVICE))
            assert torch.equal(gpu.get_rng_state(self.DEVICE), before)
        assert found[0] == found[2] != found[1]

    def test_a_run_that_began_on_another_goes_on(self, gpu):
        states, before = randomness.state(torch.device("cpu")), gpu.get_rng_state(self.DEVICE)
        randomness.restore(states, self.DEVICE)
        assert torch.equal(gpu.get_rng_state(self.DEVICE), before)

    def test_each_of_several_levels_that_learn_at_once_begins_with_what_it_would_draw(self, gpu):
        members = SimpleNamespace(generators={})
        Together.begin(members, 1, self.DEVICE)
        assert torch.rand(1, generator=members.generators[1]).item() == gpu.draw(self.DEVICE)
        before = Together.random(members)
        Together.put_random(members, {"member.1": torch.zeros(16, dtype=torch.uint8)})  # as a GPU of NVIDIA's has them
        assert torch.equal(Together.random(members)["member.1"], before["member.1"])
        torch.rand(1, generator=members.generators[1])
        Together.put_random(members, before)
        assert torch.equal(Together.random(members)["member.1"], before["member.1"])

    def test_other_gpus_are_left_alone(self, tmp_path, monkeypatch):
        """Nobody would put back what they were in."""
        touched = []
        monkeypatch.setattr(torch.cuda, "manual_seed_all", touched.append)
        train(tmp_path / "run", precision="auto")
        assert touched == []


class TestTwoAtOnce:
    def test_in_one_process(self, tmp_path, monkeypatch):
        step, refused = loops._Run._step, []

        def stepping(run, progress):
            if not refused:
                refused.append(None)
                with pytest.raises(TrainingError, match=r"another process is training in .*run: wait until it is done"):
                    train(tmp_path / "run", resume=True)
            return step(run, progress)

        monkeypatch.setattr(loops._Run, "_step", stepping)
        train(tmp_path / "run")
        assert refused
        train(tmp_path / "run", resume=True)  # it is over: nobody is at work any more

    def test_in_two(self, tmp_path, monkeypatch):
        one = start(train_slowly, tmp_path, log=tmp_path / "log", environ={"ZOO_CACHE": str(tmp_path / "cache")})
        until(lambda: (tmp_path / "training").is_file())
        (tmp_path / "by another name").symlink_to(tmp_path / "run")
        for name in ("run", "by another name"):
            for resume in (False, True):
                with pytest.raises(TrainingError, match="another process is training in"):
                    train(tmp_path / name, resume=resume)
        one.kill()
        ended(one)
        train(tmp_path / "run", resume=True)
        train(tmp_path / "whole")
        assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def train_slowly(folder):
    """Train until it is killed."""
    runs.trackers = lambda **_: []
    step = loops._Run._step

    def stepping(run, progress):
        (folder / "training").touch()
        until(lambda: False)
        return step(run, progress)

    loops._Run._step = stepping
    train(folder / "run")


class Noisy(Regularizer):
    """A term that draws from NumPy and from Python."""

    def forward(self, trip):
        return trip.z.sum() * (np.random.rand() + random.gauss(0, 1) + random.random())  # noqa: S311


def noisy():
    torch.manual_seed(0)
    stack = build(SPEC)
    for level in stack.lower():
        level.terms["noisy_"] = Noisy(level.stage.place, 1.0)
    return stack
