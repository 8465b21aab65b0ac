"""Two processes beside one, with the same global batch and the same cores in total: losses, images/s, encoding, a kill.

``torchrun`` starts one process with as many threads as there are cores, and two that share these, in turn (over gloo,
on a CPU). The loss curves have to be the same within 1 %: the stage draws no noise, and both see the same batches.
Then one of the processes is killed: how long the run takes to end, and where one process alone goes on from.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

from benchmarks.machine import cores
from benchmarks.rows import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

SPEC = "28x28x1/conv7x7x10/fc16"
PROCESSES = 2
BATCH, STEPS, TURNS = 128, 60, 3
POOL, HELD = 4_000, 200
BEFORE = 10
"""Steps before the kill: by then there is a checkpoint."""
LONG_STEPS = 3_000
PATIENCE = 600.0
"""Seconds that anything may take."""


def run() -> list[Row]:
    """Loss curves, images/s, seconds of encoding, and the end of a run that lost a process."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        runs: dict[int, list[dict[str, Any]]] = {1: [], PROCESSES: []}
        for turn in range(TURNS):
            for count, found in runs.items():
                found.append(_trained(folder / f"{turn}-{count}", count))
        return [*_curves(runs), *_throughput(runs), *_killed(folder / "killed")]


def _curves(runs: dict[int, list[dict[str, Any]]]) -> list[Row]:
    """The largest relative differences of what the history tells."""
    one, several = (found[0]["history"] for found in runs.values())
    rows = []
    for level in (1, 2):
        for what, title, bar in (
            ("mse", "squared error in validation", "ours <= 0.01"),
            ("loss", "loss in training, the mean of all shares", None),
        ):
            pairs = [*zip(values(one, level, what), values(several, level, what), strict=True)]
            worst = max(abs(a - b) for a, b in pairs) / median(abs(a) for a, _ in pairs)
            rows.append(Row(f"level {level}: {title}, largest difference over {len(pairs)} points, of its median",
                            worst, bar=bar))  # fmt: skip
    return rows


def values(history: Sequence[dict[str, Any]], level: int, what: str) -> list[float]:
    """One number of a level's lines: its loss in training, or its mean squared error in validation."""
    lines = [line for line in history if line.get("level") == level]
    if what == "loss":
        return [line["loss"] for line in lines if "loss" in line]
    return [line["val"][what] for line in lines if what in line.get("val", {})]


def _throughput(runs: dict[int, list[dict[str, Any]]]) -> list[Row]:
    """Images/s of all processes together; cores are as many on both sides, so it is also that of each core."""
    rows = []
    for level, title in ((1, "level 1, in images"), (2, "level 2, in codes")):
        name = f"{title}: images/s of {PROCESSES} processes; of one with as many threads"
        rows.append(_ratio(name, runs, lambda found, level=level: BATCH / found["step"][level - 1], "ratio >= 0.9"))
        name = f"{title}: images in a second of processor, all processes'; one's"
        rows.append(_ratio(name, runs, lambda found, level=level: BATCH / found["processor"][level - 1]))
    encoding = f"encoding, images/s of {PROCESSES} processes; of one"
    return [*rows, _ratio(encoding, runs, lambda found: POOL / found["encoding"])]


def _ratio(name: str, runs: dict[int, list[dict[str, Any]]], rate: Any, bar: str | None = None) -> Row:
    anchor = median(rate(one) for one in runs[1])
    ratio = median(rate(several) / rate(one) for one, several in zip(*runs.values(), strict=True))
    return Row(name, anchor * ratio, anchor, bar)


def _trained(folder: Path, count: int) -> dict[str, Any]:
    """What a run of so many processes came to: the history, and what its steps and its encoding took."""
    process = _started(folder, count, STEPS)
    said = _ended(process)
    found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    first: dict[str, Any] = next(one for one in found if one["rank"] == 0)
    first["processor"] = [sum(each) for each in zip(*(one["processor"] for one in found), strict=True)]
    first["history"] = _history(folder)
    return first


