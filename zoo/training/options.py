"""What can be chosen about a training run, checked once and recorded with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_type_hints

from zoo.codes import CodeType, Coding, Mode
from zoo.data.augmentation import Augmentation
from zoo.data.corruption import Corruption
from zoo.errors import TrainingError, nearest

LossIn = Literal["codes", "pixels"]
OptimizerName = Literal["adamw", "adam", "adamax", "sgd"]
ScheduleName = Literal["cosine", "multistep", "onecycle", "constant"]
Precision = Literal["auto", "fp32", "bf16"]

DEFAULT_EPOCHS = 20
DEFAULT_RATE = 1e-3
AUTO = "auto"


@dataclass(frozen=True)
class Options:
    """How to train.

    Args:
        epochs: passes over the training images, for each level; 20 when neither this, steps nor minutes is given.
        steps: optimiser steps, for each level.
        minutes: wall-clock minutes, for each level; the one budget under which two runs differ.
        loss_in: where the upper levels' loss lives: ``codes`` (cached, fast) or ``pixels`` (through the frozen levels).
        codes: what the upper levels learn from: the ``mean`` of each posterior below, or its ``moments``, from which a
            fresh code is drawn every time.
        code_dtype: how the cache keeps codes: ``float32``, or ``float16``, half as large.
        augment: views of the images that are fresh every time, as ``flip+shift2``; None for none.
        corrupt: what images suffer before they are encoded, as ``noise=0.3`` or ``mask=0.5``, drawn anew in each step;
            reconstructions are compared with the clean ones. Codes of finished levels are those of clean images.
        fold: choose the best weights by one of so many stratified parts of the training images and learn from the
            others: ``1/5`` is the first of five. None: by a seeded 5 %, at most 1,000 images.
        views: of augmented images, passes that are recorded as codes for the upper levels; 0: these see images as they
            are.
        progressive: heights of smaller images that level 1 learns from first, rising: its stage grows with them, and
            ends as any other.
        refine: after the levels, train everything end to end in pixels for as long again, at a tenth of the rate.
        batch_size: images a step, over all processes.
        seed: same seed, same machine, same numbers.
        lr: the highest learning rate; ``auto`` finds one for every level before it trains (``zoo.find_lr``).
        optimizer: ``adamw`` (betas 0.9, 0.95), ``adam`` or ``adamax`` (0.9, 0.999), or ``sgd`` (momentum 0.9).
        schedule: ``cosine``, ``multistep`` (a tenth at each of the milestones), ``onecycle`` or ``constant``.
        milestones: of ``multistep``, parts of the budget.
        weight_decay: of the weights, not of biases and other vectors, by ``adamw`` and ``sgd``.
        clip: largest gradient norm; 0 leaves gradients as they are.
        ema: decay of the running average of the weights, which is what is evaluated and kept; 0 for none.
        precision: ``fp32``, ``bf16`` (autocast), or ``auto``: bf16 where a short probe shows a gain at equal loss.
        compile: ``torch.compile`` the objective.
        log_every: steps between lines of the history.
        level: train this level alone.
    """

    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    loss_in: LossIn = "codes"
    codes: Mode = "mean"
    code_dtype: CodeType = "float32"
    augment: str | None = None
    corrupt: str | None = None
    fold: str | None = None
    views: int = 0
    progressive: tuple[int, ...] = ()
    refine: bool = False
    batch_size: int = 64
    seed: int = 0
    lr: float | Literal["auto"] = DEFAULT_RATE
    optimizer: OptimizerName = "adamw"
    schedule: ScheduleName = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.998
    precision: Precision = "auto"
    compile: bool = False
    log_every: int = 50
    level: int | None = None

    def __post_init__(self) -> None:
        budgets = [name for name in ("epochs", "steps", "minutes") if getattr(self, name) is not None]
        if len(budgets) > 1:
            raise TrainingError(f"{' and '.join(budgets)} are given: one of them says how long to train")
        if isinstance(self.lr, str) and self.lr != AUTO:
            raise TrainingError(f"lr={self.lr!r}: wants a number above 0, or {AUTO!r}")
        for name in ("epochs", "steps", "batch_size", "log_every", "views", "seed", "level"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Integral):
                raise TrainingError(f"{name}={value!r}: wants a whole number")
        for name in ("minutes", "rate", "weight_decay", "clip", "ema"):
            if not isinstance(getattr(self, name), Real | None):
                raise TrainingError(f"{'lr' if name == 'rate' else name}={getattr(self, name)!r}: wants a number")
        for name in ("epochs", "steps", "minutes", "batch_size", "rate", "log_every"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise TrainingError(f"{'lr' if name == 'rate' else name}={value}: wants more than 0")
        for name in ("weight_decay", "clip"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise TrainingError(f"{name}={getattr(self, name)}: wants 0 or more")
        if self.views < 0 or (self.views and not self.augment):
            raise TrainingError(
                f"views={self.views}: a number of passes over augmented images, so it takes --augment flip+shift2 "
                "(augment='flip+shift2'), and is 0 or more"
            )
        if self.augment:
            Augmentation.parse(self.augment)
        if self.corrupt:
            Corruption.parse(self.corrupt)
        self._check_fold()
        object.__setattr__(self, "milestones", tuple(self.milestones))  # a recipe and run.json have a list
        object.__setattr__(self, "progressive", tuple(self.progressive))
        if any(side < 1 for side in self.progressive) or sorted(set(self.progressive)) != [*self.progressive]:
            raise TrainingError(
                f"progressive={self.progressive}: heights of images, each larger than the one before it"
            )
        if not all(0 < part < 1 for part in self.milestones):
            raise TrainingError(f"milestones={self.milestones}: parts of the budget, above 0 and below 1")
        if not 0 <= self.ema < 1:
            raise TrainingError(f"ema={self.ema}: a decay is at least 0 and below 1")
        for name, kind in get_type_hints(type(self)).items():
            choices = get_args(kind)
            if choices and isinstance(choices[0], str) and getattr(self, name) not in choices:
                raise TrainingError(f"{name}={getattr(self, name)!r}: {nearest(str(getattr(self, name)), choices)}")

    @property
    def rate(self) -> float:
        """The highest learning rate as a number: the default where one is still to be found."""
        return DEFAULT_RATE if isinstance(self.lr, str) else self.lr

    def _check_fold(self) -> None:
        number, of = self.folds or (1, 2)
        if not 1 <= number <= of or of < 2:
            raise TrainingError(f"fold={self.fold!r}: one of at least two parts, from 1, as in '1/5'")

    @property
    def folds(self) -> tuple[int, int] | None:
        """Which part of how many chooses the weights, from 1."""
        if self.fold is None:
            return None
        number, _, of = self.fold.partition("/")
        return (int(number), int(of)) if number.isdecimal() and of.isdecimal() else (0, 0)

    @property
    def corruption(self) -> Corruption | None:
        """Of the images before they are encoded."""
        return Corruption.parse(self.corrupt) if self.corrupt else None

    @property
    def augmentation(self) -> Augmentation | None:
        """Of the images."""
        return Augmentation.parse(self.augment) if self.augment else None

    @property
    def coding(self) -> Coding:
        """How the codes of finished levels are kept."""
        return Coding(self.codes, self.code_dtype, self.augmentation if self.views else None, self.views, self.seed)

    def describe(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "milestones": list(self.milestones), "progressive": list(self.progressive)}
