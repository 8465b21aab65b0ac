"""A network that has learned before, without its own classifier: what a classifier of one's own may begin as."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import interpolate

from zoo.errors import EvaluationError, NetworkError
from zoo.networks import architectures
from zoo.seeding import forked

if TYPE_CHECKING:
    from torch import Tensor

COLOUR = 3


class Body(nn.Module):
    """Images (B, 1 or 3, H, W) in [0, 1], of whatever size unless the network takes one alone, to features (B, F).

    Args:
        name: of the network, see ``zoo.networks.architectures.find``.
        network: it, without its classifier.
        mean, std: subtracted from images, and divided by, for all channels or for each.
        stem_stride: of the first convolution, where it is to be another than its own: 1 for small images.

    Raises:
        EvaluationError: a deviation of 0, a scale of other channels, or no convolution to change.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        network: nn.Module,
        mean: float | tuple[float, ...],
        std: float | tuple[float, ...],
        stem_stride: int | None,
    ) -> None:
        super().__init__()
        known = architectures.find(name)
        self.name, self.network, self.stem_stride = name, network, stem_stride
        self.size = known.size if known.fixed else None
        for option, value in (("mean", mean), ("std", std)):
            values = value if isinstance(value, tuple) else (value,)
            if len(values) not in (1, COLOUR) or (option == "std" and min(values) <= 0):
                raise EvaluationError(f"{option}={value}: a number, or one for each of three channels, a std above 0")
            self.register_buffer(
                option, torch.tensor(values).float().reshape(1, -1, 1, 1).repeat(1, COLOUR // len(values), 1, 1)
            )
        if stem_stride is not None:
            first = next((part for part in network.modules() if isinstance(part, nn.Conv2d)), None)
            if first is None or stem_stride < 1:
                raise EvaluationError(f"stem_stride={stem_stride}: {name} has no first convolution of such a stride")
            first.stride = (stem_stride, stem_stride)

    def forward(self, x: Tensor) -> Tensor:
        if self.size is not None and x.shape[-2:] != self.size:
            x = interpolate(x, self.size, mode="bicubic", antialias=True).clamp(0, 1)
        found: Tensor = self.network((x - self.mean) / self.std)  # of grey images three channels alike
        return found.flatten(1)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a classifier begins as: a network with pretrained weights.

    Args:
        network: of timm, as ``resnet18.a1_in1k``, of torchvision, or ``resnet20_cifar10`` and its kin.
        weights: a safetensors file with them; timm's own, which it downloads, where None.
        mean, std: of the images that it was trained on; as is known of it where None.
        stem_stride: see ``Body``.
    """

    network: str
    weights: str | None = None
    mean: float | tuple[float, ...] | None = None
    std: float | tuple[float, ...] | None = None
    stem_stride: int | None = None

    def body(self) -> Body:
        """The network.

        Raises:
            EvaluationError: there is none, or its weights cannot be had, or do not fit.
            FileError: the file cannot be read.
        """
        try:
            known = architectures.find(self.network)
            with forked():  # a network draws weights before it gets its own
                made = (
                    known.pretrained(classes=0) if self.weights is None
                    else architectures.restored(known, Path(self.weights), logits=False)
                )  # fmt: skip
        except NetworkError as error:
            raise EvaluationError(str(error)) from error
        mean, std = known.mean if self.mean is None else self.mean, known.std if self.std is None else self.std
        return Body(self.network, made, mean, std, self.stem_stride)


def outline(network: str, stem_stride: int | None) -> Body:
    """The same with random weights, to be filled.

    Raises:
        NetworkError: there is no such network.
    """
    return Body(network, architectures.find(network).headless(), 0.0, 1.0, stem_stride)
