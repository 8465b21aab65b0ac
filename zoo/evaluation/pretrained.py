"""A network that has learned before, without its own classifier: what a classifier of one's own may begin as."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import interpolate

from zoo import files
from zoo.errors import EvaluationError, NetworkError
from zoo.networks import architectures
from zoo.seeding import forked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

COLOUR = 3
STEM_STRIDES = (1, 2)


class Body(nn.Module):
    """Images (B, 1 or 3, H, W) in [0, 1], of whatever size unless the network takes one alone, to features (B, F).

    Args:
        about: what it began as, see ``Origin.about``.
        network: it, without its classifier.

    Raises:
        EvaluationError: it has no convolution whose stride could be chosen.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, about: Mapping[str, Any], network: nn.Module) -> None:
        super().__init__()
        name, stride = about["network"], about["stem_stride"]
        known = architectures.find(name)
        self.about, self.network = dict(about), network
        self.size = known.size if known.fixed else None
        for scale in ("mean", "std"):
            self.register_buffer(scale, torch.tensor(about[scale]).reshape(1, COLOUR, 1, 1))
        if stride is not None:
            first = next((part for part in network.modules() if isinstance(part, nn.Conv2d)), None)
            if first is None or known.fixed or not {stride, *first.stride} <= {*STEM_STRIDES}:
                raise EvaluationError(
                    f"stem_stride={stride}: {name} has no first convolution of stride "
                    f"{' or '.join(map(str, STEM_STRIDES))} that could have this one"
                )
            first.stride = (stride, stride)

    def forward(self, x: Tensor) -> Tensor:
        if self.size is not None and x.shape[-2:] != self.size:
            x = interpolate(x, self.size, mode="bicubic", antialias=True).clamp(0, 1)
        found: Tensor | tuple[Tensor, ...] = self.network((x - self.mean) / self.std)  # grey: three channels alike
        return (found[0] if isinstance(found, tuple) else found).flatten(1)  # some say more while they learn


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a classifier begins as: a network with pretrained weights.

    Args:
        network: of timm, as ``resnet18.a1_in1k``, of torchvision, or ``resnet20_cifar10`` and its kin.
        weights: a safetensors file with them; timm's own, which it downloads, where None.
        mean, std: of the images that it was trained on, for all channels or for each; as is known of it where None.
        stem_stride: of its first convolution, where it is to be another than its own: 1 for small images.
    """

    network: str
    weights: str | None = None
    mean: float | tuple[float, ...] | None = None
    std: float | tuple[float, ...] | None = None
    stem_stride: int | None = None

    def about(self) -> dict[str, Any]:
        """All that decides about it, JSON-ready; ``weights`` are the sha256 of their file, where it is there.

        Raises:
            EvaluationError: no such network, or a scale that is none.
        """
        try:
            known = architectures.find(self.network)
        except NetworkError as error:
            raise EvaluationError(str(error)) from error
        file = None if self.weights is None else Path(self.weights)
        return {
            "network": self.network,
            "weights": files.sha256(file) if file is not None and file.is_file() else None,
            "mean": _scale("mean", known.mean if self.mean is None else self.mean),
            "std": _scale("std", known.std if self.std is None else self.std),
            "stem_stride": self.stem_stride,
        }

    def differs(self, about: Mapping[str, Any]) -> str:
        """What was asked for and is otherwise in something that began as ``about``; nothing where all is the same."""
        asked = self.about()
        return ", ".join(
            f"{name}={about[name]} and not {value}"
            for name, value in asked.items()
            if getattr(self, name) is not None and value is not None and value != about[name]
        )

    def body(self) -> Body:
        """The network.

        Raises:
            EvaluationError: there is none, or its weights cannot be had, or do not fit.
            FileError: the file cannot be read.
        """
        about = self.about()
        known = architectures.find(self.network)
        if self.weights is None and known.fetch is None:
            raise EvaluationError(
                f"{self.network} has no pretrained weights as safetensors: name a file, weights=FILE.safetensors"
            )
        try:
            with forked():  # a network draws weights before it gets its own
                made = (
                    known.pretrained(classes=0) if self.weights is None
                    else architectures.restored(known, Path(self.weights), logits=False)
                )  # fmt: skip
        except NetworkError as error:
            raise EvaluationError(str(error)) from error
        return Body(about, made)


def unfilled(about: Mapping[str, Any]) -> Body:
    """One that began so, with random weights.

    Raises:
        NetworkError, EvaluationError: there is no such network.
    """
    with forked():
        return Body(about, architectures.find(about["network"]).headless())


def _scale(option: str, value: float | tuple[float, ...]) -> list[float]:
    """A number for every channel."""
    values = value if isinstance(value, tuple) else (value,)
    if len(values) not in (1, COLOUR) or (option == "std" and min(values) <= 0):
        raise EvaluationError(f"{option}={value}: a number, or one for each of three channels, and a std is above 0")
    return [float(number) for number in values] * (COLOUR // len(values))
