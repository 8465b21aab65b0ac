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

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data import Images
    from zoo.evaluation.features import Network
    from zoo.stack import Stack

AT_ONCE = 256  # images that are reconstructed and judged
SUBSETS, SUBSET = 100, 1000  # of KID: how many, and of how many images at most


def judge_samples(stack: Stack, real: Images, *, samples: int, features: str, seed: int) -> dict[str, Any]:
    """FID and unbiased KID of samples of the stack against real images, by the features of a network.

    Args:
        stack: one that can sample.
        real: what samples should look like.
        samples: how many are drawn, at least 2.
        features: the network, see ``zoo.evaluation.features.network``.
        seed: of the samples and of KID's subsets.

    Raises:
        EvaluationError: the stack cannot sample, or there is no such network.
    """
    if samples < 2 or len(real) < 2:
        raise EvaluationError(f"{samples} samples against {len(real)} real images: FID and KID take two of each")
    drawn = stack.sample(samples, seed=seed)
    eye = network(features, device=stack.device)
    return {"samples": len(drawn), **_distances(real, eye.features(drawn), eye, seed=seed)}


def judge_reconstructions(stack: Stack, real: Images, *, features: str, seed: int) -> dict[str, Any]:
    """FID, often called rFID, and unbiased KID of the reconstructions of images against these images.

    Args:
        stack: in eval mode.
        real: at least 2 images.
        features: the network, see ``zoo.evaluation.features.network``.
        seed: of KID's subsets.

    Raises:
        EvaluationError: there is no such network.
    """
    if len(real) < 2:
        raise EvaluationError("reconstructions of 1 image: FID and KID take at least two")
    eye = network(features, device=stack.device)
    parts = batches(len(real), AT_ONCE)
    fake = torch.cat([eye.features(stack(real.batch(part).to(stack.device)).cpu()) for part in parts])
    return _distances(real, fake, eye, seed=seed)


def _distances(real: Images, fake: Tensor, eye: Network, *, seed: int) -> dict[str, Any]:
    a = features_of(real, eye)
    return {
        "features": eye.describe(),
        "width": a.shape[1],
        "real": len(a),
        "fid": frechet(a, fake),
        "fid_is_rank_deficient": min(len(a), len(fake)) <= a.shape[1],
        **kernel(a, fake, seed=seed),
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

    The mean and the deviation over 100 subsets of 1,000 features, or as many as there are.
    """
    size = min(SUBSET, len(real), len(fake))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all extracted features")
        metric = KernelInceptionDistance(_Features(real.shape[1]), subsets=SUBSETS, subset_size=size)
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    with seeded(seed):  # it draws its subsets from the global state
        mean, deviation = metric.compute()
    return {"kid": float(mean), "kid_std": float(deviation), "kid_subsets": SUBSETS, "kid_subset_size": size}


class _Features(nn.Module):
    """Stands where torchmetrics wants a network: the features are there already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features
