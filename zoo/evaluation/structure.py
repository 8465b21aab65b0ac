"""How vectors lie: whether clusters are classes, whether classes stand apart, and whether neighbours are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from sklearn.cluster import KMeans
from sklearn.manifold import trustworthiness
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

from zoo.errors import EvaluationError
from zoo.evaluation.protocol import stream

if TYPE_CHECKING:
    from torch import Tensor

SAMPLED = 2000  # vectors for what looks at every pair of them
STARTS = 4  # of k-means, the best of which counts
NEAR = 5  # neighbours that trust is about


def clusters(z: Tensor, labels: Tensor, *, seed: int) -> dict[str, float]:
    """Agreement of k-means, with as many clusters as classes, with the labels.

    Args:
        z: (N, d).
        labels: (N,).
        seed: of where the clusters start.

    Returns:
        ``nmi``, normalised mutual information (Strehl and Ghosh, 2002), 0 to 1; ``ari``, the adjusted Rand index
        (Hubert and Arabie, 1985), 0 on average for clusters that know nothing of the classes.
    """
    truth = labels.numpy()
    guess = KMeans(len(labels.unique()), n_init=STARTS, random_state=seed % 2**32).fit_predict(z.numpy())
    return {
        "nmi": float(normalized_mutual_info_score(truth, guess)),
        "ari": float(adjusted_rand_score(truth, guess)),
    }


def silhouette(z: Tensor, labels: Tensor, *, seed: int) -> float:
    """How much nearer vectors are to their own class than to the next, -1 to 1: Rousseeuw (1987), on 2,000 at most.

    Raises:
        EvaluationError: fewer than two classes, or no two vectors of any.
    """
    index = sampled(len(z), seed=seed)
    classes = len(labels[index].unique())
    if not 1 < classes < len(index):
        raise EvaluationError(f"{len(index)} vectors of {classes} classes have no silhouette")
    return float(silhouette_score(z[index].numpy(), labels[index].numpy()))


def trust(x: Tensor, z: Tensor, *, seed: int) -> float:
    """Whether the 5 nearest in z are near in x as well, 0 to 1: Venna and Kaski (2001), on 2,000 at most.

    Args:
        x: what the vectors are of, (N, D).
        z: the vectors, (N, d).
        seed: of those that are looked at, the same for every z.

    Raises:
        EvaluationError: too few vectors to speak of neighbours.
    """
    index = sampled(len(z), seed=seed)
    if len(index) <= 2 * NEAR:
        raise EvaluationError(f"{len(index)} vectors are too few to speak of their {NEAR} nearest")
    return float(trustworthiness(x[index].numpy(), z[index].numpy(), n_neighbors=NEAR))


def sampled(count: int, *, seed: int) -> Tensor:
    """The places of 2,000 of so many vectors, or of all, ascending."""
    return torch.randperm(count, generator=stream(seed, "sampled vectors"))[:SAMPLED].sort().values
