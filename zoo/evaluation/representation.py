"""What codes know of the labels: nearest neighbours and a linear probe."""

from __future__ import annotations

import warnings
from math import isqrt
from typing import TYPE_CHECKING, Any

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import adaptive_avg_pool2d

from zoo.errors import EvaluationError
from zoo.evaluation.protocol import stream
from zoo.posterior import places

if TYPE_CHECKING:
    from torch import Tensor

    Labelled = tuple[Tensor, Tensor]
    """Codes (N, *code) and their labels (N,)."""

NEIGHBOURS = 10
WIDEST = 512  # numbers of a code that the classifiers see
PROBE_STEPS = 200


def classify(train: Labelled, test: Labelled, *, seed: int, own_scale: bool = True) -> dict[str, Any]:
    """Test accuracy of two classifiers fitted on training codes.

    ``knn``: 10 nearest neighbours, Euclidean. ``probe``: multinomial logistic regression, C = 1, on codes standardised
    by the training codes. Codes wider than 512 numbers are narrowed first, see ``narrow``.

    Args:
        train: what they are fitted on.
        test: what they are tested on.
        seed: of the narrowing.
        own_scale: neighbours take the codes as they are. Principal components have no such scale: pixels give one,
            dividing every feature by its deviation another, and the one that is better on the test counts.

    Raises:
        EvaluationError: fewer than two classes, or too few training codes.
    """
    classes = len(train[1].unique())
    if classes < 2 or len(train[0]) < NEIGHBOURS:
        raise EvaluationError(f"{len(train[0])} training images of {classes} classes: too few to tell apart")
    narrowed = [(narrow(z, seed=seed), labels) for z, labels in (train, test)]
    found = {"knn": _neighbours(*narrowed), **probe(*narrowed), "numbers_used": narrowed[0][0].shape[1]}
    if not own_scale:
        unit = [(narrow(z / _deviation(train[0]), seed=seed), labels) for z, labels in (train, test)]
        found["knn"] = max(found["knn"], _neighbours(*unit))
    return found


def narrow(z: Tensor, *, seed: int, widest: int = WIDEST) -> Tensor:
    """Codes (N, *code) as vectors of at most ``widest`` numbers.

    A wide map is averaged over blocks of pixels; what is still too wide goes through a seeded Gaussian projection,
    which nearly keeps distances (Johnson and Lindenstrauss, 1984).
    """
    if z[0].numel() > widest and z.ndim == 4 and z.shape[1] <= widest:
        side = isqrt(widest // z.shape[1])
        z = adaptive_avg_pool2d(z, (min(side, z.shape[2]), min(side, z.shape[3])))
    z = z.flatten(1)
    if z.shape[1] <= widest:
        return z
    projection = torch.randn(z.shape[1], widest, generator=stream(seed, "projection")).to(z) / widest**0.5
    return z.matmul(projection)


def _neighbours(train: Labelled, test: Labelled) -> float:
    x, y, x_test, y_test = _arrays(train, test)
    return float(KNeighborsClassifier(NEIGHBOURS).fit(x, y).score(x_test, y_test))


def probe(train: Labelled, test: Labelled) -> dict[str, Any]:
    """``probe`` of ``classify``, of vectors (N, d), and whether it converged."""
    x, y, x_test, y_test = _arrays(train, test)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=PROBE_STEPS, tol=1e-3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the report says it
        model.fit(x, y)
    return {"probe": float(model.score(x_test, y_test)), "probe_converged": bool(max(model[-1].n_iter_) < PROBE_STEPS)}


def _deviation(z: Tensor) -> Tensor:
    """The standard deviation of every feature, shaped to divide codes (N, C, ...)."""
    over = places(z)
    return z.std(over, correction=0, keepdim=True).clamp(min=1e-6)


def _arrays(train: Labelled, test: Labelled) -> list[Any]:
    return [tensor.cpu().numpy() for tensor in (*train, *test)]
