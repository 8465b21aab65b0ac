"""A classifier of one's own images: a small one, trained in a minute, or one that begins as a pretrained network.

They judge what no network of others fits. `tuning` trains the second kind.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from zoo import files
from zoo.errors import EvaluationError, NetworkError
from zoo.evaluation import pretrained
from zoo.evaluation.features import Network
from zoo.evaluation.pretrained import Body
from zoo.evaluation.reconstruction import batches
from zoo.seeding import seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
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
    def begun_as(self) -> str | None:
        """The pretrained network that it began as; None of a small one."""
        return self.body.name if isinstance(self.body, Body) else None

    @torch.inference_mode()
    def labels(self, x: Tensor) -> Tensor:
        """The class of each image, (B,)."""
        device = self.top.weight.device
        return torch.cat([self.top(self.body(x[part].to(device))).argmax(1).cpu() for part in batches(len(x), 512)])

    def measured(self, shown: Images) -> float:
        """The share of images whose class it knows."""
        right = 0
        for part in batches(len(shown), 512):
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
        if isinstance(self.body, Body):
            told["body"] = json.dumps({"network": self.body.name, "stem_stride": self.body.stem_stride})
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
        body = pretrained.outline(**json.loads(told["body"])) if "body" in told else _small(shape[0])
        classes, width = tensors["top.weight"].shape
        top = nn.Linear(width, classes)
        for name, module in (("body.", body), ("top.", top)):
            own = {key.removeprefix(name): tensor for key, tensor in tensors.items() if key.startswith(name)}
            module.load_state_dict(own)
        named = json.loads(told.get("classes", "null"))  # which older files do not have
        names = None if named is None else tuple(named)
        return Classifier(body.eval(), top, shape, json.loads(told["accuracy"]), names)
    except (KeyError, ValueError, RuntimeError, TypeError, NetworkError) as error:
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
        with bar(train, EPOCHS, progress=progress) as seen:
            made.body.train()
            learn(train, lambda index: made.top(made.body(train.batch(index))),
                  [*made.body.parameters(), *made.top.parameters()], LR, epochs=EPOCHS, seen=seen)  # fmt: skip
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
    steps = len(train) // BATCH
    optimizer = torch.optim.Adam(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
    for _ in range(epochs):
        order = torch.randperm(len(train))
        for number in range(steps):
            index = order[number * BATCH : (number + 1) * BATCH]
            found = logits(index)
            loss = cross_entropy(found, labels_of(train)[index].to(found.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            seen(BATCH)


@contextmanager
def bar(train: Images, epochs: int, *, progress: bool) -> Iterator[Callable[[int], object]]:
    """A bar over all images of so many epochs, which goes on by as many as it is told.

    Raises:
        EvaluationError: there are too few to learn from.
    """
    if len(train) < BATCH:
        raise EvaluationError(f"{train.name}: a classifier learns from at least {BATCH} images, not {len(train)}")
    total = epochs * (len(train) // BATCH) * BATCH
    with tqdm(total=total, desc="classifier", unit="img", unit_scale=True, disable=None if progress else True) as shown:
        yield shown.update


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
