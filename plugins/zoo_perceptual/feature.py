"""How unlike two images are to a network: the feature loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from zoo.errors import SpecError, TrainingError
from zoo.interfaces import Place, Reconstruction, RoundTrip
from zoo_perceptual.observer import Observer

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.phases import Moment

FLOOR = 1e-5
"""The least variance of an error, as a part of the layer's mean square: about that of rounding images to 8 bits."""
TINY = 1e-12
STEEPEST, GRAM = 10.0, 5000.0
"""In common use, where nothing is calibrated: factors 30, 20, 10, and 5000 on the Gram matrices."""


class FeatureError(Reconstruction):
    """The error of the activations of a network's layers, each of them as likely as a calibrated Gaussian has it.

    With D elements in an image and mse_l the mean squared error of layer l over the whole batch, the number is

        sum over l of  w_l D/2 (log(2 pi v_l) + mse_l/v_l),   v_l = max(mse_l, 1e-5 mean square of the layer)

    where the shares w_l add up to 1, the shallowest layer's being the largest. So all layers together count as much as
    the pixels do in ``gaussian``, however many activations they have and whatever their scale. With
    ``calibrated=false`` it is D times the sum over l of f_l mse_l + gram f_l^2 mse(G_l), a loss in common use beside
    ``mse``. G_l are Gram matrices over the places of a map, divided by the number of the layer's activations.

    Gradients reach x_hat alone. The network is frozen, in eval mode, cut behind the last layer, and saved with the
    stack: ``weights`` and downloads are of the time when a stack is built.

    Args:
        weight: 1 for as much as ``gaussian``.
        network: of timm, as ``vgg16.tv_in1k``, or of torchvision; ``resnet20_cifar10`` and its kin.
        layers: ``early``, ``middle`` or ``late`` half of its levels; or layers one by one: the number of a level, from
            0, ``relu1_2`` in a plain chain such as VGG, or the name of a module.
        factors: of the layers; n, ..., 2, 1 where not given, ten times that where not calibrated.
        gram: Gram matrices count too, so many times as much; ``true`` for 1, and for 5000 where not calibrated.
        calibrated: the variance of every layer's error is the batch's own.
        pretrained: without ``weights``, timm's own are downloaded; random ones where false.
        weights: a safetensors file, read when the stack is built and not saved.
        mean, std: of the images that the network was trained on, of each channel; as is known of it where not given.

    Raises:
        SpecError: no such network, layer or weights, or images that it cannot take.
        TrainingError: x and x_hat differ in shape, or are no images.

    Source: Johnson, Alahi and Fei-Fei (2016), equations 2 and 4; the calibration is that of Rybkin, Daniilidis and
    Levine (2021), arXiv:2006.13202.
    """

    source = (
        "Johnson, J., Alahi, A. and Fei-Fei, L. (2016). Perceptual Losses for Real-Time Style Transfer and "
        "Super-Resolution. ECCV. arXiv:1603.08155"
    )
    positional = "network"
    likelihood = False
    needs_pixels = True

    def __init__(
        self,
        place: Place,
        *,
        network: str = "vgg16",
        weight: float = 1.0,
        layers: str | tuple[str | int, ...] = "early",
        factors: tuple[float, ...] | None = None,
        gram: bool | float = False,
        calibrated: bool = True,
        pretrained: bool = True,
        weights: str | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(place, weight)
        self.observer = Observer(
            place, network, layers, weights=weights, pretrained=pretrained, mean=mean, std=std
        )  # fmt: skip
        self.mean, self.std = self.observer.scale
        count = len(self.observer.layers)
        steepness = 1.0 if calibrated else STEEPEST
        self.factors = factors or tuple(steepness * (count - number) for number in range(count))
        if len(self.factors) != count or min(self.factors) <= 0 or gram < 0:
            raise SpecError(f"factors={list(self.factors)}: one above 0 for each of {', '.join(self.observer.layers)}")
        self.calibrated = calibrated
        self.gram = (1.0 if calibrated else GRAM) if gram is True else float(gram)

    def forward(self, trip: RoundTrip) -> Tensor:
        """The error of all layers, nats per image."""
        wanted, found = seen(self.observer, trip)
        total, elements = trip.x_hat.new_zeros((), dtype=torch.float32), trip.x[0].numel()
        for factor, a, b, first in zip(self.factors, wanted, found, self.observer.channels_first, strict=True):
            share = factor / sum(self.factors) if self.calibrated else factor
            total = total + share * self._error(a, b)
            if self.gram:
                again = self.gram if self.calibrated else self.gram * factor
                total = total + share * again * self._error(_gram(a, first), _gram(b, first), 1 / a[0].numel())
        return elements * total

    def advance(self, moment: Moment) -> None:
        """Let go of what was remembered when a phase is over."""
        if moment.within >= 1:
            self.observer.memory.forget()

    def _error(self, a: Tensor, b: Tensor, scale: float = 1.0) -> Tensor:
        """How far b is from a, both times a scale, as nats per element, or squared."""
        a, b = a.float(), b.float()
        mse = F.mse_loss(b, a) * scale**2
        if not self.calibrated:
            return mse
        variance = mse.clamp(min=FLOOR * scale**2 * a.square().mean() + TINY)
        return ((2 * math.pi * variance).log() + mse / variance) / 2


def seen(observer: Observer, trip: RoundTrip) -> tuple[list[Tensor], list[Tensor]]:
    """The activations of x, without gradients, and of x_hat, as the network gives them."""
    if trip.x.shape != trip.x_hat.shape:
        raise TrainingError(f"x has shape {tuple(trip.x.shape)} and x_hat {tuple(trip.x_hat.shape)}: they are compared")
    return observer.wanted(trip.x.float()), observer(trip.x_hat.float())


def _gram(activations: Tensor, channels_first: bool) -> Tensor:
    """The products of all features over their places, (B, C, C), of maps (B, C, H, W), or (B, H, W, C), or of tokens.

    In the precision of the activations: what rounding does to a product is far below what it did to them.
    """
    flat = (activations if channels_first else activations.movedim(-1, 1)).flatten(2)
    with torch.autocast(flat.device.type, enabled=False):
        return flat @ flat.transpose(1, 2)
