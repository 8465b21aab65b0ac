"""What neighbours know of the labels, by the protocol of the Fashion-MNIST VAE (docs/codes.md).

Cross-validated on training codes, for several numbers of codes a class and of neighbours; then once on test codes,
among several draws of training codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from zoo.errors import EvaluationError
from zoo.evaluation.protocol import stream

if TYPE_CHECKING:
    from torch import Tensor

    Array = np.ndarray[Any, np.dtype[Any]]
    Accuracies = dict[int, dict[int, float]]
    """By codes a class, and by neighbours."""

SIZES = (50, 100, 500, 1000, 3000)  # codes a class, as far as there are so many
COUNTS = (1, 5, 10, 25, 50)  # neighbours
FOLDS = 5
TESTED = 500  # codes a class that the test codes are compared with
DRAWS = 10  # of these codes: one draw alone is a matter of luck, by three thousandths on Fashion-MNIST


def cross_validated(z: Tensor, labels: Tensor, *, seed: int) -> Accuracies:
    """Accuracies of neighbours that vote by 1 / distance, the mean of five stratified folds.

    Args:
        z: codes (N, d).
        labels: (N,).
        seed: of the codes that are drawn from every class, and of the folds.

    Raises:
        EvaluationError: a single class, or one of fewer than five codes.
    """
    return {size: _folded(*_part(z, labels, size, seed), seed=seed) for size in sizes(labels)}


def tested(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], validated: Accuracies, *, seed: int
) -> dict[str, Any]:
    """Accuracy on test codes of neighbours among 500 training codes a class, all votes being equal: the mean of draws.

    Args:
        train: codes (N, d) and labels (N,).
        test: likewise.
        validated: says the number of neighbours: the best at this many codes a class.
        seed: of the first draw, which is that of ``cross_validated``; the others are of the seeds after it.

    Returns:
        ``accuracy``, ``deviation`` of the draws, ``neighbours``, and ``per_class``, 500 or the next lower size that
        there is.
    """
    size = max((size for size in validated if size <= TESTED), default=min(validated))
    neighbours = max(validated[size], key=validated[size].__getitem__)
    found = [_share(_part(*train, size, seed + draw), test, neighbours) for draw in range(DRAWS)]
    return {
        "accuracy": float(np.mean(found)),
        "deviation": float(np.std(found, ddof=1)),
        "neighbours": neighbours,
        "per_class": size,
    }


def sizes(labels: Tensor) -> list[int]:
    """The numbers of codes a class that are tried; of the rarest class all where there are fewer than 50."""
    counts = labels.unique(return_counts=True)[1]
    rarest = int(counts.min())
    if len(counts) < 2 or rarest < FOLDS:
        raise EvaluationError(f"{len(counts)} classes, the rarest of {rarest}: too few to tell apart")
    return [size for size in SIZES if size <= rarest] or [rarest]


def balanced(labels: Tensor, size: int, *, seed: int) -> Tensor:
    """The places of ``size`` of every class, or all there are, ascending; those of a smaller size are among them."""
    order = torch.randperm(len(labels), generator=stream(seed, "of every class"))
    shuffled = labels[order]
    chosen = [order[(shuffled == label).nonzero().flatten()[:size]] for label in labels.unique()]
    return torch.cat(chosen).sort().values


def _part(z: Tensor, labels: Tensor, size: int, seed: int) -> tuple[Array, Array]:
    index = balanced(labels, size, seed=seed)
    return z[index].numpy(), labels[index].numpy()


def _share(known: tuple[Array, Array], test: tuple[Tensor, Tensor], neighbours: int) -> float:
    model = KNeighborsClassifier(neighbours, algorithm="brute").fit(*known)
    return float(model.score(test[0].numpy(), test[1].numpy()))


def _folded(x: Array, y: Array, *, seed: int) -> dict[int, float]:
    """By neighbours, for one set of codes; each fold is searched once for all of them."""
    right: dict[int, list[float]] = {}
    for kept, held in StratifiedKFold(FOLDS, shuffle=True, random_state=seed % 2**32).split(x, y):
        counts = [count for count in COUNTS if count <= len(kept)]
        search = NearestNeighbors(n_neighbors=counts[-1], algorithm="brute").fit(x[kept])
        distances, places = search.kneighbors(x[held])
        for count in counts:
            guess = voted(y[kept][places[:, :count]], distances[:, :count])
            right.setdefault(count, []).append(float((guess == y[held]).mean()))
    return {count: float(np.mean(shares)) for count, shares in right.items()}


def voted(labels: Array, distances: Array) -> Array:
    """The label with the most weight, 1 / distance, among each row of neighbours, (N, k); the lowest of equal ones.

    Where some neighbours are at no distance, only they vote.
    """
    exact = distances == 0
    weights = np.where(exact.any(1, keepdims=True), exact, 1 / np.where(exact, 1, distances))
    names, numbers = np.unique(labels, return_inverse=True)
    votes = np.zeros((len(labels), len(names)))
    np.add.at(votes, (np.arange(len(labels))[:, None], numbers.reshape(labels.shape)), weights)
    winners: Array = names[votes.argmax(1)]
    return winners
