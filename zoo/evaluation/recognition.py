"""Whether a classifier still recognises what came back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from timm import data as timm_data
from torch import nn

from zoo.errors import EvaluationError
from zoo.evaluation import classifier as own
from zoo.evaluation.features import Network, opened
from zoo.evaluation.reconstruction import batches
from zoo.networks import architectures

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data import Images
    from zoo.stack import Stack

OWN = "own"
WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Judge:
    """A classifier, and what its classes are among those of the images.

    Args:
        network: images to logits, (B, K).
        columns: for each class of the images, which of the K it is; -1 where the network does not know it.
    """

    network: Network
    columns: Tensor

    @property
    def known(self) -> Tensor:
        """The classes of the images that it knows."""
        return torch.nonzero(self.columns >= 0).flatten()

    def labels(self, images: Tensor) -> Tensor:
        """The class that it takes each image (N, C, H, W) for, of those that it knows, (N,)."""
        return self.known[self.network.features(images)[:, self.columns[self.known]].argmax(1)]


def recognise(
    stack: Stack, test: Images, *, classifier: str, train: Images, batch_size: int, progress: bool = False
) -> dict[str, Any]:
    """The accuracy of a classifier on images, and on what came back of them through each level.

    Args:
        stack: in eval mode.
        test: labelled images.
        classifier: see ``judge_of``.
        train: labelled images that one of our own learns from.
        batch_size: images at once.
        progress: show a bar while it learns.

    Raises:
        EvaluationError: the images have no labels, or there is no such classifier, or it knows none of their classes.
    """
    if test.labels is None:
        raise EvaluationError(f"{test.name} has no labels: there is no accuracy to measure")
    judge = judge_of(classifier, test, train=train, device=stack.device, progress=progress)
    asked = torch.nonzero(torch.isin(test.labels, judge.known)).flatten()
    shown, truth = test.subset(asked), test.labels[asked]
    numbers = range(1, len(stack.levels) + 1)
    said: list[list[Tensor]] = [[] for _ in range(len(numbers) + 1)]
    for part in batches(len(shown), batch_size):
        x = shown.batch(part)
        said[0].append(judge.labels(x))
        for number in numbers:
            x_hat = stack.decode(stack.encode(x.to(stack.device), number), number)
            said[number].append(judge.labels(x_hat))
    originals, *levels = [torch.cat(parts) for parts in said]
    right = [(labels == truth).double().mean().item() for labels in (originals, *levels)]
    return {
        "classifier": judge.network.describe(),
        "images": len(shown),
        "classes": len(judge.known),
        "unknown": test.labels.unique().numel() - len(judge.known),
        "originals": right[0],
        "levels": right[1:],
        "reconstructions": right[-1],
        "agreement": (levels[-1] == originals).double().mean().item() if levels else 1.0,
    }


def judge_of(name: str, test: Images, *, train: Images, device: torch.device, progress: bool = False) -> Judge:
    """The classifier of this name, for these images.

    Its classes are those of the images in their order where there are as many; where the images' classes are called by
    numbers of WordNet, as ``n01443537``, and it is one of ImageNet, they are found by these.

    Args:
        name: a timm model with its own pretrained weights; ``NAME=FILE.safetensors``, the same, or one of torchvision,
            or a ResNet of CIFAR-10 such as ``resnet56_cifar10``, with weights of a file; ``own``, a small one that
            learns from the training images now, or ``own=FILE.safetensors``, which is kept in that file.
        test: what is judged.
        train: what one of our own learns from.
        device: where it goes.
        progress: show a bar while it learns.

    Raises:
        EvaluationError: there is none, or it knows none of these classes.
        FileError: its file cannot be read.
    """
    kind, _, file = name.partition("=")
    if kind == OWN:
        network = _own(Path(file) if file else None, test, train=train, progress=progress)
        network.module.to(device)
    else:
        network = opened(name, asked="classifier", device=device, logits=True)
    few = network.features(test.batch(slice(0, 1)))
    return Judge(network, _columns(network.name, test, few.shape[1]))


def _own(file: Path | None, test: Images, *, train: Images, progress: bool) -> Network:
    """A small classifier of these images, kept in a file where one is named."""
    if file is not None and file.suffix != ".safetensors":
        raise EvaluationError(f"classifier: weights come as safetensors, {file.name} is not: {architectures.CONVERT}")
    if file is not None and file.is_file():
        made = own.load(file)
    else:
        with torch.inference_mode(mode=False), torch.enable_grad():
            made = own.train(train, test, progress=progress)
        if file is not None:
            made.save(file)
    if tuple(made.shape) != tuple(test.shape):
        raise EvaluationError(f"the classifier in {file} is for images of {made.shape}, these are {test.shape}")
    module = nn.Sequential(made.body, made.top).eval()
    channels, height, width = made.shape
    return Network(OWN if file is None else f"{OWN}={file.name}", module, module, (height, width), channels)


def _columns(name: str, images: Images, outputs: int) -> Tensor:
    """Which output of a network with so many each class of the images is."""
    classes = images.classes or ()
    timm: Any = timm_data
    subset = timm.infer_imagenet_subset({"num_classes": outputs})
    if subset is not None and classes and all(map(WNID.fullmatch, classes)):
        place = {wnid: number for number, wnid in enumerate(timm.ImageNetInfo(subset).label_names())}
        columns = torch.tensor([place.get(wnid, -1) for wnid in classes])
        if (columns >= 0).any():
            return columns
    count = len(classes) or int(images.labels.max()) + 1 if images.labels is not None else 0
    if outputs == count:
        return torch.arange(count)
    raise EvaluationError(
        f"{name} tells {outputs} classes apart and {images.name} has {count}: take a classifier of these, as 'own', or "
        "call the classes by their WordNet numbers (n01443537) where it is one of ImageNet"
    )
