"""Whether a classifier still recognises what came back."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from timm import data as timm_data
from torch import nn

from zoo.builder.parts import arguments
from zoo.errors import EvaluationError, SpecError
from zoo.evaluation import classifier as own
from zoo.evaluation import tuning
from zoo.evaluation.features import Network, opened
from zoo.evaluation.pretrained import Origin
from zoo.evaluation.reconstruction import batches
from zoo.networks import architectures
from zoo.spec import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from zoo.data import Images
    from zoo.stack import Stack

    Back = Callable[[Tensor], Tensor]
    """From images to what came back of them."""

OWN = "own"
OURS = re.compile(rf"({OWN}(?:\(.*\))?)(?:=(.*))?", re.DOTALL)
"""One of our own: what it begins as, if anything, and the file that keeps it."""
OTHER = "name another file, or remove this one to train one"
AT_ONCE = 256  # images
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

    def accuracy(self, images: Images, back: Back, *, batch_size: int = AT_ONCE) -> float:
        """The share of images whose class it tells from what came back, of those of classes that it knows.

        Raises:
            EvaluationError: the images have no labels, or none is of a class that it knows.
        """
        shown, truth = self.asked(images)
        return _share(self.said(shown, back, batch_size=batch_size), truth)

    def asked(self, images: Images) -> tuple[Images, Tensor]:
        """The images of classes that it knows, and their classes.

        Raises:
            EvaluationError: the images have no labels, or none is of a class that it knows.
        """
        labels = _labels(images)
        places = torch.nonzero(torch.isin(labels, self.known)).flatten()
        if not len(places):
            raise EvaluationError(
                f"no image of {images.name} is of a class that {self.network.name} knows: there is no accuracy to "
                "measure. Take another classifier, as 'own', or other images"
            )
        return images.subset(places), labels[places]

    def said(self, images: Images, back: Back, *, batch_size: int) -> Tensor:
        """The classes that it takes what came back of these images for, (N,)."""
        return torch.cat([self.labels(back(images.batch(part))) for part in batches(len(images), batch_size)])


def recognise(
    stack: Stack, test: Images, *, classifier: str, train: Images, batch_size: int, seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The accuracy of a classifier on images, and on what came back of them through each level.

    Args:
        stack: in eval mode.
        test: labelled images.
        classifier: see ``judge_of``.
        train: labelled images that one of our own learns from.
        batch_size: images at once.
        seed: of one of our own.
        progress: show a bar while it learns.

    Raises:
        EvaluationError: the images have no labels, or there is no such classifier, or it knows none of their classes,
            or the stack has no level that anything comes back from.
    """
    if not len(stack.levels):
        raise EvaluationError(f"{stack.spec} has no level that encodes images: nothing comes back to be recognised")
    present = _labels(test).unique()
    judge = judge_of(classifier, test, train=train, device=stack.device, seed=seed, progress=progress)
    shown, truth = judge.asked(test)

    def through(number: int, x: Tensor) -> Tensor:
        return stack.decode(stack.encode(x.to(stack.device), number), number)

    backs: list[Back] = [lambda x: x, *(partial(through, number) for number in range(1, len(stack.levels) + 1))]
    said = [judge.said(shown, back, batch_size=batch_size) for back in backs]
    originals, *levels = [_share(classes, truth) for classes in said]
    return {
        "classifier": judge.network.describe(),
        "images": len(shown),
        "classes": truth.unique().numel(),
        "unknown": int((~torch.isin(present, judge.known)).sum()),
        "originals": originals,
        "levels": levels,
        "reconstructions": levels[-1],
        "agreement": _share(said[-1], said[0]),
    }


def judge_of(
    name: str, test: Images, *, train: Images, device: torch.device, seed: int = 0, progress: bool = False
) -> Judge:
    """The classifier of this name, for these images.

    Its classes are those of the images in their order where there are as many; where the images' classes are called by
    numbers of WordNet, as ``n01443537``, and it is one of ImageNet, they are found by these.

    Args:
        name: a timm model with its own pretrained weights; ``NAME=FILE.safetensors``, the same, or one of torchvision,
            or a ResNet of CIFAR-10 such as ``resnet56_cifar10``, with weights of a file; ``own``, a small one that
            learns from the training images now, or ``own(NAME)``, which begins as a pretrained network and takes the
            options of ``pretrained.Origin``; either with ``=FILE.safetensors``, which keeps it in that file.
        test: what is judged.
        train: what one of our own learns from.
        device: where it goes.
        seed: of one of our own that learns now.
        progress: show a bar while it learns.

    Raises:
        EvaluationError: there is none, or it knows none of these classes, or is to learn from others.
        FileError: its file cannot be read.
    """
    ours = OURS.fullmatch(name)
    if ours:
        network = _own(ours[1], ours[2], test, train=train, device=device, seed=seed, progress=progress)
        network.module.to(device)
    else:
        network = opened(name, asked="classifier", device=device, logits=True)
    few = network.features(test.batch(slice(0, 1)))
    return Judge(network, _columns(network.name, test, few.shape[1], ours=bool(ours)))


