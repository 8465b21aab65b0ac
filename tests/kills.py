"""Runs that are killed and resumed: what tests/test_killed.py starts, in a process of its own.

One process imports torch and forks a child for every run: a quarter of a second a run, not four. It forks while it has
one thread only: it computes nothing itself. A child is killed by its own SIGKILL where it was told to:

- before the n-th change of the disk: a file opened for writing, renamed or removed, a folder made or removed. What lies
  there after one change is what lies there before the next, so nothing is left out that a kill could find. For the one
  run that is tried at every single change, a copy of the folder is taken instead of a life: a kill leaves the same;
- after the n-th step of an optimiser, with hardly any checkpoints;
- before the n-th batch is encoded, for the cache, for a validation or to bring codes to unit scale.

Then the same run is resumed by a child that knows nothing of the first but what lies on disk. In the end the weight
files have to be those of a run that nobody killed, byte for byte, and nothing else may be left.

    python tests/kills.py FOLDER FILE

plays in the folder and writes into the file, as JSON: for every series, what was wrong with each of its scenarios.
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import signal
import sys
import threading
import traceback
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path

import torch
import torch._dynamo  # which the first optimiser of a process imports, in two seconds
from watched import SPEC, STEPS, Recipe, train

from zoo.builder import build

OTHERS = {
    "wae_mmd, adamax, a head": ("8x8x1/conv2x2x3(width=4)/fc3(hidden=[4])+wae_mmd/normal", {"optimizer": "adamax"}),
    "sgd, batch norm, refined": (
        "8x8x1/conv2x2x3(width=4, norm=batch)/fc2(hidden=[4])",
        {"optimizer": "sgd", "lr": 0.01, "schedule": "onecycle", "refine": True},
    ),
    "a critic with dropout, in pixels": (SPEC, {"optimizer": "adam", "loss_in": "pixels", "ema": 0.0}),
}
TIMES = {"seconds", "images_per_second"}


def forked(work, log: Path) -> int:
    """The exit status of a child that does this; what it says goes to a file."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


class Scenarios:
    """Runs, killed as they are told, beside the one that was not; ``results`` says what was wrong, by series."""

    def __init__(self, root):
        self.root, self.results, self.wholes = root, {}, {}

    def whole(self, recipe, *, shots=None):
        """The folder of the run that nobody killed, and what it counted."""
        key = repr((recipe.spec, recipe.options, recipe.critic, recipe.gains[0], recipe.save_every))
        if key not in self.wholes:
            folder = self.root / f"whole-{len(self.wholes)}"
            folder.mkdir()
            work = partial(train, replace(recipe, gains=recipe.gains[:1], forgetful=False), folder, shots=shots)
            if forked(work, folder / "log"):
                raise RuntimeError((folder / "log").read_text())
            self.wholes[key] = (folder, json.loads((folder / "counts.json").read_text()))
        return self.wholes[key]

    def play(self, series, name, recipe, kills=(), *, folder=None, damage=None, resume=None):
        """Kill a run at these moments, one in each process; do damage; resume it to its end; compare."""
        results = self.results.setdefault(series, {})
        problems, said = [], None
        if folder is None:
            folder = self.root / f"{series}-{len(results)}"
            folder.mkdir()
        for process, kill in enumerate([*kills, None]):
            if kill is None and damage is not None:
                said = damage(folder / "run")
            work = partial(train, recipe, folder, kill, process=process, resume=None if kill else resume)
            status = forked(work, folder / "log")
            if status != (0 if kill is None else -signal.SIGKILL):
                problems.append(f"process {process}, to be killed at {kill}, ended with {status}: {last(folder)}")
                break
        else:
            problems += differences(self.whole(recipe)[0], folder)
            if said is not None and said not in (folder / "log").read_text():
                problems.append(f"nothing was said of {said}")
        results[name] = problems
        shutil.rmtree(folder)


def last(folder: Path) -> str:
    """The last line that a child said."""
    return ((folder / "log").read_text().strip() or "nothing was said").splitlines()[-1][:400]


def differences(whole: Path, parts: Path) -> list[str]:
    """How a run that was killed ended otherwise than the one that was not."""
    problems = []
    for path in [*(whole / "run").glob("level-*"), whole / "run" / "config.json"]:
        other = parts / "run" / path.name
        if not other.is_file() or other.read_bytes() != path.read_bytes():
            problems.append(f"{path.name} is another one")
    one, other = (history(folder / "run" / "history.jsonl") for folder in (whole, parts))
    if one != other:
        steps = [[(line.get("level"), line.get("step"), "val" in line) for line in lines] for lines in (one, other)]
        problems.append(f"history: {'values differ' if steps[0] == steps[1] else f'{steps[1]}, not {steps[0]}'}")
    here, there = (files(folder) for folder in (whole, parts))
    problems += [f"{name} is left over" for name in sorted(there - here)]
    problems += [f"{name} is missing" for name in sorted(here - there)]
    return problems + [f"{name} is a temporary file" for name in sorted(here) if "/." in name]


