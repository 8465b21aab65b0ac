"""The linear path of an autoencoder: where it starts is principal component analysis, and it learns from there.

A nonlinear trunk beside it then only has to learn what a linear map cannot do. On 64x64 photographs this starts above
31 dB, where a plain network of the same size stands at 21 dB after a minute (docs/decisions/0002-linear-path.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import nn

from zoo.seeding import seeded
from zoo_conv.upsampling import Shuffle

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.interfaces import Place
    from zoo_conv.blocks import Factor

SLOWER = 0.01
"""The factor on the learning rate of components of images: a sample has them, and all images have a little to add."""

EXACT_UP_TO = 2048
"""Input numbers up to which the covariance is decomposed exactly; beyond, a randomised method finds the top of it."""
MANY_UP_TO = 4096
"""The same where more than an eighth of all components are asked for, of at least as many rows: that is the quicker way
then as well."""


def settled_components(place: Place, encoder: nn.Module) -> dict[str, float]:
    """What starts where it is best, with its factor on the learning rate (docs/decisions/0019-settled.md).

    Nothing without a linear path, or where it is not PCA that is asked for, as under a prior's divergence and behind a
    sigmoid. Components of codes stay: there they are half of all weights, and were found from many codes.
    """
    if place.posterior != "point" or place.output != "linear" or getattr(encoder, "linear", None) is None:
        return {}
    return dict.fromkeys(("encoder.linear", "decoder.linear"), SLOWER if place.pixels else 0.0)


class PatchEncoder(nn.Conv2d):
    """A linear map from every p x q patch to ``code`` numbers, computed in float32 whatever the network's precision."""

    def __init__(self, channels: int, code: int, patch: Factor) -> None:
        super().__init__(channels, code, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, code, H / p, W / q)."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


class PatchDecoder(nn.Module):
    """A linear map from the code's numbers at a pixel to a p x q patch, in the network's own precision or float32."""

    def __init__(self, channels: int, code: int, patch: Factor) -> None:
        super().__init__()
        self.linear = nn.Conv2d(code, channels * patch[0] * patch[1], 1)
        self.shuffle = Shuffle(patch)

    def forward(self, z: Tensor) -> Tensor:
        """(B, code, h, w) to (B, C, h * p, w * q)."""
        with torch.autocast(z.device.type, enabled=False):
            x_hat: Tensor = self.shuffle(self.linear(z.to(self.linear.weight.dtype)))
        return x_hat


@torch.no_grad()
def fit_patches(encoder: PatchEncoder, decoder: PatchDecoder, x: Tensor) -> None:
    """Set the two maps to the principal components of the patches of x, (N, C, H, W), scaled to unit variance."""
    p, q = encoder.stride
    patches = rearrange(x, "n c (h p) (w q) -> (n h w) (c p q)", p=p, q=q)
    mean, analysis, synthesis = principal_components(patches, encoder.out_channels)
    encoder.weight.copy_(rearrange(analysis, "k (c p q) -> k c p q", p=p, q=q))
    encoder.bias.copy_(-analysis @ mean)  # type: ignore[union-attr]
    decoder.linear.weight.copy_(rearrange(synthesis, "d k -> d k 1 1"))
    decoder.linear.bias.copy_(mean)  # type: ignore[union-attr]


@torch.no_grad()
def fit_vectors(encoder: nn.Linear, decoder: nn.Linear, x: Tensor) -> None:
    """Set the two maps to the principal components of the vectors x, (N, D), scaled to unit variance."""
    mean, analysis, synthesis = principal_components(x, encoder.out_features)
    encoder.weight.copy_(analysis)
    encoder.bias.copy_(-analysis @ mean)
    decoder.weight.copy_(synthesis)
    decoder.bias.copy_(mean)


def principal_components(rows: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The mean (D,), the map to ``count`` unit-variance components (count, D), and the map back (D, count).

    Components beyond what the rows span are zero both ways.
    """
    mean = rows.mean(0)
    centred = rows - mean
    rank = min(count, *rows.shape)
    many = 8 * rank > rows.shape[1] <= len(rows)
    if rows.shape[1] <= (MANY_UP_TO if many else EXACT_UP_TO):
        # in float64 on the CPU: not every GPU has it
        variances, basis = torch.linalg.eigh((centred.T @ centred).cpu().double() / len(rows))
        variances, basis = variances.flip(0)[:rank].to(rows), basis.flip(1)[:, :rank].to(rows)
    else:
        with seeded(0, rows.device):  # the method draws random directions; the same rows give the same components
            _, singular, basis = torch.svd_lowrank(centred, q=min(rank + 8, *rows.shape), niter=4)
        variances, basis = singular[:rank].square() / len(rows), basis[:, :rank]
    deviations = variances.clamp_min(0).sqrt()
    # A direction the data hardly has would be blown up to unit variance together with its noise.
    deviations = deviations.clamp_min((deviations[:1] * 1e-3).clamp_min(1e-6).item())
    padding = (0, 0, 0, count - rank)
    return (
        mean,
        nn.functional.pad((basis / deviations).T, padding),
        nn.functional.pad((basis * deviations).T, padding).T,
    )
