"""How unlike two images are to people, as far as a network can tell: LPIPS."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from zoo.errors import SpecError
from zoo.interfaces import Place, Reconstruction, RoundTrip
from zoo_perceptual.feature import seen
from zoo_perceptual.observer import Observer

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.phases import Moment

Net = Literal["vgg", "alex"]
NETWORKS: dict[Net, str] = {"vgg": "vgg16", "alex": "alexnet"}
LAYERS: dict[Net, tuple[str, ...]] = {
    "vgg": ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
    "alex": ("relu1_1", "relu2_1", "relu3_1", "relu3_2", "relu3_3"),
}
WIDTHS: dict[Net, tuple[int, ...]] = {"vgg": (64, 128, 256, 512, 512), "alex": (64, 192, 384, 256, 256)}
TINY = 1e-10  # as in the package


class LPIPS(Reconstruction):
    """D times LPIPS, the distance of two images that was calibrated on what people said of 484 thousand pairs.

    The activations of five layers, or of the first of them, each scaled to length 1 over its channels; their squared
    differences, weighted by channel, averaged over pixels and summed over layers. It is the number of the package
    ``lpips``, version 0.1, which the weights of the channels come from: install it by
    ``pip install lpips``. They are saved with the stack, as the network is, so who loads one needs no package.

    D, the elements of an image, puts the number on the scale of the terms that are in nats per image.

    Args:
        weight: 1 beside ``gaussian``.
        net: ``vgg`` or ``alex``.
        layers: how many of its five layers count, the first ones; the distance was calibrated for all of them. Small
            images, less than 16 pixels a side for ``vgg`` and 31 for ``alex``, are too small for all.
        weights: a safetensors file of the network, ``features.N.weight`` and so on; read when the stack is built and
            not saved. Without it timm's vgg16 is downloaded; there is no alexnet to be downloaded.
        calibrated: without, all channels count alike, and no package is needed.
        pretrained: without ``weights``, a random network where false.

    Raises:
        SpecError: the package is missing, or weights cannot be had, or the images are too small.
        TrainingError: x and x_hat differ in shape, or are no images.

    Source: Zhang, Isola, Efros, Shechtman and Wang (2018), equation 1.
    """

    source = (
        "Zhang, R., Isola, P., Efros, A. A., Shechtman, E. and Wang, O. (2018). The Unreasonable Effectiveness of Deep "
        "Features as a Perceptual Metric. CVPR. arXiv:1801.03924"
    )
    positional = "weight"
    likelihood = False
    needs_pixels = True

    def __init__(
        self,
        place: Place,
        *,
        weight: float = 1.0,
        net: Net = "vgg",
        layers: int = 5,
        weights: str | None = None,
        calibrated: bool = True,
        pretrained: bool = True,
    ) -> None:
        super().__init__(place, weight)
        if not 1 <= layers <= len(LAYERS[net]):
            raise SpecError(f"lpips(layers={layers}): the first 1 to {len(LAYERS[net])}")
        shown = LAYERS[net][:layers]
        self.observer = Observer(place, NETWORKS[net], shown, weights=weights, pretrained=pretrained)
        self.channels = nn.ParameterList(nn.Parameter(torch.ones(1, width, 1, 1)) for width in WIDTHS[net][:layers])
        self.channels.requires_grad_(False)
        if calibrated and not self.channels[0].is_meta:  # as while a saved stack is loaded, which brings its own
            for own, given in zip(self.channels, _calibrated(net), strict=False):
                own.copy_(given)

    def forward(self, trip: RoundTrip) -> Tensor:
        """D times the distance, averaged over the batch."""
        total = trip.x_hat.new_zeros((), dtype=torch.float32)
        for a, b, channels in zip(*seen(self.observer, trip), self.channels, strict=True):
            total = total + (channels * (_unit(a.float()) - _unit(b.float())).square()).sum(1).mean()
        return trip.x[0].numel() * total

    def advance(self, moment: Moment) -> None:
        """Let go of what was remembered when a phase is over."""
        if moment.within >= 1:
            self.observer.memory.forget()


def _unit(activations: Tensor) -> Tensor:
    """Activations (B, C, H, W) of length 1 at every pixel."""
    return activations / (activations.square().sum(1, keepdim=True) + TINY).sqrt()


def _calibrated(net: Net) -> list[Tensor]:
    """The weights of the channels, layer by layer, from the package."""
    try:
        from lpips import LPIPS as Package  # noqa: N811
    except ImportError as error:
        raise SpecError(
            "lpips takes the package of that name: pip install lpips; calibrated=false does without"
        ) from error
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks torchvision in words of yesterday
        whole: Any = Package(net=net, pnet_rand=True, verbose=False)
    return [layer.model[-1].weight.detach() for layer in whole.lins]
