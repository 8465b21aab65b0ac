"""How far samples and reconstructions are from real images, by the features of a network: FID and KID."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from zoo.errors import EvaluationError
from zoo.evaluation.features import features_of, network
from zoo.evaluation.reconstruction import batches
from zoo.seeding import seeded
from zoo.stack import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from zoo.data import Images
    from zoo.evaluation.features import Network
    from zoo.stack import Stack

SUBSETS, SUBSET = 100, 1000  # of KID: how many, and of how many images at most


@torch.inference_mode()
def judge(
    stack: Stack, real: Images, *, samples: int, features: str, seed: int, batch_size: int = AT_ONCE
) -> dict[str, Any]:
    """FID and unbiased KID against real images, by the features of a network.

    Args:
        stack: in eval mode; one that can sample, where samples are asked for.
        real: what samples should look like, and what reconstructions are of; at least 2.
        samples: how many are drawn, at least 2; 0 for none.
        features: the network, see ``zoo.evaluation.features.network``.
        seed: of the samples and of KID's subsets.
        batch_size: images that are decoded at once.

    Returns:
        ``generation``, of samples, and ``reconstruction_distance``, of reconstructions, whose FID is often called rFID;
        None where nothing is drawn, or where there is no level.

    Raises:
        EvaluationError: the stack cannot sample, there is no such network, or there are too few images.
    """
    if (samples and samples < 2) or len(real) < 2:
        raise EvaluationError(f"{samples} samples, {len(real)} real images: FID and KID take at least two of each")
    draw = stack.sampler(generator=torch.Generator().manual_seed(seed)) if samples else None
    eye = network(features, device=stack.device)
    wanted = features_of(real, eye)
    told = {"features": eye.describe(), "width": wanted.shape[1], "real": len(wanted)}
    found: dict[str, Any] = {"generation": None, "reconstruction_distance": None}
    if draw is not None:
        drawn = _drawn(stack, draw, eye, samples, batch_size)
        found["generation"] = {**told, "samples": len(drawn), **_distances(wanted, drawn, seed)}
    if len(stack.levels):
        parts = batches(len(real), batch_size)
        back = torch.cat([eye.features(stack(real.batch(part).to(stack.device)).cpu()) for part in parts])
        found["reconstruction_distance"] = {**told, **_distances(wanted, back, seed)}
    return found


def _drawn(stack: Stack, draw: Callable[[int], Tensor], eye: Network, count: int, batch_size: int) -> Tensor:
    """The features of samples, those of ``stack.sample``, of which a batch at a time is decoded and looked at."""
    drawn = (draw(part.stop - part.start) for part in batches(count, AT_ONCE))  # as there: else they would be others
    codes = (z.to(stack.device) for many in drawn for z in many.split(batch_size))
    return torch.cat([eye.features(stack.decode(z)) for z in codes])


def _distances(real: Tensor, fake: Tensor, seed: int) -> dict[str, Any]:
    return {
        "fid": frechet(real, fake),
        "fid_is_rank_deficient": min(len(real), len(fake)) <= real.shape[1],
        **kernel(real, fake, seed=seed),
    }


def frechet(real: Tensor, fake: Tensor) -> float:
    """The Fréchet distance of two sets of features, (N, F): Heusel et al. (2017), arXiv:1706.08500.

    It is biased upwards, the more so the fewer features there are: compare only at equal counts.
    """
    metric = FrechetInceptionDistance(_Features(real.shape[1]))
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    return float(metric.compute())


def kernel(real: Tensor, fake: Tensor, *, seed: int) -> dict[str, Any]:
    """The unbiased squared MMD of two sets of features under a cubic kernel: Bińkowski et al. (2018), arXiv:1801.01401.

    The mean and the deviation over 100 subsets of 1,000 features, or as many as there are; no deviation where all of
    both sets is the only subset.
    """
    size = min(SUBSET, len(real), len(fake))
    subsets = 1 if size == len(real) == len(fake) else SUBSETS
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all extracted features")
        metric = KernelInceptionDistance(_Features(real.shape[1]), subsets=subsets, subset_size=size)
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    with seeded(seed):  # it draws its subsets from the global state
        mean, deviation = metric.compute()
    spread = None if subsets == 1 else float(deviation)
    return {"kid": float(mean), "kid_std": spread, "kid_subsets": subsets, "kid_subset_size": size}


class _Features(nn.Module):
    """Stands where torchmetrics wants a network: the features are there already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features
