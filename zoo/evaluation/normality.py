"""How unusual images are: what comes back of them, and how far their codes lie from those of normal images.

An image can be unusual in two ways, and each misses what the other sees: it does not come back, because the stack has
no code for what it shows; or it comes back well enough, from a code where normal images have none. So both are
measured, in units of how they spread over normal images, and the larger counts.

The distance is the mean one to the nearest codes of normal images (Angiulli and Pizzuti, 2002, "Fast outlier detection
in high dimensional spaces"), which asks for no form of the cloud. The unit is the median absolute deviation, times
1.4826 to be that of a normal distribution (Hampel, 1974), of the logarithms: a few unusual images among the normal ones
do not move it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch
from sklearn.neighbors import NearestNeighbors
from tqdm import tqdm

from zoo.errors import EvaluationError
from zoo.evaluation import protocol
from zoo.evaluation.reconstruction import batches, compare
from zoo.evaluation.search import AT_ONCE, coded

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.codes import Codes
    from zoo.data import Images
    from zoo.stack import Stack

NEIGHBOURS = 10
BATCH = 256
OUTSIDE = -1  # the place of a code that is none of the cloud's
TINY = 1e-10  # what errors and distances of nothing count as


@dataclass(frozen=True)
class Anomalies:
    """How unusual each image is, (N,) each.

    Args:
        score: the larger of the two numbers below, in deviations of the normal images from their median: about 0 for
            one like most of them.
        error: mean squared error of what comes back.
        distance: the mean distance of its code to the nearest codes of normal images.
        share: of the normal images, how many have a lower score: above 0.99 is rarer than one in a hundred.
    """

    score: Tensor
    error: Tensor
    distance: Tensor
    share: Tensor


def anomalies(
    stack: Stack, shown: Images, normal: Images | None = None, *, seed: int = 0, progress: bool = False
) -> Anomalies:
    """Measure how unusual images are.

    Args:
        stack: in eval mode.
        shown: the images.
        normal: what is usual; the images themselves where None, most of which are then taken to be normal. Of more
            than 10,000 as many are drawn.
        seed: of these.
        progress: show bars.

    Raises:
        EvaluationError: the stack has no level, there are too few normal images, or what comes back is not finite.
    """
    chosen = _chosen(shown if normal is None else normal, prod(stack.code_shape), seed)
    with protocol.measuring(stack):
        z = coded(stack, shown, progress=progress)
        error = _errors(stack, shown, z, progress=progress)
        if normal is None:
            own, own_error = z.subset(chosen), error[chosen]
        else:
            few = normal.subset(chosen)
            own = coded(stack, few, progress=progress)
            own_error = _errors(stack, few, own, progress=progress)
    cloud = _Cloud(own)
    places = _same(shown, shown if normal is None else normal, chosen)
    distance = cloud.distances(z, places, progress=progress)
    own_distance = cloud.distances(own, torch.arange(len(own)), progress=progress)
    usual = torch.maximum(_deviations(own_error, own_error), _deviations(own_distance, own_distance))
    score = torch.maximum(_deviations(error, own_error), _deviations(distance, own_distance))
    share = torch.searchsorted(usual.sort().values, score) / len(usual)
    return Anomalies(score, error, distance, share)


def _chosen(usual: Images, numbers: int, seed: int) -> Tensor:
    """The places of the normal images that are looked at, ascending: those of a draw that bounds time and memory."""
    limit = min(protocol.FITTED_ON, protocol.NUMBERS // numbers)
    chosen = torch.randperm(len(usual), generator=protocol.stream(seed, "normal images"))[:limit].sort().values
    if len(chosen) <= NEIGHBOURS:
        raise EvaluationError(f"{usual.name}: {len(chosen)} images do not say what is normal: {NEIGHBOURS + 1} might")
    return chosen


def _same(shown: Images, usual: Images, chosen: Tensor) -> Tensor:
    """For each image where it is among those chosen of the usual ones, which may hold it too, (N,) or OUTSIDE."""
    if shown is usual:  # where two are equal, each is the other's neighbour
        places = torch.full((len(shown),), OUTSIDE)
        places[chosen] = torch.arange(len(chosen))
        return places
    held = {digest.numpy().tobytes(): place for place, digest in enumerate(usual.digests[chosen])}
    return torch.tensor([held.get(digest.numpy().tobytes(), OUTSIDE) for digest in shown.digests])


class _Cloud:
    """The codes of normal images."""

    def __init__(self, codes: Codes) -> None:
        z = codes.batch(torch.arange(len(codes))).flatten(1)
        self.search = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, algorithm="brute").fit(z.numpy())

    def distances(self, codes: Codes, places: Tensor, *, progress: bool) -> Tensor:
        """The mean distance of each code to its nearest here, but not to the one at its own place, (N,) or OUTSIDE."""
        found = []
        with tqdm(total=len(codes), desc="neighbours", unit="img", disable=not progress) as bar:
            for part in batches(len(codes), AT_ONCE):
                index = torch.arange(part.start, part.stop)
                z = codes.batch(index).flatten(1).numpy()
                distances, where = map(torch.from_numpy, self.search.kneighbors(z))
                out = where == places[part, None]
                out[~out.any(1), -1] = True  # then the farthest is one too many
                found.append(distances[~out].reshape(len(index), NEIGHBOURS).mean(1))
                bar.update(len(index))
        return torch.cat(found)


def _errors(stack: Stack, shown: Images, z: Codes, *, progress: bool) -> Tensor:
    """The mean squared error of every image, (N,)."""
    found = []
    with tqdm(total=len(shown), desc="decode", unit="img", disable=not progress) as bar:
        for part in batches(len(shown), BATCH):
            places = torch.arange(part.start, part.stop)
            x_hat = stack.to_pixels(z.batch(places).to(stack.device))
            found.append(compare(shown.batch(part), x_hat, ssim=False)["mse"])
            bar.update(len(places))
    return torch.cat(found)


def _deviations(value: Tensor, usual: Tensor) -> Tensor:
    """How many robust deviations the logarithm of each value lies above the median of the usual ones."""
    value, usual = (numbers.double().clamp(min=TINY).log() for numbers in (value, usual))
    middle = usual.median()
    deviation = 1.4826 * (usual - middle).abs().median()
    return (value - middle) / (deviation if deviation > 0 else 1.0)
