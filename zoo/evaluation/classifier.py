"""A classifier of one's own images: a small one, trained in a minute, or one that begins as a pretrained network.

They judge what no network of others fits. `tuning` trains the second kind.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from zoo import files
from zoo.errors import EvaluationError, NetworkError
from zoo.evaluation import pretrained
from zoo.evaluation.features import PIXELS_AT_ONCE, Network
from zoo.evaluation.pretrained import Body
from zoo.evaluation.reconstruction import batches
from zoo.seeding import seeded
from zoo.training.progress import bar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from zoo.data import Images

WIDTHS = (24, 48, 96)
"""Features of its three blocks, the second and third of half the size: enough for 91 % on Fashion-MNIST."""
EPOCHS, BATCH, LR = 4, 128, 4e-3
AT_ONCE = 512  # images that are judged, at most


@dataclass(frozen=True)
class Classifier:
    """A trained classifier.

    Args:
        body: images (B, C, H, W) in [0, 1] to features (B, F): the 96 of a small one, or those of a ``Body``.
        top: features to logits.
        shape: of the images, (C, H, W).
        accuracy: on test images, as it was measured after its training; None where it was not.
        classes: their names, in the order of its logits; None where they have none, or nobody wrote them down.
    """

    body: nn.Module
    top: nn.Linear
    shape: tuple[int, ...]
    accuracy: float | None = None
    classes: tuple[str, ...] | None = None

    @property
    def about(self) -> dict[str, Any] | None:
        """The pretrained network that it began as, see ``pretrained.Origin.about``; None of a small one."""
        return self.body.about if isinstance(self.body, Body) else None

    @property
    def at_once(self) -> int:
        """How many images it looks at together."""
        height, width = (self.body.size if isinstance(self.body, Body) else None) or self.shape[1:]
        return max(1, min(AT_ONCE, PIXELS_AT_ONCE // (height * width)))

    @torch.inference_mode()
    def labels(self, x: Tensor) -> Tensor:
        """The class of each image, (B,)."""
        device = self.top.weight.device
        return torch.cat(
            [self.top(self.body(x[part].to(device))).argmax(1).cpu() for part in batches(len(x), self.at_once)]
        )

    def measured(self, shown: Images) -> float:
        """The share of images whose class it knows."""
        right = 0
        for part in batches(len(shown), AT_ONCE):
            right += int((self.labels(shown.batch(part)) == labels_of(shown)[part]).sum())
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
        if self.about is not None:
            told["about"] = json.dumps(self.about)
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
        body = pretrained.unfilled(json.loads(told["about"])) if "about" in told else _small(shape[0])
        classes, width = tensors["top.weight"].shape
        top = nn.Linear(width, classes)
        for name, module in (("body.", body), ("top.", top)):
            own = {key.removeprefix(name): tensor for key, tensor in tensors.items() if key.startswith(name)}
            module.load_state_dict(own)
        named = json.loads(told.get("classes", "null"))  # which older files do not have
        names = None if named is None else tuple(named)
        return Classifier(body.eval(), top, shape, json.loads(told["accuracy"]), names)
    except (KeyError, ValueError, RuntimeError, TypeError, NetworkError, EvaluationError) as error:
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
    with seeded(seed):
        made = Classifier(_small(train.shape[0]), nn.Linear(WIDTHS[-1], count(train, test)), train.shape)
        with bar("classifier", EPOCHS * steps(train) * BATCH, visible=progress) as shown:
            made.body.train()
            learn(train, lambda index: made.top(made.body(train.batch(index))),
                  [*made.body.parameters(), *made.top.parameters()], LR, epochs=EPOCHS, seen=shown.update)  # fmt: skip
    made.body.eval()
    return replace(made, accuracy=made.measured(test) if measure else None, classes=train.classes)


def learn(
    train: Images,
    logits: Callable[[Tensor], Tensor],
    parameters: Sequence[nn.Parameter],
    rate: float,
    *,
    epochs: int,
    seen: Callable[[int], object] = lambda _: None,
) -> None:
    """Lower the cross entropy of labelled images: Adam, one cycle, batches of 128.

    Args:
        train: the images.
        logits: of the images at some places, (B, K).
        parameters: of what learns.
        rate: the highest of the cycle.
        epochs: how often every image is seen.
        seen: told of so many more images.
    """
    optimizer = torch.optim.Adam(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps(train))
    for _ in range(epochs):
        order = torch.randperm(len(train))
        for number in range(steps(train)):
            index = order[number * BATCH : (number + 1) * BATCH]
            found = logits(index)
            loss = cross_entropy(found, labels_of(train)[index].to(found.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            seen(BATCH)


def steps(train: Images) -> int:
    """How many batches an epoch has.

    Raises:
        EvaluationError: there are too few to learn from.
    """
    if len(train) < BATCH:
        raise EvaluationError(f"{train.name}: a classifier learns from at least {BATCH} images, not {len(train)}")
    return len(train) // BATCH


def count(train: Images, test: Images) -> int:
    """How many classes there are: those that have names, else as many as the labels of both sets go up to.

    Raises:
        EvaluationError: the images have no labels.
    """
    named = len(train.classes or ())
    return max(named, *(int(labels_of(shown).max()) + 1 for shown in ([train] if named else [train, test])))


def labels_of(shown: Images) -> Tensor:
    """The class of each image, (N,).

    Raises:
        EvaluationError: they have none.
    """
    if shown.labels is None:
        raise EvaluationError(f"{shown.name} has no labels, which a classifier learns from")
    return shown.labels


def _small(channels: int) -> nn.Module:
    blocks: list[nn.Module] = []
    for number, (before, after) in enumerate(pairwise((channels, *WIDTHS))):
        convolution = nn.Conv2d(before, after, 3, stride=1 if number == 0 else 2, padding=1, bias=False)
        blocks += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
