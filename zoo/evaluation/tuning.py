"""A pretrained network learns to tell one's own images apart: a classifier on its features first, then all of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from zoo.errors import EvaluationError
from zoo.evaluation import classifier
from zoo.evaluation.classifier import Classifier
from zoo.evaluation.reconstruction import batches
from zoo.layout import channels_last, laid
from zoo.seeding import seeded
from zoo.training.precision import gains

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from zoo.data import Images
    from zoo.evaluation.pretrained import Body

TOP_EPOCHS, TOP_LR = 11, 1.74e-3
"""For the last layer alone, on features that are computed once: next to nothing. As in Woodcock (2020)."""
EPOCHS, LR = 3, 1e-3
"""For all together at one rate: with rates that rise from the first layer to the last it ends lower, .77 instead of .79
of the test images of CIFAR-10 after two epochs of 20,000, of .03 to 1, and .67 instead of .70 after one of 10,000, of
.001 to 1."""
AT_ONCE = 512  # images whose features are computed


def tune(
    body: Body, train: Images, test: Images, *, device: torch.device, seed: int = 0, measure: bool = True,
    progress: bool = False,
) -> Classifier:  # fmt: skip
    """Train a classifier of labelled images that begins as a pretrained network; same seed, same machine, same weights.

    The last layer learns from the features of the frozen network, batch norms' statistics included, and then all of it.
    bf16 is taken where this machine gains by it.

    Args:
        body: the network; it is what learns.
        train: to learn from.
        test: to measure the accuracy on.
        device: to learn on.
        seed: of the last layer and of the order of images.
        measure: its accuracy, which takes a pass over the test images.
        progress: show a bar.

    Raises:
        EvaluationError: the images have no labels, are too few, or too small for the network.
    """
    labelled = classifier.count(train, test)
    with seeded(seed, device), classifier.bar(train, 1 + EPOCHS, progress=progress) as seen:
        channels_last(body.eval(), device)
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=gains(device))
        with autocast:
            features = _features(body, train, device, seen)
        made = Classifier(body, nn.Linear(features.shape[1], labelled).to(device), tuple(train.shape))
        top = list(made.top.parameters())
        classifier.learn(
            train, lambda index: made.top(features[index].to(device)), top, TOP_LR, epochs=TOP_EPOCHS
        )  # fmt: skip

        def logits(index: Tensor) -> Tensor:
            with autocast:
                found: Tensor = made.top(body(laid(train.batch(index), device)))
            return found.float()

        body.train()
        classifier.learn(train, logits, [*body.parameters(), *top], LR, epochs=EPOCHS, seen=seen)
    body.eval()
    return replace(made, accuracy=made.measured(test) if measure else None, classes=train.classes)


def _features(body: Body, train: Images, device: torch.device, seen: Callable[[int], object]) -> Tensor:
    """The features of all images, (N, F), on the CPU."""
    found = []
    for part in batches(len(train), AT_ONCE):
        x = train.batch(part)
        with torch.no_grad():
            try:
                found.append(body(laid(x, device)).float().cpu())
            except RuntimeError as error:
                size = "x".join(map(str, x.shape[-2:]))
                raise EvaluationError(f"{body.name} cannot see images of {size}: {error}") from error
        seen(len(x))
    return torch.cat(found)