def history(path: Path) -> list[dict[str, object]]:
    """The lines of a history without what differs from run to run."""
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append({key: value for key, value in json.loads(line).items() if key not in TIMES})
        except ValueError:
            lines.append({"unreadable": line})
    return lines


def files(folder: Path) -> set[str]:
    """What lies in the run and in its cache, but for locks, which are nobody's when free."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.parent != folder)
    return {str(path) for path in paths if path.suffix != ".lock"}


def cut(run: Path, part: float) -> str:
    """Cut the last checkpoint short; its name."""
    path = checkpoints(run)[-1]
    os.truncate(path, int(part * path.stat().st_size))
    return path.name


def flip(run: Path) -> str:
    """Flip a bit in the middle of the last checkpoint; its name."""
    path = checkpoints(run)[-1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path.name


def tear(run: Path) -> None:
    """Leave half a line at the end of the history."""
    with (run / "history.jsonl").open("a") as file:
        file.write('{"level": 2, "phase": "co')


def checkpoints(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("[0-9]*.safetensors"))


def play_changes(scenarios) -> None:
    """The plain run, killed before every change of the disk, and after the last."""
    shots, plain = scenarios.root / "shots", Recipe()
    kinds = scenarios.whole(plain, shots=shots)[1]["kinds"]
    for number, kind in enumerate(kinds, 1):
        scenarios.play("changes", f"before change {number}, {kind}", plain, folder=shots / str(number))
    scenarios.play("changes", "after the last change", plain, [None])


def play_others(scenarios) -> None:
    """Every other series."""
    draw, plain, rare = random.Random(0), Recipe(), Recipe(save_every=inf)  # noqa: S311 - picks scenarios
    counts = scenarios.whole(plain)[1]
    for number in draw.sample(range(1, 2 * STEPS + 1), 4):
        scenarios.play("steps", f"step {number}", rare, [("step", number)])
    for number in draw.sample(range(1, counts["encoding"] + 1), 6):
        scenarios.play("encoding", f"call {number}", rare, [("encoding", number)])
    for first in draw.sample(range(1, counts["change"] + 1), 5):
        again = [("change", draw.randint(1, 12)), ("change", draw.randint(1, 4))]
        scenarios.play("again", f"change {first}, then {again}", plain, [("change", first), *again])
    for name, (spec, options) in OTHERS.items():
        recipe = Recipe(spec, options, critic="critic" in name)
        for number in draw.sample(range(1, scenarios.whole(recipe)[1]["change"] + 1), 3):
            scenarios.play("others", f"{name}, change {number}", recipe, [("change", number)])
    scenarios.play("anew", "without --resume", rare, [("step", 2)], resume=False)
    for level, step in ((1, STEPS - 1), (2, 2 * STEPS - 1)):
        for name, damage in {"emptied": partial(cut, part=0), "halved": partial(cut, part=0.5), "a bit": flip}.items():
            scenarios.play("damaged", f"{name}, level {level}", plain, [("step", step)], damage=damage)
    scenarios.play("torn", "level 2", plain, [("step", 2 * STEPS - 1)], damage=tear)
    scenarios.play("forgetful", "level 2", replace(plain, forgetful=True), [("step", 2 * STEPS - 1)])
    for gains in ((True, False), (False, True)):
        for step in (2, STEPS + 2):
            recipe = Recipe(options={"precision": "auto"}, gains=gains, save_every=inf)
            scenarios.play("probed", f"bf16 gains {gains}, step {step}", recipe, [("step", step)])


if __name__ == "__main__":
    torch.set_num_threads(1)
    for spec, _ in [(SPEC, {}), *OTHERS.values()]:
        build(spec)  # so that plugins are imported here, once
    if threading.active_count() > 1 or len(list(Path("/proc/self/task").glob("*"))) > 1:
        sys.exit("there are threads already: a fork would lose them")
    gc.freeze()
    played = Scenarios(Path(sys.argv[1]))
    play_changes(played)
    play_others(played)
    Path(sys.argv[2]).write_text(json.dumps(played.results, indent=1))
