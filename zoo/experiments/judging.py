"""Samples judged by the features of a small classifier that was trained on the real images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.evaluation.features import features_of
from zoo.evaluation.generation import frechet, kernel

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data import Images
    from zoo.evaluation.classifier import Classifier


def kid(judge: Classifier, real: Images, drawn: Tensor) -> dict[str, float]:
    """KID and FID of images (N, C, H, W) against real ones, as columns of a table."""
    network = judge.network("classifier")
    a, b = features_of(real, network), network.features(drawn)
    found = kernel(a, b, seed=0)
    return {"KID": found["kid"], "± KID": found["kid_std"], "FID": frechet(a, b)}
