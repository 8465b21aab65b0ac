"""What a run tells the people who wait for it, and the history it leaves behind."""

from __future__ import annotations

import json
import logging
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from zoo import files

if TYPE_CHECKING:
    from pathlib import Path

    from accelerate.accelerator import Accelerator
    from torch import Tensor

HISTORY = "history.jsonl"
logger = logging.getLogger("zoo")


LINE = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
PICTURED = 8  # held-out images that TensorBoard shows, each above what came back of it
QUIET = 20.0
"""Seconds between lines where there is no terminal to draw a bar on."""


class _Lines:
    """Where there is no terminal: every state of a bar on a line of its own."""

    def write(self, text: str) -> None:
        if text.strip():
            sys.stderr.write(text.strip() + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def bar(title: str, total: int | None, *, unit: str = "img", done: int = 0, visible: bool = True) -> Any:
    """A bar of tqdm over ``total`` images: drawn on a terminal, a line now and then elsewhere."""
    shape: dict[str, Any] = {"dynamic_ncols": True, "file": sys.stderr, "mininterval": 0.2}
    if not sys.stderr.isatty():
        shape = {"ascii": True, "bar_format": LINE, "file": _Lines(), "mininterval": QUIET, "maxinterval": QUIET}
    return tqdm(desc=title, total=total, initial=done, unit=unit, unit_scale=True, disable=not visible, **shape)


class Reporter:
    """Progress bars on a terminal, lines elsewhere; the history as JSON lines, and TensorBoard where installed.

    Args:
        out: the run's folder; None keeps no history.
        accelerator: whose trackers are fed.
        visible: show anything at all.
    """

    def __init__(self, out: Path | None, accelerator: Accelerator, *, visible: bool) -> None:
        self.main = accelerator.is_main_process
        self.history = out / HISTORY if out is not None and self.main else None
        self.accelerator = accelerator
        self.visible = visible and self.main
        self.bar: Any = None
        self.pictures: Tensor | None = None

    def say(self, text: str) -> None:
        """One line for the user; for the log where nothing is shown."""
        if self.visible:
            tqdm.write(text, file=sys.stderr)
        else:
            logger.info(text)

    def warn(self, text: str) -> None:
        """The same, of something that the user did not expect."""
        if self.visible:
            tqdm.write(f"warning: {text}", file=sys.stderr)
        elif self.main:
            logger.warning(text)

    def start(self, title: str, total: int | None, *, unit: str = "img", done: int = 0) -> None:
        """Begin a bar over ``total`` images."""
        if self.visible:
            self.bar = bar(title, total, unit=unit, done=done)

    def advance(self, count: int, *, total: int | None = None) -> None:
        """Move the bar by ``count`` images, and its end where that has become clearer."""
        if self.bar is not None:
            if total is not None:
                self.bar.total = total
            self.bar.update(count)

    def show(self, values: dict[str, float]) -> None:
        """Numbers beside the bar, by name."""
        if self.bar is not None:
            self.bar.set_postfix_str(", ".join(f"{name} {value:.4g}" for name, value in values.items()), refresh=False)

    def stop(self) -> None:
        """End the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def keep(self, x: Tensor, x_hat: Tensor) -> None:
        """Keep a few images (B, C, H, W) and what came back of them, for TensorBoard with the next line."""
        if self.accelerator.trackers and x.shape[1] in (1, 3):
            pairs = zip(x[:PICTURED], x_hat[:PICTURED], strict=True)
            self.pictures = torch.stack([torch.cat(pair, 1) for pair in pairs]).clamp(0, 1).float().cpu()

    def forget(self) -> None:
        """Let go of images for which no line is written."""
        self.pictures = None

    def record(self, line: dict[str, Any]) -> None:
        """Add a line to the history."""
        if self.history is None:
            return
        with files.explained(self.history), self.history.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        try:
            self._track(line)
        except OSError as error:  # a full disk, as a rule: the run can do without
            self.accelerator.trackers = []
            self.warn(f"TensorBoard's log cannot be written ({error}); the run goes on without it")

    def _track(self, line: dict[str, Any]) -> None:
        if not self.accelerator.trackers:
            return
        prefix = f"level-{line['level']}/{line['phase']}"
        numbers = {**line.get("terms", {}), **line.get("measures", {})}
        numbers |= {f"val_{key}": value for key, value in line.get("val", {}).items() if isinstance(value, float)}
        numbers |= {f"weight_{key}": value for key, value in line.get("weights", {}).items()}
        numbers |= {key: line[key] for key in ("loss", "lr", "images_per_second") if key in line}
        self.accelerator.log({f"{prefix}/{key}": value for key, value in numbers.items()}, step=line["step"])
        if self.pictures is not None:
            shown = {f"{prefix}/images": self.pictures.numpy()}
            for tracker in self.accelerator.trackers:
                tracker.log_images(shown, step=line["step"])
            self.pictures = None

    def length(self) -> int:
        """Bytes of history so far."""
        return self.history.stat().st_size if self.history is not None and self.history.exists() else 0

    def cut(self, length: int) -> None:
        """Forget the history after its first ``length`` bytes: what a resumed run will write again."""
        if self.history is not None and self.history.exists():
            with self.history.open("r+b") as file:
                file.truncate(min(length, self.length()))  # one that is shorter is not filled up


def trackers(*, lasting: bool) -> list[str]:
    """The trackers of accelerate that this machine can feed, for a run that leaves something behind."""
    return ["tensorboard"] if lasting and find_spec("tensorboard") is not None else []
