"""A small classifier of one's own images, trained in a minute: it judges samples where no pretrained network fits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from zoo import files
from zoo.errors import EvaluationError
from zoo.evaluation.features import Network
from zoo.evaluation.reconstruction import batches
from zoo.seeding import seeded

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from zoo.data import Images

WIDTHS = (24, 48, 96)
"""Features of its three blocks, the second and third of half the size: enough for 91 % on Fashion-MNIST."""
EPOCHS, BATCH, LR = 4, 128, 4e-3


@dataclass(frozen=True)
class Classifier:
    """A trained classifier.

    Args:
        body: images (B, C, H, W) in [0, 1] to features (B, 96).
        top: features to logits.
        shape: of the images, (C, H, W).
        accuracy: on test images, as it was measured after its training; None where it was not.
        classes: their names, in the order of its logits; None where they have none, or nobody wrote them down.
    """

    body: nn.Module
    top: nn.Module
    shape: tuple[int, ...]
    accuracy: float | None = None
    classes: tuple[str, ...] | None = None

    @torch.inference_mode()
    def labels(self, x: Tensor) -> Tensor:
        """The class of each image, (B,)."""
        parts = [self.top(self.body(x[part])).argmax(1) for part in batches(len(x), 512)]
        return torch.cat(parts)

    def measured(self, shown: Images) -> float:
        """The share of images whose class it knows."""
        right = 0
        for part in batches(len(shown), 512):
            right += int((self.labels(shown.batch(part)) == _labels(shown)[part]).sum())
        return right / len(shown)

    def network(self, name: str) -> Network:
        """Its features, for FID and KID."""
        channels, height, width = self.shape
        return Network(name, self.body, torch.inference_mode()(self.body), (height, width), channels=channels)

    def save(self, path: Path) -> None:
        """Write it as one safetensors file."""
        tensors = {f"body.{name}": tensor for name, tensor in self.body.state_dict().items()}
        tensors |= {f"top.{name}": tensor for name, tensor in self.top.state_dict().items()}
        told = {name: json.dumps(getattr(self, name)) for name in ("shape", "accuracy", "classes")}
        files.write_tensors(path, tensors, told)


def load(path: Path) -> Classifier:
    """What ``save`` wrote.

    Raises:
        FileError: it is missing or damaged.
        EvaluationError: it is something else.
    """
    tensors, told = files.read_tensors(path)
    try:
        shape = tuple(json.loads(told["shape"]))
        made = _made(shape, len(tensors["top.bias"]))
        for name, module in (("body.", made.body), ("top.", made.top)):
            own = {key.removeprefix(name): tensor for key, tensor in tensors.items() if key.startswith(name)}
            module.load_state_dict(own)
        classes = json.loads(told.get("classes", "null"))  # which older files do not have
        named = None if classes is None else tuple(classes)
        return Classifier(made.body, made.top, shape, json.loads(told["accuracy"]), named)
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise EvaluationError(f"{path} holds no classifier of the zoo: {error}. Remove it to train one") from error


def train(train: Images, test: Images, *, seed: int = 0, measure: bool = True, progress: bool = False) -> Classifier:
    """Train a classifier on labelled images: Adam, one cycle, four epochs; same seed, same machine, same weights.

    Args:
        train: to learn from.
        test: to measure the accuracy on.
        seed: of its weights and of the order of images.
        measure: its accuracy, which takes a pass over the test images.
        progress: show a bar.

    Raises:
        EvaluationError: the images have no labels.
    """
    labels = _labels(train)
    with seeded(seed):
        made = _made(train.shape, _count(train, test))
        parameters = [*made.body.parameters(), *made.top.parameters()]
        steps = EPOCHS * (len(train) // BATCH)
        if not steps:
            raise EvaluationError(f"{train.name}: a classifier learns from at least {BATCH} images, not {len(train)}")
        optimizer = torch.optim.Adam(parameters, lr=LR)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
        made.body.train()
        for number in tqdm(range(steps), desc="classifier", unit="step", disable=None if progress else True):
            place = number % (len(train) // BATCH) * BATCH
            if place == 0:
                order = torch.randperm(len(train))
            index = order[place : place + BATCH]
            loss = cross_entropy(made.top(made.body(train.batch(index))), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    made.body.eval()
    return Classifier(made.body, made.top, made.shape, made.measured(test) if measure else None, train.classes)


def _count(train: Images, test: Images) -> int:
    """How many classes there are: those that have names, else as many as the labels of both sets go up to."""
    named = len(train.classes or ())
    return max(named, *(int(_labels(shown).max()) + 1 for shown in ([train] if named else [train, test])))


def _made(shape: tuple[int, ...], classes: int) -> Classifier:
    blocks: list[nn.Module] = []
    for number, (before, after) in enumerate(pairwise((shape[0], *WIDTHS))):
        convolution = nn.Conv2d(before, after, 3, stride=1 if number == 0 else 2, padding=1, bias=False)
        blocks += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
    body = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Classifier(body.eval(), nn.Linear(WIDTHS[-1], classes), shape)


def _labels(shown: Images) -> Tensor:
    if shown.labels is None:
        raise EvaluationError(f"{shown.name} has no labels, which a classifier learns from")
    return shown.labels
