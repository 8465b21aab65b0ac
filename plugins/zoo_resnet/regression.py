"""Where the linear maps start: the code that says most of the pixels among all that are linear in the features.

Reduced-rank regression: Izenman (1975), Journal of Multivariate Analysis 5(2); Reinsel and Velu (1998), theorem 2.2.
"""

from __future__ import annotations

from functools import partial
from math import ceil
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad, pixel_unshuffle

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from zoo_resnet.halves import BackboneEncoder, PatchDecoder, PatchEncoder

IMAGES = 512, 4096
"""That are looked at, at least and at most."""
ROWS = 20
"""Places of maps for each feature that is to be weighed."""
AT_ONCE = 64
RIDGE = 1e-4
"""Of the features' mean variance, added to each: those that hardly vary explain nothing."""
LEAST = 1e-3
"""A direction of the code deviates by this part of the first one's deviation at the least."""


@torch.no_grad()
def fit_features(encoder: BackboneEncoder, decoder: PatchDecoder, x: Tensor, target: Tensor) -> None:
    """Set projection and linear map to the best there are for a sample, the code's features at unit variance.

    Args:
        encoder: its backbone stays as it is, but for the running statistics of one in training mode.
        decoder: the linear map to patches.
        x: what the encoder takes, (N, C, H, W).
        target: what the decoder should give for it, (N, C, H, W).
    """
    _fit(encoder.project, decoder, *_sampled(x, target, decoder.side, encoder.project.in_channels), encoder.features)


@torch.no_grad()
def fit_pixels(encoder: PatchEncoder, decoder: PatchDecoder, x: Tensor, target: Tensor) -> None:
    """Set the two linear maps to the principal components of the patches of a sample."""
    inputs, see = encoder.linear.weight[0].numel(), partial(pixel_unshuffle, downscale_factor=decoder.side)
    _fit(encoder.linear, decoder, *_sampled(x, target, decoder.side, inputs), see)


def _sampled(x: Tensor, target: Tensor, side: int, features: int) -> tuple[Tensor, Tensor]:
    places = x[0, 0].numel() // side**2
    count = min(IMAGES[1], max(IMAGES[0], ROWS * features // places))
    return x[:count], target[:count]


def _fit(project: nn.Conv2d, decoder: PatchDecoder, x: Tensor, target: Tensor, see: Callable[[Tensor], Tensor]) -> None:
    """Set ``project``, which reads at each place what ``see`` gives there, and the map back."""
    features = torch.cat([_rows(see(some)) for some in x.tensor_split(ceil(len(x) / AT_ONCE))])  # none of one image
    patches = _rows(pixel_unshuffle(target, decoder.side))
    origin, analysis, mean, synthesis = reduced_rank(features, patches, project.out_channels)
    project.weight.copy_(analysis.reshape(project.weight.shape))
    project.bias.copy_(-analysis @ origin)  # type: ignore[union-attr]
    decoder.linear.weight.copy_(synthesis[:, :, None, None])
    decoder.linear.bias.copy_(mean)  # type: ignore[union-attr]


def reduced_rank(features: Tensor, patches: Tensor, code: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The features' mean (C,), the map from them to the code (code, C), the patches' mean (D,), the map back (D, code).

    Args:
        features: (N, C).
        patches: (N, D), what they should explain.
        code: numbers in between. Those beyond what there is to explain are zero both ways.
    """
    origin, mean = features.mean(0), patches.mean(0)
    f, p = (features - origin).cpu().double(), (patches - mean).cpu().double()  # not every GPU has float64
    variance = f.T @ f / len(f)
    ridge = RIDGE * variance.diagonal().mean().clamp_min(1e-12)
    best = torch.linalg.solve(variance + ridge * torch.eye(len(variance), device="cpu").to(f), f.T @ p / len(f))
    explained, basis = torch.linalg.eigh(best.T @ variance @ best)
    rank = min(code, *best.shape)
    explained, basis = explained.flip(0)[:rank], basis.flip(1)[:, :rank]
    deviation = explained.clamp_min(0).sqrt()
    deviation = deviation.clamp_min(max(LEAST * deviation[0].item(), 1e-6))
    analysis, synthesis = (best @ basis / deviation).T, basis * deviation
    missing = (0, 0, 0, code - rank)
    return origin, pad(analysis, missing).to(features), mean, pad(synthesis.T, missing).T.to(features)


def _rows(maps: Tensor) -> Tensor:
    """(B, C, h, w) to (B h w, C)."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)
