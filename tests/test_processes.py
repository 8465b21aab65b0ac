"""Several processes train one stack: what one would have come to, and what happens when one of them dies."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from children import ended, start
from pace import PATIENCE, slower

from zoo import cache, codes, files
from zoo.builder import build
from zoo.cache import Key, folder, making, obtain
from zoo.data import gathering
from zoo.errors import TrainingError, ZooError
from zoo.stack import Stack
from zoo.training import fit
from zoo.training import loop as loops
from zoo.training import run as runs
from zoo.training.held_out import HeldOut
from zoo.training.processes import LostProcessError, Processes, _in_touch, check_gpus

OPTIONS = {"steps": 20, "batch_size": 16, "precision": "fp32", "log_every": 1}
STACK = "8x8x1/conv2x2x4(width=4)/fc3(hidden=[8])+kl"
THREE = "8x8x1/conv2x2x4(width=4)/fc6(hidden=[8])/fc3(hidden=[8])"
ADVERSARIES = ("8x8x1/fc3(hidden=[8])+wae_gan", "8x8x1/conv2x2x4(width=4)/began(width=4)")


def train(folder, specs, options, dies, stops_after, save_every, at_once):
    """What each process does: train, and leave what it holds at the end in ``rank-N.json``."""
    rank = int(os.environ.get("RANK", "0"))
    torch.manual_seed(rank)  # what every process is built with is the first one's in the end
    if dies is not None:
        DEATHS[dies[0]](dies[1])
    if stops_after is not None:
        _stop_after(stops_after)
    data = torch.rand(120, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    loops.SAVE_EVERY, codes.BATCH = save_every, at_once
    making.SHARD_BYTES, made = 1000, []
    own, above = cache.obtain, _gone_on_from()

    def obtain(key, count, make, **how):
        def making_some(part, tick):
            if len(part) > making.PROBED:  # or it is only looked whether what is there is up to date
                made.append(part.start)
            return make(part, tick)

        return own(key, count, making_some, **how)

    cache.obtain = obtain
    found = {}
    try:
        for number, spec in enumerate(specs):
            stack = fit(build(spec), data, out=folder / f"run-{number}", progress=False, **options)
            found[spec] = files.digest(stack.state_dict())
        found |= {"drawn": torch.rand(1).item(), "encoded": made, "above": sorted(above)}
        if torch.distributed.is_initialized():
            backend = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))
            found["waits"] = backend.options._timeout / timedelta(days=1)
    except ZooError as error:
        found["error"] = str(error)
    (folder / f"rank-{rank}.json").write_text(json.dumps(found))


def _gone_on_from():
    """Of every encoding through several levels: how many, and how many of them the cached codes had behind them."""
    own, found = Stack.posterior, set()

    def posterior(stack, x, levels=None, *, above=0):
        if len(x) > making.PROBED:
            found.add((levels or len(stack.levels), above))
        return own(stack, x, levels, above=above)

    Stack.posterior = posterior
    return found


def _die_before_step(step):
    own = loops._Run._step

    def stepping(run, progress):
        if run.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return own(run, progress)

    loops._Run._step = stepping


def _die_in_validation(number):
    own, looks = HeldOut.__call__, []

    def looking(held_out, learner):
        looks.append(learner)
        if len(looks) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return own(held_out, learner)

    HeldOut.__call__ = looking


def _die_while_encoding(number):
    own, parts = codes._Encoder.rows, []

    def rows(encoder, wanted, tick):
        if len(wanted) > making.PROBED:
            parts.append(wanted)
        if len(parts) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return own(encoder, wanted, tick)

    codes._Encoder.rows = rows


DEATHS = {"step": _die_before_step, "validation": _die_in_validation, "encoding": _die_while_encoding}


def _stop_after(step):
    own = loops._Run._step

    def stepping(run, progress):
        run.loop.interrupt.asked = run.step + 1 == step
        return own(run, progress)

    loops._Run._step = stepping


@pytest.fixture
def crew(tmp_path):
    """Trains with so many processes, of which one may die; returns the folder and the exit codes."""

    def run(
        *specs,
        processes=2,
        name="crew",
        dies=None,
        victim=1,
        stops_after=None,
        save_every=loops.SAVE_EVERY,
        at_once=codes.BATCH,
        **options,
    ):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"ZOO_CACHE": str(folder / "cache"), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        crew = []
        for rank in range(processes):
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
            environ = shared | ({key: str(value) for key, value in place.items()} if processes > 1 else {})
            log = folder / f"log-{rank}"
            own = (dies if rank == victim else None, stops_after if rank == 0 else None, save_every, at_once)
            crew.append(start(train, folder, specs, {**OPTIONS, **options}, *own, log=log, environ=environ))
        if dies is not None:
            ended(crew[victim])
        dead = time.monotonic()
        found = [ended(process) for process in crew]
        assert dies is None or time.monotonic() - dead < 30 * slower()
        return folder, found

    return run


def lines(folder, key):
    history = (folder / "run-0" / "history.jsonl").read_text("utf-8").splitlines()
    return [line for line in map(json.loads, history) if key in line]


def ranks(folder):
    return [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("rank-*.json"))]


def test_two_come_to_what_one_would_have_come_to(crew):
    (one, first), (two, second) = crew(STACK, processes=1, name="one"), crew(STACK, name="two")
    assert (first, second) == ([0], [0, 0])
    held = [[line["val"]["mse"] for line in lines(folder, "val")] for folder in (one, two)]
    assert held[1] == pytest.approx(held[0], rel=0.01)
    assert held[0] != held[1]  # or the second was not shared out
    told = [[line["loss"] for line in lines(folder, "loss")] for folder in (one, two)]
    assert told[1] == pytest.approx(told[0], abs=0.02)  # nats per element, of both shares together
    a, b = ranks(two)
    assert a[STACK] == b[STACK]
    assert a["drawn"] != b["drawn"]
    assert sorted(a["encoded"] + b["encoded"]) == ranks(one)[0]["encoded"]  # in another cache
    assert abs(len(a["encoded"]) - len(b["encoded"])) <= 1 < len(b["encoded"])
    assert len(lines(two, "loss")) == len(lines(one, "loss"))  # one of them writes


def test_adversaries_and_heads_learn_alike_everywhere(crew):
    folder, codes = crew(*ADVERSARIES, steps=4)
    assert codes == [0, 0], (folder / "log-0").read_text()
    a, b = ranks(folder)
    assert [a[spec] for spec in ADVERSARIES] == [b[spec] for spec in ADVERSARIES]


@pytest.mark.parametrize(
    ("victim", "dies", "save_every", "saved"),
    [
        (1, ("step", 15), 60.0, "00-000000015"),  # the first saves what it has
        (1, ("validation", 8), 60.0, "00-000000007"),  # one is before the first step
        (1, ("encoding", 2), 60.0, "00-000000020f"),  # the level below is finished
        (0, ("step", 15), 0.0, "00-000000015"),  # what it has saved itself
        (0, ("validation", 8), 0.0, "00-000000006"),
        (0, ("encoding", 2), 60.0, "00-000000020f"),
    ],
)
def test_when_one_dies_the_run_ends_and_can_be_resumed_by_another_number(crew, victim, dies, save_every, saved):
    folder, codes = crew(STACK, victim=victim, dies=dies, save_every=save_every)
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] == 0
    (left,) = ranks(folder)
    assert "another process of this run has ended" in left["error"]
    shelf = folder / "run-0" / "checkpoints"
    assert max(path.stem for path in shelf.glob("[0-9]*.safetensors")) == saved
    folder, codes = crew(STACK, processes=1, resume=True)
    assert codes == [0], (folder / "log-0").read_text()
    steps = [(line["level"], line["step"]) for line in lines(folder, "loss")]
    assert steps == [(level, step) for level in (1, 2) for step in range(1, 21)]


def test_one_is_asked_to_stop_all_do_and_as_many_go_on_exactly(crew):
    folder, codes = crew(STACK, stops_after=8)
    assert codes == [0, 0]
    assert all("stopped in level 1 after 8 steps" in left["error"] for left in ranks(folder))
    (whole, _), (resumed, codes) = crew(STACK, name="whole"), crew(STACK, resume=True)
    assert codes == [0, 0], (folder / "log-0").read_text()
    assert ranks(resumed)[0][STACK] == ranks(whole)[0][STACK]


def test_a_level_learns_from_codes_that_all_of_them_made_of_the_codes_below(crew):
    folder, codes = crew(THREE, steps=4, at_once=8)
    assert codes == [0, 0], (folder / "log-0").read_text()
    a, b = ranks(folder)
    assert a[THREE] == b[THREE]
    assert [2, 1] in a["above"]
    assert [2, 1] in b["above"]
    assert lines(folder, "loss")[-1]["level"] == 3


def test_a_long_wait_for_another_is_no_end(crew):
    """As while that one waits for a run beside it, which encodes the same images."""
    folder, codes = crew("8x8x1/fc3(hidden=[8])", steps=1)
    assert codes == [0, 0], (folder / "log-0").read_text()
    assert [found["waits"] >= 1 for found in ranks(folder)] == [True, True]


def test_the_readme_s_line_trains_in_two_processes(tmp_path):
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8").splitlines()
    (line,) = [line for line in readme if line.startswith("torchrun ")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = shlex.split(line, comments=True)[1:]
    for name, value in {"--steps": "2", "--out": str(tmp_path / "two")}.items():
        words[words.index(name) + 1] = value
    launcher = [sys.executable, "-m", "torch.distributed.run", "--master_port", str(port)]
    environ = {**os.environ, "ZOO_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*launcher, *words], capture_output=True, text=True, timeout=PATIENCE, env=environ, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(files.read_config(tmp_path / "two")["levels"]) == 1  # two runs would not have shared a folder


class Absent:
    """The other process has a cache of its own, on another machine: nothing of what it makes arrives here."""

    rank, count = 0, 2

    def total(self, values):
        return [*values]

    def wait(self):
        pass


def test_what_is_damaged_here_does_not_pass_for_what_others_made(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(making, "SHARD_BYTES", 80)
    key = Key("codes", "numbers", {"of": "numbers"}, ("of",))

    def rows():
        made = obtain(
            key, 40, lambda part, tick: {"x": torch.tensor(part, dtype=torch.float64)}, row_bytes=8, among=Absent()
        )
        return made.take("x", torch.arange(40)).tolist()

    assert rows() == [*range(40)]
    for shard in key.folder.glob("*.safetensors"):
        shard.write_bytes(shard.read_bytes()[:-8] + torch.tensor([-1.0], dtype=torch.float64).numpy().tobytes())
    assert rows() == [*range(40)]


class Together:
    """So many processes with one cache, each a thread here."""

    def __init__(self, rank, barrier, sums):
        self.rank, self.count, self.barrier, self.sums = rank, barrier.parties, barrier, sums

    def total(self, values):
        self.sums[self.rank] = values
        self.barrier.wait()
        found = [sum(column) for column in zip(*self.sums, strict=True)]
        self.barrier.wait()
        return found

    def wait(self):
        self.barrier.wait()


@pytest.mark.parametrize(
    ("processes", "rows_of_a_shard", "shares"),
    [
        (2, 40, [[(0, 20)], [(20, 40)]]),
        (3, 20, [[(0, 10)], [(20, 40)], [(10, 20)]]),
        (2, 16, [[(0, 16), (32, 36)], [(16, 32), (36, 40)]]),
        (4, 1000, [[(0, 10)], [(10, 20)], [(20, 30)], [(30, 40)]]),
    ],
)
def test_rows_are_shared_out_where_there_are_fewer_shards_than_processes(
    tmp_path, monkeypatch, processes, rows_of_a_shard, shares
):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(making, "SHARD_BYTES", 8 * rows_of_a_shard)
    key = Key("codes", "numbers", {"of": "numbers"}, ("of",))
    barrier, sums, made = threading.Barrier(processes, timeout=60), [[]] * processes, {}

    def one(rank):
        def make(part, tick):
            if len(part) > making.PROBED:  # or it is only looked whether the cache is up to date
                made.setdefault(rank, []).append((part.start, part.stop))
            return {"x": torch.tensor(part, dtype=torch.float64)}

        return obtain(key, 40, make, row_bytes=8, among=Together(rank, barrier, sums)).take("x", torch.arange(40))

    with ThreadPoolExecutor(processes) as pool:
        for found in pool.map(one, range(processes)):
            assert found.tolist() == [*range(40)]
    wanted = {rank: [piece for piece in own if piece[1] - piece[0] > making.PROBED] for rank, own in enumerate(shares)}
    assert made == wanted
    assert not [*key.folder.glob(f"{making.PIECE}*")]
    assert len([*key.folder.glob("*.safetensors")]) == -(-40 // min(40, rows_of_a_shard))


def test_a_cache_that_may_only_be_read_keeps_all_processes_in_step(tmp_path, monkeypatch):
    """What one of them asks of all, all are asked: each ends with as many sums and waits as the others."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    key = Key("codes", "numbers", {"of": "numbers"}, ("of",))

    class Counted(Absent):
        def __init__(self, rank):
            self.rank, self.asked = rank, []

        def total(self, values):
            self.asked.append("total")
            return [*values]

        def wait(self):
            self.asked.append("wait")

    def asked(rank):
        among = Counted(rank)
        make = lambda part, tick: {"x": torch.tensor(part, dtype=torch.float64)}  # noqa: E731
        found = obtain(key, 40, make, row_bytes=8, among=among)
        assert found.take("x", torch.arange(40)).tolist() == [*range(40)]
        return among.asked

    asked(0)
    told = asked(0), asked(1)

    @contextmanager
    def refused(*_, **__):
        with folder.writing():
            raise PermissionError(errno.EACCES, "may only be read")
        yield

    monkeypatch.setattr(making, "held", refused)
    assert (asked(0), asked(1)) == told == (["total", "wait"], ["total", "wait"])


