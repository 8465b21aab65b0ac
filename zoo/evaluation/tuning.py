"""A pretrained network learns to tell one's own images apart: a classifier on its features first, then all of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from zoo.arithmetic import repeatable
from zoo.errors import EvaluationError
from zoo.evaluation import classifier
from zoo.evaluation.classifier import Classifier
from zoo.evaluation.reconstruction import batches
from zoo.layout import channels_last, laid
from zoo.seeding import seeded
from zoo.training.precision import cast, gains
from zoo.training.progress import bar

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data import Images
    from zoo.evaluation.pretrained import Body

TOP_EPOCHS, TOP_LR = 11, 1.74e-3
"""For the last layer alone, on features that are computed once: next to nothing. As in Woodcock (2020)."""
EPOCHS, LR = 3, 1e-3
"""For all together at one rate: with rates that rise from the first layer to the last it ends lower, .77 instead of .79
of 4,000 test images of CIFAR-10 after two epochs of 20,480, of .03 to 1, and .67 instead of .70 after one of 10,240, of
.001 to 1. One seed, a ResNet-18 of Tiny ImageNet."""
FEW = 2  # images, to see whether it can


def tune(
    body: Body, train: Images, test: Images, *, device: torch.device, seed: int = 0, measure: bool = True,
    progress: bool = False,
) -> Classifier:  # fmt: skip
    """Train a classifier of labelled images that begins as a pretrained network; same seed, same machine, same weights.

    The last layer learns from the features of the frozen network, batch norms' statistics included, and then all of it.
    bf16 is taken where this machine gains by it; its convolutions of a few pixels may round otherwise each time.

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
    classes, images = classifier.count(train, test), len(train) + EPOCHS * classifier.steps(train) * classifier.BATCH
    channels_last(body.eval(), device)
    width = _width(body, train.batch(slice(0, FEW)), device)
    with (
        seeded(seed, device), repeatable(),
        bar(f"classifier ({body.about['network']})", images, visible=progress) as shown,
    ):  # fmt: skip
        made = Classifier(body, nn.Linear(width, classes).to(device), tuple(train.shape))
        bf16, top = gains(device), list(made.top.parameters())
        features = []
        for part in batches(len(train), made.at_once):
            x = laid(train.batch(part), device)
            with torch.no_grad(), cast(device, bf16=bf16):
                features.append(body(x).float().cpu())
            shown.update(len(x))
        said = torch.cat(features)
        classifier.learn(train, lambda index: made.top(said[index].to(device)), top, TOP_LR, epochs=TOP_EPOCHS)

        def logits(index: Tensor) -> Tensor:
            with cast(device, bf16=bf16):
                found: Tensor = made.top(body(laid(train.batch(index), device)))
            return found.float()

        body.train()
        classifier.learn(train, logits, [*body.parameters(), *top], LR, epochs=EPOCHS, seen=shown.update)
    body.eval()
    return replace(made, accuracy=made.measured(test) if measure else None, classes=train.classes)


def _width(body: Body, x: Tensor, device: torch.device) -> int:
    """How many features it has, where it can see such images at all."""
    try:
        with torch.no_grad():
            return int(body(laid(x, device)).shape[1])
    except (RuntimeError, AssertionError, ValueError) as error:  # whatever networks of others raise
        about, size = body.about, "x".join(map(str, x.shape[-2:]))
        stem = "" if about["stem_stride"] is None else f" with stem_stride={about['stem_stride']}"
        raise EvaluationError(f"{about['network']}{stem} cannot see images of {size}: {error!r:.200}") from error
