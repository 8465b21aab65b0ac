"""Seconds to equal quality: pythae's VAE in its trainer, then our default stack with rising budgets.

Both learn from the bundled Fashion-MNIST images with 16 numbers a code, from the start of the call to its end. Quality
is measured alike on the 1,000 test images: the mean squared error of reconstructions from the mean of the code, and the
unbiased KID of as many samples from the prior, the median of five draws, by the features of a small classifier trained
on the same images (``zoo.evaluation.classifier``). A budget is a run of its own, as its schedule ends with it, with a
cache of its own, so that it encodes what it learns from; those that were not good enough are not counted, as somebody
who trains again knows the number. The goal is what pythae's comes to at the end of its epochs, and ours is the first of
several runs to be as good, so what luck there is in samples speaks for ours.
"""

from __future__ import annotations

import io
import json
import logging
import os
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import torch

import zoo
from benchmarks.beside.networks import SHAPES, WIDTH, stack, vae
from benchmarks.beside.training import in_pythae
from zoo.data import images
from zoo.evaluation import classifier
from zoo.evaluation.generation import kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from zoo.data import Images

EPOCHS, BATCH = 10, 128
OURS = f"28x28x1/conv7x7x10/fc{WIDTH}+kl"
DRAWS = 5
BUDGETS = (50, 100, 200, 400, 800, 1600, 3200)
"""Steps of each of our levels, with its default batch."""


@dataclass(frozen=True)
class Quality:
    """What a run came to.

    Args:
        seconds: of the training.
        mse: of test images.
        kid: of samples.
    """

    seconds: float
    mse: float
    kid: float

    def reaches(self, other: Quality) -> bool:
        """At least as good in both."""
        return self.mse <= other.mse and self.kid <= other.kid


def main(scratch: str) -> None:
    """One line: theirs, and the first of ours that reaches it, or the last."""
    train, test = (images("sample", SHAPES[28], split=split) for split in ("train", "test"))
    features = classifier.train(train, test).body
    real = test.batch(slice(0, len(test)))

    def judged(train_it: Callable[[], zoo.Stack]) -> Quality:
        os.environ["ZOO_CACHE"] = tempfile.mkdtemp(dir=scratch)
        start = perf_counter()
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            made = train_it()
        return _quality(perf_counter() - start, made.to("cpu").eval(), real, features)

    theirs = judged(lambda: _theirs(train))
    for steps in BUDGETS:
        ours = judged(lambda steps=steps: zoo.fit(zoo.build(OURS), train, steps=steps, progress=False))  # type: ignore[misc]
        if ours.reaches(theirs):
            break
    what = f"{OURS} with {steps} steps a level"
    print(json.dumps({"ours": {"what": what, **asdict(ours)}, "pythae": {"epochs": EPOCHS, **asdict(theirs)}}))


def _theirs(train: Images) -> zoo.Stack:
    model = vae(28)
    in_pythae(model, train.batch(slice(0, len(train))), BATCH, epochs=EPOCHS)
    return stack(28, model)


@torch.inference_mode()
def _quality(seconds: float, made: zoo.Stack, real: Tensor, features: torch.nn.Module) -> Quality:
    features.eval()
    back = torch.cat([made(part) for part in real.split(100)]).clamp(0, 1)
    drawn = (made.sample(len(real), seed=seed).clamp(0, 1) for seed in range(DRAWS))
    wanted, *seen = (torch.cat([features(part) for part in x.split(500)]) for x in (real, *drawn))
    kid = median(kernel(wanted, found, seed=0)["kid"] for found in seen)
    return Quality(seconds, float((back - real).square().mean()), kid)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        main(folder)
