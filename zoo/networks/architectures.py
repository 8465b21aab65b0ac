"""The networks that are known by name, and their weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import get_pretrained_cfg, is_model, list_models
from torch import nn
from torchvision import models as torchvision_models

from zoo.catalogue import from_catalogue
from zoo.errors import FileError, NetworkError, nearest
from zoo.networks.cifar import CifarResNet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of ImageNet's pixels, by channel: what networks are trained with unless they say otherwise."""

torchvision: Any = torchvision_models
ONE_SIZE = ("vit_", "maxvit_")
"""How the names of those of torchvision begin that take images of one size."""

CONVERT = "convert weights that you trust, with safetensors.torch.save_file"
"""What to do with weights in a pickle, which the zoo does not open."""
SAFE = {"hf_hub_filename": "model.safetensors", "url": "", "custom_load": False}
"""What timm is told of a download: no way round to a pickle."""


@dataclass(frozen=True)
class Architecture:
    """A network that is known by name.

    Args:
        name: as it was asked for.
        make: builds it, with random weights; ``classes=0`` leaves its classifier out where it can.
        fetch: the same with its own pretrained weights; None where none can be had as safetensors.
        size: height and width of the images that it was made for.
        fixed: it takes no other size.
        mean, std: subtracted from images in [0, 1], and divided by, for each of its channels.
        classifier: the name of its last layer, which gives the logits.
    """

    name: str
    make: Callable[..., nn.Module]
    fetch: Callable[..., nn.Module] | None
    size: tuple[int, int]
    fixed: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classifier: str

    def outline(self, **options: Any) -> nn.Module:
        """It without weights, at once however large it is; in eval mode."""
        with from_catalogue(), torch.device("meta"):
            return self.make(**options).eval()

    def headless(self) -> nn.Module:
        """It without its classifier, with random weights: what comes out are features."""
        network = self.make(classes=0)
        if f"{self.classifier}.weight" in network.state_dict():  # those that leave it in
            network.set_submodule(self.classifier, nn.Identity())
        return network

    def pretrained(self, **options: Any) -> nn.Module:
        """It with its own pretrained weights, in eval mode.

        Raises:
            NetworkError: there are none as safetensors, or they cannot be downloaded.
        """
        advice = (
            f"weights of your own are a file: '{self.name}=FILE.safetensors', or weights=FILE.safetensors in a term"
        )
        if self.fetch is None:
            raise NetworkError(f"{self.name} has no pretrained weights as safetensors: {advice}")
        try:
            return self.fetch(**options).eval()
        except Exception as error:  # timm, the Hub and the network below them raise what they like
            raise NetworkError(f"the pretrained weights of {self.name} cannot be had ({error}); {advice}") from error

    def classes(self, tensors: Mapping[str, Tensor]) -> int | None:
        """How many classes these weights tell apart; None where they have no classifier."""
        bias = tensors.get(f"{self.classifier}.bias")
        return None if bias is None else len(bias)


def find(name: str) -> Architecture:
    """The network of this name.

    Args:
        name: of timm, as in ``resnet18.a1_in1k``; ``resnet20_cifar10`` with any depth of 6n + 2; else of torchvision.

    Raises:
        NetworkError: nobody knows it.
    """
    if of_cifar := re.fullmatch(r"resnet(\d{1,4})_cifar(\d{1,3})", name):
        depth, classes = int(of_cifar[1]), int(of_cifar[2])
        if depth < 8 or depth % 6 != 2:
            raise NetworkError(f"{name}: a ResNet of CIFAR has a depth of 6n + 2, as 20, 32, 44, 56 or 110")
        make = partial(_cifar, depth, classes)
        return Architecture(name, make, None, (32, 32), False, *IMAGENET, classifier="linear")
    if is_model(name):
        return _of_timm(name)
    if name in torchvision.list_models(torchvision):
        return _of_torchvision(name)
    known = {*list_models(), *torchvision.list_models(torchvision)}
    raise NetworkError(f"neither timm nor torchvision has a network {name!r}; {nearest(name.partition('.')[0], known)}")


