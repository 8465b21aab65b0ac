"""All the pictures of one stack, in one folder."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from zoo.data import images
from zoo.errors import EvaluationError
from zoo.pictures.codes import scatter
from zoo.pictures.curves import curves
from zoo.pictures.grids import fitting, labelled
from zoo.pictures.interpolation import between, curved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.data import Images
    from zoo.stack import Stack

SAMPLE_ROWS, CLASS_ROWS, DRAWN_ROWS, PAIRS, STEPS = 10, 10, 3, 6, 9
ACROSS, PAIR_ROWS = 4, 6  # images that stand beside what came back of them
SCATTERED = 2000  # codes, at most
AT_ONCE = 256  # images that are encoded together

_log = logging.getLogger(__name__)


def draw(
    stack: Stack,
    data: Any,
    out_dir: str | Path,
    *,
    split: str = "test",
    seed: int = 0,
    history: str | Path | None = None,
) -> list[Path]:
    """Draw a stack at work: what comes back, samples, draws, ways, codes and curves, each a PNG in ``out_dir``.

    Args:
        stack: on whatever device it is; its mode is put back afterwards.
        data: as ``zoo.fit`` takes it.
        out_dir: made where it is missing; files of the same names are replaced.
        split: the part of the data that is shown.
        seed: of the images that are chosen and of the samples.
        history: the run's ``history.jsonl``; the one in ``out_dir`` unless given.

    Returns:
        The files that were written. What cannot be drawn, as samples without a prior, is left out, and logged.
    """
    shown = images(data, stack.input_shape, split=split)
    easel = Easel(stack, shown, Path(out_dir), seed=seed)
    log = Path(history) if history is not None else Path(out_dir) / "history.jsonl"
    pictures = (
        easel.reconstructions, easel.pairs, easel.samples, easel.similar, easel.interpolation, easel.codes,
        partial(easel.curves, log),
    )  # fmt: skip
    written: list[Path] = []
    with _looking(stack):
        for picture in pictures:
            try:
                written.append(picture())
            except EvaluationError as error:
                _log.warning("a picture is left out: %s", error)
    return written


class Easel:
    """One stack, the images it is shown with, and the folder for the pictures."""

    def __init__(self, stack: Stack, shown: Images, folder: Path, *, seed: int) -> None:
        self.stack, self.folder, self.seed = stack, folder, seed
        order = torch.randperm(len(shown), generator=torch.Generator().manual_seed(seed))
        self.shown = shown.subset(order[:SCATTERED])
        self.about = f"{_cut(str(stack.spec), 70)} on {shown.name}, {shown.split}"

    def reconstructions(self) -> Path:
        """Images, and beneath each what comes back through the first level, the first two, and so on."""
        self._need_levels()
        columns = fitting(self._images(1))
        x = self._images(columns)
        rows, beside = [x.cpu()], ["images"]
        for number, level in enumerate(self.stack.lower(), 1):
            rows.append(self.stack.decode(self.stack.encode(x, number), number).cpu())
            numbers = torch.Size(level.code_shape).numel()
            spec = _cut(str(self.stack.spec.levels[number - 1]), 26)
            beside.append(f"level {number}\n{spec}\n{numbers:,} numbers")
        return labelled(rows, self.folder / "reconstructions.png", title=self.about, beside=beside)

    def pairs(self) -> Path:
        """Images, and beside each, on its right, what comes back through all levels."""
        self._need_levels()
        across = max(1, fitting(self._images(1), 2 * ACROSS) // 2)
        x = self._images(across * PAIR_ROWS).cpu()
        x_hat = self.stack(x.to(self.stack.device)).cpu()
        rows = torch.stack([x, x_hat], 1).flatten(0, 1).split(2 * across)
        above = ["image", "came back"] * (len(rows[0]) // 2)
        return labelled(rows, self.folder / "pairs.png", title=self.about, above=above)

    def samples(self) -> Path:
        """New images; of a head that has learned classes, a row of each."""
        columns = fitting(self._images(1), SAMPLE_ROWS)
        labels = [] if self.stack.head is None else self.stack.head.labels()
        if labels:
            return self._samples_by_class(labels[:CLASS_ROWS], columns)
        drawn = self.stack.sample(columns * min(SAMPLE_ROWS, columns), seed=self.seed).cpu()
        source = "the head" if self.stack.head is not None else "the prior"
        title = f"{len(drawn)} samples of {source}, seed {self.seed}: {_cut(str(self.stack.spec), 70)}"
        return labelled(drawn.split(columns), self.folder / "samples.png", title=title)

    def _samples_by_class(self, labels: list[int], columns: int) -> Path:
        rows = [self.stack.sample(columns, seed=self.seed, label=label).cpu() for label in labels]
        names = dict(enumerate(self.shown.classes or ()))
        title = f"samples of each class, seed {self.seed}: {_cut(str(self.stack.spec), 70)}"
        beside = [_cut(names.get(label, f"label {label}"), 26) for label in labels]
        return labelled(rows, self.folder / "samples.png", title=title, beside=beside)

    def similar(self) -> Path:
        """Images, what their posteriors' means decode to, and draws from these posteriors."""
        self._need_levels()
        columns = fitting(self._images(1), SAMPLE_ROWS)
        x = self._images(columns)
        noisy = [self.stack.similar(x, seed=self.seed + number) for number in range(DRAWN_ROWS)]
        rows = [x, self.stack.similar(x, noise=False), *noisy]
        beside = ["images", "mean", *(f"draw {number}" for number in range(1, DRAWN_ROWS + 1))]
        return labelled([row.cpu() for row in rows], self.folder / "similar.png", title=self.about, beside=beside)

    def interpolation(self) -> Path:
        """From image to image, the images themselves at both ends."""
        self._need_levels()
        pairs = min(PAIRS, len(self.shown) // 2)
        if not pairs:
            raise EvaluationError(f"interpolation takes two images, {self.shown.name} has {len(self.shown)}")
        steps = min(STEPS, max(2, fitting(self._images(1)) - 2))
        first, last = self._images(2 * pairs).chunk(2)
        ways = between(self.stack, first, last, steps)
        rows = [torch.cat([a[None], way, b[None]]) for a, way, b in zip(first.cpu(), ways, last.cpu(), strict=True)]
        above = ["image", *(f"{place / (steps - 1):.3g}" for place in range(steps)), "image"]
        title = f"{'arcs' if curved(self.stack) else 'straight lines'} between codes: {self.about}"
        return labelled(rows, self.folder / "interpolation.png", title=title, above=above)

    def codes(self) -> Path:
        """Where the top codes lie."""
        self._need_levels()
        starts = range(0, len(self.shown), AT_ONCE)
        codes = torch.cat([self.stack.encode(self._images(AT_ONCE, start)).cpu() for start in starts])
        path = self.folder / "codes.png"
        return scatter(codes, self.shown.labels, self.shown.classes, path, title=self.about, seed=self.seed)

    def curves(self, history: Path) -> Path:
        """How training went."""
        if not history.is_file():
            raise EvaluationError(f"no curves without a history of training: there is no {history}")
        return curves(history, self.folder / "curves.png", title=f"training of {_cut(str(self.stack.spec), 70)}")

    def _images(self, count: int, start: int = 0) -> torch.Tensor:
        x: torch.Tensor = self.shown.batch(slice(start, start + count))
        return x.to(self.stack.device)

    def _need_levels(self) -> None:
        if not len(self.stack.levels):
            raise EvaluationError(f"{self.stack.spec} has no level that encodes images")


@contextmanager
def _looking(stack: Stack) -> Iterator[None]:
    """No gradients, eval mode; every module's mode is put back afterwards."""
    modes = [(module, module.training) for module in stack.modules()]
    stack.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."
