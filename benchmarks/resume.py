"""A training run killed by SIGKILL at random moments and resumed each time, beside one that nobody killed.

Both train the same spec on the same images with the same seed, in processes, run folders and caches of their own.
The first shows when each phase begins and how long it takes. The second is killed in every phase in turn, after a
random part of the time that the phase took in the first, and goes on with ``--resume`` until it ends. The weight files
have to be the same to the byte, the history the same but for timings, and nothing half-written may be left anywhere.
Times are those that a process had a processor for, so that a phase is as long on a busy machine.

    python -m benchmarks.resume --data fashion_mnist --kills 10 --seed 7 --out runs/killed

leaves the run folders and, in ``kills.json`` and ``kills.md``, the moments: the phase, the seconds since it began, the
last line of progress and what lay in the folder. The run that is killed saves every two seconds, where ``zoo train``
does every minute: a level that is over in seconds would begin anew each time. ``--save-every 60`` is the plain command.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from time import perf_counter, sleep, strftime
from typing import Any

from benchmarks.__main__ import table
from benchmarks.rows import Row
from benchmarks.trainings import PHASES, SPEC, Training

TIMINGS = {"seconds", "images_per_second"}
MISSES = 10
"""Kills that may come too late, when the process has ended already or has long been started."""
EARLY = 0.9
"""Moments are drawn from this part of a phase: a process that is a little faster is still in it."""


@dataclass(frozen=True)
class Plan:
    """What is run.

    Args:
        data: the images.
        steps: of each level.
        kills: how many.
        seed: of their moments.
        save_every: seconds between the checkpoints of the run that is killed.
        out: a folder that is not there yet.
    """

    out: Path
    data: str = "fashion_mnist"
    steps: int = 600
    kills: int = 10
    seed: int = 7
    save_every: float = 2.0


@dataclass(frozen=True)
class Kill:
    """One kill, or one that came too late.

    Args:
        aimed: the phase it was meant for.
        phase: the phase it came in.
        delay: seconds since that phase was seen to begin.
        resumed: the process was one with ``--resume``.
        step: of the last line of the history.
        line: the last line of progress.
        found: what lay in the folder.
        counted: the process was still there.
    """

    aimed: str
    phase: str
    delay: float
    resumed: bool
    step: str
    line: str
    found: list[str]
    counted: bool

    def __str__(self) -> str:
        came = f"{self.phase}, {self.delay:.2f} s after it began" if self.counted else f"too late for {self.aimed}"
        how = "resumed" if self.resumed else "from the start"
        return f"{came} ({how}; {len(self.found)} files in the folder; {self.step})"


LONG = True
"""Five minutes and more: not among the benchmarks that run when none is named."""


def run() -> list[Row]:
    """Ten kills on Fashion-MNIST; the moments are in a folder below ``runs``."""
    return measure(Plan(Path("runs") / strftime("killed-%Y%m%d-%H%M%S")))


def measure(plan: Plan) -> list[Row]:
    """Both runs, and how they differ."""
    whole, parts = plan.out / "whole", plan.out / "parts"
    for folder in (whole, parts):
        folder.mkdir(parents=True)
    start = perf_counter()
    durations = watch(plan, whole)
    taken = perf_counter() - start
    print(f"not killed: {', '.join(f'{phase} {seconds:.2f} s' for phase, seconds in durations.items())}", flush=True)
    start = perf_counter()
    kills = kill(plan, parts, durations)
    taken_with_kills = perf_counter() - start
    write(plan, durations, kills)
    counted = [one for one in kills if one.counted]
    stale = leftovers(whole, parts)
    for name in stale:
        print(f"left over: {name}", flush=True)
    rows = [
        Row(f"weight files that differ after {len(counted)} kills", different_weights(whole, parts), bar="ours <= 0"),
        Row("lines of history that differ", different_lines(whole, parts), bar="ours <= 0"),
        Row("files left over in the run and its cache", len(stale), bar="ours <= 0"),
        Row("kills that were not made", max(0, plan.kills - len(counted)), bar="ours <= 0"),
        Row("phases without a kill", len(PHASES.keys() - {one.phase for one in counted}), bar="ours <= 0"),
        Row("seconds with all kills; of the run that was not killed", taken_with_kills, taken),
    ]
    for folder in (whole, parts):
        shutil.rmtree(folder / "cache")  # hundreds of megabytes of codes
    print(f"the moments are in {plan.out / 'kills.md'}\n", flush=True)
    return rows


def watch(plan: Plan, folder: Path) -> dict[str, float]:
    """The run that nobody kills: how many seconds each phase takes, the last until the stack is there."""
    training = Training(folder, data=plan.data, steps=plan.steps)
    training.reach("saving")
    while training.running and not (folder / "run" / "config.json").is_file():
        sleep(0.001)
    saved = training.clock()
    training.end()
    if list(training.began) != list(PHASES):
        raise RuntimeError("\n".join([f"saw {', '.join(training.began)}, not {', '.join(PHASES)}:", *training.lines]))
    times = [*training.began.values(), saved]
    return {phase: later - earlier for phase, earlier, later in zip(PHASES, times, times[1:], strict=False)}


def kill(plan: Plan, folder: Path, durations: dict[str, float]) -> list[Kill]:
    """The run that is killed, to its end; phases take turns as time goes, and a kill that misses is tried again."""
    draw = random.Random(plan.seed)  # noqa: S311 - moments, not secrets
    turns = [list(PHASES)[turn] for turn in sorted(number % len(PHASES) for number in range(plan.kills))]
    kills: list[Kill] = []
    while turns and len(kills) < plan.kills + MISSES:
        training = resumed(plan, folder)
        phase = training.reach(turns[0])
        moment = training.began[phase] + EARLY * draw.random() * durations[phase]
        while training.running and training.clock() < moment:
            sleep(0.0005)
        counted, moment = training.running, training.clock()
        training.process.kill()
        training.end()
        kills.append(seen(training, folder, turns[0], moment=moment, counted=counted))
        print(f"{len(kills):2}: {kills[-1]}", flush=True)
        if counted and (kills[-1].phase == turns[0] or turns[0] != "starting"):  # every process starts
            turns = turns[1:]
    resumed(plan, folder).end()
    return kills


def resumed(plan: Plan, folder: Path) -> Training:
    """The next process of the run that is killed."""
    there = (folder / "run" / "run.json").is_file()
    return Training(folder, data=plan.data, steps=plan.steps, resume=there, save_every=plan.save_every)


def seen(training: Training, folder: Path, aimed: str, *, moment: float, counted: bool) -> Kill:
    """What there is to say of a kill just made."""
    lines, last = history(folder), training.lines[-1] if training.lines else ""
    step = f"level {lines[-1].get('level')}, step {lines[-1].get('step')}" if lines else "no step yet"
    found = sorted(name.removeprefix("run/") for name in files(folder) if name.startswith("run/"))
    delay = round(moment - training.began[training.phase], 3)
    return Kill(aimed, training.phase, delay, "--resume" in training.command, step, last, found, counted)


def write(plan: Plan, durations: dict[str, float], kills: list[Kill]) -> None:
    """The moments, for programs and for people."""
    kept = {"plan": {**asdict(plan), "out": str(plan.out)}, "durations": durations, "kills": [*map(asdict, kills)]}
    (plan.out / "kills.json").write_text(json.dumps(kept, indent=2) + "\n", "utf-8")
    lines = [
        f"`zoo train {SPEC} --data {plan.data} --steps {plan.steps}`, killed {plan.kills} times, seed {plan.seed}; a "
        f"checkpoint every {plan.save_every:g} s. Without a kill: "
        f"{', '.join(f'{phase} {seconds:.2f} s' for phase, seconds in durations.items())}.\n",
        "| | phase | after, s | started with | last step | last line | in the folder |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, one in enumerate(kills, 1):
        phase = one.phase if one.counted else f"after the end (meant for {one.aimed}; not counted)"
        cells = [str(number), phase, str(one.delay), "--resume" * one.resumed, one.step, one.line, " ".join(one.found)]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    (plan.out / "kills.md").write_text("\n".join(lines) + "\n", "utf-8")


def different_weights(whole: Path, parts: Path) -> int:
    """How many of the files of the stack are not the same in both, config.json among them."""
    config = json.loads((whole / "run" / "config.json").read_text("utf-8"))
    names = ["config.json", *(level["file"] for level in config["levels"])]
    digests = [[_sha256(folder / "run" / name) for name in names] for folder in (whole, parts)]
    return sum(one != other for one, other in zip(*digests, strict=True))


def different_lines(whole: Path, parts: Path) -> int:
    """How many lines of the histories differ in more than their timings, or are missing from one."""
    histories = [
        [{key: value for key, value in line.items() if key not in TIMINGS} for line in history(folder)]
        for folder in (whole, parts)
    ]
    return sum(one != other for one, other in zip_longest(*histories))


def history(folder: Path) -> list[dict[str, Any]]:
    """Its lines; one that was cut short has no keys."""
    path, lines = folder / "run" / "history.jsonl", []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        with suppress(ValueError):
            lines.append(json.loads(line))
            continue
        lines.append({})
    return lines


def leftovers(whole: Path, parts: Path) -> list[str]:
    """What a run that was killed left behind: temporary files, weights that nothing names, checkpoints, codes.

    Which checkpoints are the last two depends on the time: they are counted, the others are compared by name.
    """
    here, there = (files(folder) for folder in (whole, parts))
    checkpoints = sorted(name for name in there if name.startswith("run/checkpoints/0"))
    stale = there - here - {*checkpoints}
    stale |= {name for name in there if any(part.startswith(".") for part in Path(name).parts)}
    return sorted(stale) + checkpoints[:-2]


def files(folder: Path) -> set[str]:
    """Every file of a run and its cache, but for TensorBoard's logs and for locks, which are nobody's when free."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path) for path in paths if "logs" not in path.parts}


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def main() -> int:
    """Measure what the command line says."""
    plain = Plan(Path())
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resume", description=__doc__)
    parser.add_argument("--data", default=plain.data, help="images, as `zoo train` takes them")
    parser.add_argument("--steps", type=int, default=plain.steps, help="of each level")
    parser.add_argument("--kills", type=int, default=plain.kills)
    parser.add_argument("--seed", type=int, default=plain.seed, help="of the moments")
    parser.add_argument("--save-every", type=float, default=plain.save_every, metavar="SECONDS")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that is not there yet")
    rows = measure(Plan(**vars(parser.parse_args())))
    print(table(rows))
    return int(not all(row.kept for row in rows))


if __name__ == "__main__":
    sys.exit(main())