def read(path: Path) -> dict[str, Tensor]:
    """The weights in a file, as float32.

    Raises:
        NetworkError: it is no safetensors file by its name.
        FileError: it is missing or damaged.
    """
    if path.suffix != ".safetensors":
        raise NetworkError(f"weights come as safetensors, {path.name} is not: {CONVERT}")
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise FileError(f"{path} cannot be read as safetensors: {error}") from error
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def fill(network: nn.Module, tensors: Mapping[str, Tensor], *, name: str, part: bool = False) -> None:
    """Give a network these weights, on whatever device it was built.

    Args:
        network: has all tensors that it needs in its state.
        tensors: counters of batches, which only training reads, may be missing.
        name: of the network and the weights, for errors.
        part: there may be more tensors than it takes.

    Raises:
        NetworkError: one is missing, of another shape, or too much.
    """
    wanted = network.state_dict()
    given = dict(tensors) if not part else {key: tensors[key] for key in wanted if key in tensors}
    for key, tensor in wanted.items():
        if key.endswith("num_batches_tracked") and key not in given:
            given[key] = tensor.new_zeros((), device="cpu")
    missing, extra = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or extra:
        raise NetworkError(f"the weights do not fit {name}: missing {missing[:3]}, not expected {extra[:3]}")
    for key, tensor in wanted.items():
        if given[key].shape != tensor.shape:
            raise NetworkError(
                f"the weights do not fit {name}: {key} is {tuple(given[key].shape)}, not {tuple(tensor.shape)}"
            )
    network.load_state_dict({key: given[key].to(tensor.dtype) for key, tensor in wanted.items()}, assign=True)


def restored(known: Architecture, file: Path, *, logits: bool) -> nn.Module:
    """A network with the weights of a file: with its classifier, of as many classes as these tell apart, or without.

    Raises:
        NetworkError: the weights do not fit.
        FileError: the file cannot be read.
    """
    tensors = read(file)
    model = known.make(classes=known.classes(tensors)) if logits else known.headless()
    wanted, head = model.state_dict(), f"{known.classifier}."
    kept = {key: tensor for key, tensor in tensors.items() if key in wanted or not key.startswith(head)}
    fill(model, kept, name=f"{known.name} in {file.name}")
    return model


def _of_timm(name: str) -> Architecture:
    told: Any = get_pretrained_cfg(name)
    classifier = told.classifier if isinstance(told.classifier, str) else ""
    return Architecture(
        name=name,
        make=partial(_timm, name),
        fetch=partial(_timm, name, pretrained=True, pretrained_cfg_overlay=SAFE),
        size=(told.input_size[1], told.input_size[2]),
        fixed=bool(told.fixed_input_size),
        mean=tuple(told.mean),
        std=tuple(told.std),
        classifier=classifier,
    )


def _of_torchvision(name: str) -> Architecture:
    with from_catalogue(), torch.device("meta"):
        last = [*torchvision.get_model(name, weights=None).state_dict()][-1]
    classifier = last.rpartition(".")[0]  # of "fc.bias", or of its weight, where it has no bias
    make, fixed = partial(_torchvision, name), name.startswith(ONE_SIZE)
    return Architecture(name, make, None, (224, 224), fixed, *IMAGENET, classifier=classifier)


def _timm(name: str, *, classes: int | None = 0, **options: Any) -> nn.Module:
    counted: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    return timm.create_model(name, **counted, **options)


def _torchvision(name: str, *, classes: int | None = 0) -> nn.Module:
    network: nn.Module = torchvision.get_model(name, weights=None, num_classes=classes or 1000)
    return network


def _cifar(depth: int, usual: int, *, classes: int | None = 0) -> nn.Module:
    return CifarResNet(depth, classes or usual)
