"""Images as vectors without any stack: projected at random, by principal components, and by UMAP."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch

from zoo.errors import EvaluationError
from zoo.evaluation import pca
from zoo.evaluation.protocol import stream

if TYPE_CHECKING:
    from torch import Tensor

UMAP_OPTIONS = {"n_neighbors": 5, "min_dist": 0.1, "init": "random"}
WITHOUT_UMAP = "takes umap-learn, which is not installed: pip install umap-learn"


def projected(x: Tensor, x_test: Tensor, width: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Random directions, which nearly keep distances where there are enough of them: Johnson, Lindenstrauss (1984).

    Args:
        x: training images (N, D).
        x_test: test images (M, D).
        width: of the vectors.
        seed: of the directions.

    Returns:
        Vectors of both, (N, width) and (M, width).
    """
    directions = torch.randn(x.shape[1], width, generator=stream(seed, "directions")) / width**0.5
    return x @ directions, x_test @ directions


def components(x: Tensor, x_test: Tensor, width: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Principal components, fitted on the training images; arguments as for ``projected``.

    Raises:
        EvaluationError: there are not so many.
    """
    model = pca.fit(x, (width,), seed=seed)
    return model.encode(x), model.encode(x_test)


def umap(x: Tensor, x_test: Tensor, width: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """UMAP: McInnes, Healy and Melville (2018), arXiv:1802.03426; arguments as for ``projected``.

    5 neighbours, a least distance of 0.1, from a random start. It is fitted on the training images, into which the test
    images are then put.

    Raises:
        EvaluationError: umap-learn is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed takes one thread, and what its dependencies find outdated
        try:
            import umap as learn
        except ImportError as error:
            raise EvaluationError(WITHOUT_UMAP) from error
        model: Any = learn.UMAP(n_components=width, random_state=seed % 2**32, n_jobs=1, **UMAP_OPTIONS)
        z = model.fit_transform(x.numpy())
        return torch.from_numpy(z).float(), torch.from_numpy(model.transform(x_test.numpy())).float()
