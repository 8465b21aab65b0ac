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

if TYPE_CHECKING:
    from torch import Tensor

NEIGHBOURS = 5
WIDEST = 512  # numbers of a code that the classifiers see
PROBE_STEPS = 200


def classify(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, *, seed: int) -> dict[str, Any]:
    """Test accuracy of two classifiers fitted on the training codes, (N, *code).

    ``knn``: 5 nearest neighbours, Euclidean, the codes as they are. ``probe``: multinomial logistic regression, C = 1,
    on codes standardised by the training codes. Codes wider than 512 numbers are narrowed first, see ``narrow``.

    Raises:
        EvaluationError: fewer than two classes, or too few training codes.
    """
    if len(train_labels.unique()) < 2 or len(train) < NEIGHBOURS:
        found = len(train_labels.unique())
        raise EvaluationError(f"{len(train)} training images of {found} classes: too few to tell apart")
    x, x_test = (narrow(z, seed=seed).cpu().numpy() for z in (train, test))
    y, y_test = train_labels.cpu().numpy(), test_labels.cpu().numpy()
    knn = KNeighborsClassifier(NEIGHBOURS).fit(x, y)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=PROBE_STEPS, tol=1e-3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said in the report
        probe.fit(x, y)
    return {
        "knn": float(knn.score(x_test, y_test)),
        "probe": float(probe.score(x_test, y_test)),
        "probe_converged": bool(max(probe[-1].n_iter_) < PROBE_STEPS),
        "numbers_used": x.shape[1],
    }


def narrow(z: Tensor, *, seed: int) -> Tensor:
    """Codes (N, *code) as vectors of at most 512 numbers.

    A wide map is averaged over blocks of pixels; what is still too wide goes through a seeded Gaussian projection,
    which nearly keeps distances (Johnson and Lindenstrauss, 1984).
    """
    if z[0].numel() > WIDEST and z.ndim == 4 and z.shape[1] <= WIDEST:
        side = isqrt(WIDEST // z.shape[1])
        z = adaptive_avg_pool2d(z, (min(side, z.shape[2]), min(side, z.shape[3])))
    z = z.flatten(1)
    if z.shape[1] <= WIDEST:
        return z
    projection = torch.randn(z.shape[1], WIDEST, generator=stream(seed, "projection")).to(z) / WIDEST**0.5
    return z.matmul(projection)
