"""What can be chosen about a training run, checked once and recorded with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args, get_type_hints

from zoo.codes import CodeType, Coding, Mode
from zoo.data.augmentation import Augmentation
from zoo.errors import TrainingError, nearest

LossIn = Literal["codes", "pixels"]
OptimizerName = Literal["adamw", "adam", "adamax", "sgd"]
ScheduleName = Literal["cosine", "multistep", "onecycle", "constant"]
Precision = Literal["auto", "fp32", "bf16"]

DEFAULT_EPOCHS = 20


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
        views: of augmented images, passes that are recorded as codes for the upper levels; 0: these see images as they
            are.
        refine: after the levels, train everything end to end in pixels for as long again, at a tenth of the rate.
        batch_size: images a step, over all processes.
        seed: same seed, same machine, same numbers.
        lr: the highest learning rate.
        optimizer: ``adamw``, ``adam``, ``adamax`` or ``sgd`` (momentum 0.9).
        schedule: ``cosine``, ``multistep`` (a tenth at one half and at three quarters), ``onecycle`` or ``constant``.
        weight_decay: of the weights, not of biases and other vectors.
        clip: largest gradient norm.
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
    views: int = 0
    refine: bool = False
    batch_size: int = 64
    seed: int = 0
    lr: float = 1e-3
    optimizer: OptimizerName = "adamw"
    schedule: ScheduleName = "cosine"
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
        for name in ("epochs", "steps", "minutes", "batch_size", "lr", "log_every", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise TrainingError(f"{name}={value}: wants more than 0")
        if self.views < 0 or (self.views and not self.augment):
            raise TrainingError(
                f"views={self.views}: a number of passes over images that augment='flip+shift2' changes"
            )
        if self.augment:
            Augmentation.parse(self.augment)
        if not 0 <= self.ema < 1:
            raise TrainingError(f"ema={self.ema}: a decay is at least 0 and below 1")
        for name, kind in get_type_hints(type(self)).items():
            choices = get_args(kind)
            if choices and isinstance(choices[0], str) and getattr(self, name) not in choices:
                raise TrainingError(f"{name}={getattr(self, name)!r}: {nearest(str(getattr(self, name)), choices)}")

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
        return asdict(self)
