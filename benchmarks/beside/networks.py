"""pythae's networks, as they are, and as a stage of the zoo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import zoo
from zoo.interfaces import Place, Stage
from zoo.posterior import Posterior

if TYPE_CHECKING:
    from zoo.stack import Stack

WIDTH = 16
SHAPES = {28: (1, 28, 28), 64: (3, 64, 64)}


def vae(side: int) -> Any:
    """The VAE of pythae with its own convolutional networks for images of this side, from torch's random state."""
    from pythae.models import VAE, VAEConfig

    config = VAEConfig(input_dim=SHAPES[side], latent_dim=WIDTH, reconstruction_loss="mse")
    if side == 28:
        from pythae.models.nn.benchmarks.mnist import Decoder_Conv_AE_MNIST as Decoder
        from pythae.models.nn.benchmarks.mnist import Encoder_Conv_VAE_MNIST as Encoder
    else:
        from pythae.models.nn.benchmarks.celeba import Decoder_Conv_AE_CELEBA as Decoder
        from pythae.models.nn.benchmarks.celeba import Encoder_Conv_VAE_CELEBA as Encoder
    return VAE(config, encoder=Encoder(config), decoder=Decoder(config))


class Wrapped(Stage):
    """The two halves of a VAE of pythae's."""

    def __init__(self, place: Place, model: Any) -> None:
        super().__init__(place, (WIDTH,))
        self.encoder: nn.Module = model.encoder
        self.decoder: nn.Module = model.decoder

    def encode(self, x: Tensor) -> Posterior:
        """Means and log variances."""
        found = self.encoder(x)
        return Posterior(found.embedding, found.log_covariance)

    def decode(self, z: Tensor) -> Tensor:
        """Pixels."""
        pixels: Tensor = self.decoder(z)["reconstruction"]
        return pixels


def stack(side: int, model: Any) -> Stack:
    """A stack of one level that has these networks, and terms that come to pythae's loss."""
    channels = SHAPES[side][0]
    made = zoo.build(f"{side}x{side}x{channels}/fc{WIDTH}(hidden=[8])+mse(0.5)+kl")
    made.level(1).stage = Wrapped(made.level(1).stage.place, model)
    return made


@torch.inference_mode()
def loss(model: Any, images: Tensor) -> float:
    """Half the squared error and the divergence of held-out images, whoever trained; the code is the mean."""
    model.eval()
    total = 0.0
    for x in images.split(100):
        found = model.encoder(x)
        mean, logvar = found.embedding, found.log_covariance
        back = model.decoder(mean)["reconstruction"]
        kl = (mean.square() + logvar.exp() - 1 - logvar).sum() / 2
        total += float((back.reshape(x.shape) - x).square().sum() / 2 + kl)
    return total / len(images)