def test_a_batch_that_cannot_be_shared_out_is_refused(monkeypatch):
    monkeypatch.setattr(runs, "Processes", type("Three", (), {"of": lambda _: Processes(0, 3)}))
    with pytest.raises(TrainingError, match="a batch of 16 cannot be shared out among 3"):
        fit(build("8x8x1/fc2"), torch.rand(20, 1, 8, 8), steps=1, batch_size=16, progress=False)


def test_more_processes_than_images_are_refused(monkeypatch):
    monkeypatch.setattr(runs, "Processes", type("Four", (), {"of": lambda _: Processes(0, 4)}))
    with pytest.raises(TrainingError, match="3 images cannot be shared out among 4 processes: start fewer"):
        fit(build("8x8x1/fc2"), torch.rand(4, 1, 8, 8), steps=1, batch_size=16, progress=False)


def test_a_stack_is_where_it_is_trained_before_any_of_it_travels(monkeypatch):
    """Between GPUs nothing travels that lies on a CPU."""
    place, happened = runs.channels_last, []

    def placed(module, device):
        happened.append(("placed", type(module), device))
        place(module, device)

    monkeypatch.setattr(runs, "channels_last", placed)
    monkeypatch.setattr(Processes, "same", lambda processes, module: happened.append(("sent", type(module))))
    fit(build("8x8x1/fc2"), torch.rand(20, 1, 8, 8), steps=1, batch_size=16, progress=False)
    assert happened[:2] == [("placed", Stack, torch.device("cpu")), ("sent", Stack)]


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    gpu = SimpleNamespace(device=torch.device("cuda", 0))
    check_gpus(gpu.device)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    check_gpus(torch.device("cpu"))
    monkeypatch.setattr(runs, "Accelerator", lambda **_: gpu)
    with pytest.raises(TrainingError, match=r"2 processes on a machine with 1 GPU, .*\(CUDA_VISIBLE_DEVICES=\)"):
        fit(build("8x8x1/fc2"), torch.rand(20, 1, 8, 8), steps=1, batch_size=16, progress=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_gpus(gpu.device)


def test_who_is_gone_is_told_from_what_does_not_fit_into_memory():
    with (
        pytest.raises(LostProcessError, match=r"look at what that one said\. .* \(Connection closed by peer\)$"),
        _in_touch(),
    ):
        raise RuntimeError("Connection closed by peer\nException raised from ...")
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"), _in_touch():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    with pytest.raises(torch.AcceleratorError, match="device-side assert"), _in_touch():
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")


@pytest.mark.parametrize(("limit", "threads"), [("1GB", 2), ("1", 8)])
def test_processors_are_shared_by_those_that_read_at_once(tmp_path, monkeypatch, limit, threads):
    """All of them read what each keeps in memory; what is mapped from the cache one reads for all, which wait."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setenv("ZOO_MEMORY_LIMIT", limit)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(8)}, raising=False)
    asked = []

    def pool(count):
        asked.append(count)
        return ThreadPoolExecutor(count)

    monkeypatch.setattr(gathering, "ThreadPoolExecutor", pool)
    white = torch.full((1, 2, 2), 255, dtype=torch.uint8).numpy()
    origin = gathering.Origin(["a", "b"], lambda _: white, (1, 2, 2), "two", strict=True)
    key = Key("images", "two", {"of": "numbers"}, ("of",))
    assert len(gathering.gather(origin, lambda: key).store) == 2
    assert asked == [threads]


def test_alone_nothing_is_done():
    alone, x = Processes(), torch.tensor([1.0, 2.0])
    alone.average([x, None])
    assert (alone.mean([3.0]), alone.total([3.0])) == ([3.0], [3.0])
    assert alone.gathered({"x": x}) == [{"x": x}]
    assert torch.equal(alone.share(x[None]), x[None])
    alone.wait()