def called(name: str) -> str:
    """What a classifier is called without its files: ``own(resnet18)`` of ``own(resnet18, mean=0.5)=a.safetensors``.

    Raises:
        EvaluationError: it is one of our own, and begins as nothing that could be read.
    """
    ours = OURS.fullmatch(name)
    origin = _origin(ours[1]) if ours else None
    return name.partition("=")[0] if origin is None else f"{OWN}({origin.network})"


def _own(
    about: str, kept: str | None, test: Images, *, train: Images, device: torch.device, seed: int, progress: bool
) -> Network:
    """One of our own of these images, kept in a file where one is named."""
    file, origin = Path(kept) if kept else None, _origin(about)
    if file is not None and file.suffix != ".safetensors":
        raise EvaluationError(f"classifier: weights come as safetensors, {file.name} is not: {architectures.CONVERT}")
    if file is not None and file.is_file():
        made = _kept(file, about, origin)
    else:
        if train.labels is not None and train.classes != test.classes:
            raise EvaluationError(
                f"{train.name} has other classes than {test.name}: 'own' learns from those that it judges, so give "
                "training images of the same"
            )
        how: dict[str, Any] = {"seed": seed, "measure": file is not None, "progress": progress}
        with torch.inference_mode(mode=False), torch.enable_grad():
            if origin is None:
                made = own.train(train, test, **how)
            else:
                made = tuning.tune(origin.body(), train, test, device=device, **how)
        if file is not None:
            made.save(file)
    if tuple(made.shape) != tuple(test.shape):
        raise EvaluationError(f"the classifier in {file} is for images of {made.shape}, these are {test.shape}")
    if made.classes is not None and made.classes != test.classes:
        raise EvaluationError(f"the classifier in {file} is of other classes than {test.name}: {OTHER}")
    module = nn.Sequential(made.body, made.top).eval().requires_grad_(False)
    channels, height, width = made.shape
    name = called(about) if file is None else f"{called(about)}={file.name}"
    return Network(name, module, module, (height, width), channels, about=made.about)


def _kept(file: Path, about: str, origin: Origin | None) -> own.Classifier:
    """The one in this file, where it began as is asked for."""
    made = own.load(file)
    if (made.about is None) != (origin is None):
        kind = "a small one" if made.about is None else f"one that began as {made.about['network']}"
        raise EvaluationError(f"the classifier in {file} is {kind}, and {about} was asked for: {OTHER}")
    if origin is not None and made.about is not None and (difference := origin.differs(made.about)):
        raise EvaluationError(f"the classifier in {file} began with {difference}: {OTHER}")
    return made


def _origin(about: str) -> Origin | None:
    """What one of our own begins as; nothing where it is a small one."""
    if about == OWN:
        return None
    try:
        spec = parse(about)
        item = spec.levels[0].items[0]
        if str(spec) != str(replace(item, shape=(), tag=None)):
            raise SpecError(f"{OWN} and what stands in its brackets is all that there is")
        options: dict[str, Any] = arguments(item, Origin, "network")
        if "network" not in options:
            raise SpecError(f"{OWN} begins as a network, which is not named")
        return Origin(**options)
    except SpecError as error:
        raise EvaluationError(
            f"classifier {about!r}: {error.problem}; it is written {OWN}(resnet18.a1_in1k), with options such as "
            "weights=FILE.safetensors"
        ) from error


def _columns(name: str, images: Images, outputs: int, *, ours: bool = False) -> Tensor:
    """Which output of a network with so many each class of the images is.

    Of one of our own it is always the same; where classes have no names it may have seen more of them than are here.
    """
    classes = images.classes or ()
    timm: Any = timm_data
    subset = timm.infer_imagenet_subset({"num_classes": outputs})
    if subset is not None and classes and all(map(WNID.fullmatch, classes)):
        place = {wnid: number for number, wnid in enumerate(timm.ImageNetInfo(subset).label_names())}
        columns = torch.tensor([place.get(wnid, -1) for wnid in classes])
        if (columns >= 0).any():
            return columns
    count = len(classes) or int(images.labels.max()) + 1 if images.labels is not None else 0
    if outputs == count or (ours and not classes and outputs > count):
        return torch.arange(outputs)
    advice = (
        "remove its file to train one of these" if ours else
        "take a classifier of these, as 'own', or call the classes by their WordNet numbers (n01443537) where it is "
        "one of ImageNet"
    )  # fmt: skip
    raise EvaluationError(f"{name} tells {outputs} classes apart and {images.name} has {count}: {advice}")


def _labels(images: Images) -> Tensor:
    if images.labels is None:
        raise EvaluationError(f"{images.name} has no labels: there is no accuracy to measure")
    return images.labels


def _share(said: Tensor, truth: Tensor) -> float:
    """How many of these classes are those."""
    return (said == truth).double().mean().item()