def _killed(folder: Path) -> list[Row]:
    """Kill the last process of a run, not the first, which writes; then go on with one."""
    process = _started(folder, PROCESSES, LONG_STEPS)
    _until(lambda: any("val" in line for line in _history(folder)), process)
    victims = [int(path.read_text("ascii")) for path in sorted(folder.glob("rank-*"))]
    start = perf_counter()
    os.kill(victims[-1], signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    seconds = perf_counter() - start
    before = _history(folder)
    (*_, saved) = sorted((folder / "run" / "checkpoints").glob("[0-9]*.safetensors"))
    again = _started(folder, 1, LONG_STEPS, resume=True)
    _until(lambda: _last(_history(folder)) > _last(before), again)
    again.terminate()
    again.communicate(timeout=PATIENCE)
    if _history(folder)[0] != before[0]:
        raise RuntimeError("the run did not go on, but began anew")
    return [
        Row("one process killed: s until the run has ended", seconds, bar="ours <= 30"),
        Row("one process killed: exit status of the run, which is not 0", process.returncode, bar="ours >= 1"),
        Row("one process killed: the step that one alone goes on from; the last one in the history",
            int(saved.stem.partition("-")[2]), _last(before), "ratio >= 1"),
    ]  # fmt: skip


def _last(history: Sequence[dict[str, Any]]) -> int:
    return max((line["step"] for line in history), default=0)


def _started(folder: Path, count: int, steps: int, *, resume: bool = False) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    threads = max(1, cores() // count)
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(count), "--master_port", str(_free_port())]
    work = ["-m", "benchmarks.scale", str(folder), str(steps), str(int(resume))]
    environ = {**os.environ, "OMP_NUM_THREADS": str(threads), "ZOO_CACHE": str(folder / "cache")}
    return subprocess.Popen([sys.executable, *launcher, *work], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env=environ)  # fmt: skip


def _ended(process: subprocess.Popen[str]) -> str:
    try:
        said, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.terminate()  # and torchrun ends those that it started
        said, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors)
    return said


def _until(there: Any, process: subprocess.Popen[str]) -> None:
    """Wait for something that a process does."""
    start = perf_counter()
    while not there():
        if process.poll() is not None or perf_counter() - start > PATIENCE:
            process.terminate()
            raise RuntimeError(f"the run ended too early, or hangs: {process.communicate()[1]}")
        sleep(0.05)


def _history(folder: Path) -> list[dict[str, Any]]:
    path = folder / "run" / "history.jsonl"
    lines = path.read_text("utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def main(place: str, steps: str, resume: str) -> None:
    """One of the processes: train, encode, and say what it took."""
    import torch
    from accelerate.accelerator import Accelerator

    import zoo
    from benchmarks.pairs import Taken
    from benchmarks.stepping import step_of, stepping
    from zoo.codes import encode
    from zoo.data import images
    from zoo.training import looks
    from zoo.training.processes import Processes, several_on_cpus

    folder, count = Path(place), int(steps)
    rank = int(os.environ["RANK"])
    (folder / f"rank-{rank}").write_text(str(os.getpid()), "ascii")
    if count == LONG_STEPS:
        looks.VALIDATIONS = LONG_STEPS // BEFORE  # its checkpoints are early
    data, held = (images("sample", (1, 28, 28), split=split) for split in ("train", "test"))
    data, held = data.subset(slice(0, POOL)), held.subset(slice(0, HELD))
    stack = zoo.build(SPEC)
    with stepping() as moments:
        zoo.fit(stack, data, val=held, out=folder / "run", resume=bool(int(resume)), steps=count, batch_size=BATCH,
                log_every=5, precision="fp32", progress=False)  # fmt: skip
    together = Processes.of(Accelerator(cpu=several_on_cpus()))
    os.environ["ZOO_CACHE"] = str(folder / "encoded")
    together.wait()
    start = Taken.now()
    encode(stack, data, levels=1, among=together)
    encoding = Taken.now() - start
    levels = [step_of(moments[:count]), step_of(moments[count:])]
    found = {"rank": rank, "step": [step.wall for step in levels], "processor": [step.processor for step in levels],
             "encoding": encoding.wall}  # fmt: skip
    print(json.dumps(found), flush=True)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
