"""Several Gaussians for the codes, found by scikit-learn and sampled without it."""

from __future__ import annotations

import logging
import math
import warnings
from typing import TYPE_CHECKING, Literal

import torch

from zoo.errors import SpecError, TrainingError
from zoo.interfaces import Head, HeadBatch, Place
from zoo_heads.labels import check_label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Covariance = Literal["full", "diagonal"]

LARGEST = 2**26  # numbers of all covariances: 256 MiB in the saved file
LARGEST_FULL = 64  # numbers per code up to which every component has a covariance of its own
FITTED = 2**24  # numbers of codes that are fitted to, at most
CODES_PER_COMPONENT = 20  # at least, and as many as a code has numbers where covariances are full
FLOOR = 1e-3  # added to the variances of components, of codes of unit scale: no component shrinks to a point
GAIN = 1e-2  # nats per code: what a round has to gain for another one
ROUNDS = 200
NONE = -1  # owns the components of a mixture for all labels

_log = logging.getLogger("zoo.heads")


class Mixture(Head):
    """A mixture of Gaussians over the codes below, fitted once in ``prepare``; it has no parameters.

    Expectation maximisation from clusters found by k-means, both scikit-learn's. Before ``prepare`` it is N(0, I).

    Args:
        place: where it stands.
        components: how many; fewer are used where there are few codes for each.
        covariance: of a component: ``full``, or ``diagonal``, which takes less room and fewer codes. Full for codes of
            up to 64 numbers unless given.
        classes: a mixture for each label; they share the components in proportion to how often their labels occur.

    Raises:
        SpecError: no component, more than 2^26 numbers in all, or a shape behind the name.
        TrainingError: ``prepare`` got fewer than two codes or some that are not finite, or no labels, or more of them
            than components, where it learns by class.

    Source: Dempster, Laird and Rubin (1977); on the codes of an autoencoder Ghosh et al. (2020).
    """

    source = (
        "Dempster, A. P., Laird, N. M. and Rubin, D. B. (1977). Maximum Likelihood from Incomplete Data via the EM "
        "Algorithm. JRSS B 39(1). On codes: Ghosh et al. (2020), arXiv:1903.12436"
    )
    positional = "components"

    weights: Tensor
    means: Tensor
    factors: Tensor
    owners: Tensor

    def __init__(
        self, place: Place, *, components: int = 100, covariance: Covariance | None = None, classes: bool = False
    ) -> None:
        super().__init__(place)
        size = math.prod(place.input_shape)
        self.covariance: Covariance = covariance or ("full" if size <= LARGEST_FULL else "diagonal")
        shape = (size, size) if self.covariance == "full" else (size,)
        _check(place, components, shape)
        self.labelled = classes
        self.register_buffer("weights", (torch.arange(components) == 0).float())
        self.register_buffer("means", torch.zeros(components, size))
        factor = torch.eye(size) if self.covariance == "full" else torch.ones(size)
        self.register_buffer("factors", factor.repeat(components, *(1,) * len(shape)))
        self.register_buffer("owners", torch.full((components,), NONE))

    def check_labels(self, labels: Sequence[int]) -> None:
        """Every label has to have a component.

        Raises:
            TrainingError: there are more labels.
        """
        if len(labels) > len(self.weights):
            raise TrainingError(
                f"mixture has {len(self.weights)} components for {len(labels)} labels: give each some, as in "
                f"'mixture({10 * len(labels)}, classes=true)'"
            )

    def prepare(self, codes: Tensor, labels: Tensor | None = None) -> None:
        """Fit to codes, (N, *code), on the CPU, from a seed drawn from torch's global state."""
        points = codes.detach().flatten(1).cpu().double()
        if len(points) < 2:
            raise TrainingError(f"mixture fits covariances and got {len(points)} code: give it at least 2")
        if not points.isfinite().all():
            raise TrainingError("mixture got codes that are not finite: the level below it has diverged")
        points = points[: max(2, FITTED // points.shape[1])]
        owned = [(NONE, points)]
        if self.labelled:
            if labels is None:
                raise TrainingError("mixture(classes=true) learns by class and got no labels: take data that has them")
            of = labels[: len(points)].cpu()
            owned = [(label, points[of == label]) for label in of.unique().tolist()]
            self.check_labels([label for label, _ in owned])
        self._fit(owned, seed=int(torch.randint(2**31, (), device="cpu")))

    def _fit(self, owned: list[tuple[int, Tensor]], seed: int) -> None:
        """One mixture for every label's points, side by side in the buffers."""
        most = len(self.weights)
        counts = [len(points) for _, points in owned]
        each = max(CODES_PER_COMPONENT, self.means.shape[1] if self.covariance == "full" else 0)
        self.weights.zero_()
        first = 0
        for (label, points), share in zip(owned, shares(counts, most), strict=True):
            weights, means, factors = fit(points, max(1, min(share, len(points) // each)), self.covariance, seed)
            places = slice(first, first + len(weights))
            self.weights[places] = weights * len(points) / sum(counts)
            self.means[places], self.factors[places], self.owners[places] = means, factors, label
            first += share

    def loss(self, batch: HeadBatch) -> Tensor:
        """Negative log-likelihood of the codes, a scalar, nats per image; labels are not looked at."""
        points = batch.codes.flatten(1).float()
        with torch.autocast(points.device.type, enabled=False):
            exponents = [self._exponent(points, component) for component in self.weights.nonzero().flatten()]
        constant = points.shape[1] / 2 * math.log(2 * math.pi)
        return constant - torch.logsumexp(torch.stack(exponents), 0).mean()

    def _exponent(self, points: Tensor, component: Tensor) -> Tensor:
        """The logarithm of a component's weight times its density at points (B, d), without the constant: (B,)."""
        residual, factor = points - self.means[component], self.factors[component]
        if factor.ndim == 2:
            white = torch.linalg.solve_triangular(factor, residual.T, upper=False).T
            volume = factor.diagonal().log().sum()
        else:
            white, volume = residual / factor, factor.log().sum()
        exponent: Tensor = self.weights[component].log() - volume - white.square().sum(1) / 2
        return exponent

    def sample(self, n: int, *, label: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Draw n codes, (n, *code); randomness comes from where the generator lives, the CPU without one."""
        weights, where = self.weights, self.means.device
        if label is not None:
            check_label("mixture", label, self.labels())
            weights = weights * (self.owners == label)
        device = torch.device("cpu") if generator is None else generator.device
        chosen = torch.multinomial(weights.to(device), n, replacement=True, generator=generator).to(where)
        noise = torch.randn((n, self.means.shape[1]), generator=generator, device=device).to(where)
        codes = self.means[chosen]
        with torch.autocast(where.type, enabled=False):
            for component in chosen.unique():  # not all at once: a factor for every sample may not fit into memory
                drawn, factor = chosen == component, self.factors[component]
                codes[drawn] += noise[drawn] @ factor.T if factor.ndim == 2 else noise[drawn] * factor
        return codes.reshape(n, *self.place.input_shape)

    def labels(self) -> list[int]:
        """Those of the codes that it was fitted to, where it learns by class."""
        owners: list[int] = self.owners[self.weights > 0].unique().tolist()
        return [label for label in owners if label != NONE]


def fit(points: Tensor, components: int, covariance: Covariance, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (K,), means (K, d) and factors, (K, d, d) or (K, d), of K Gaussians for points (N, d)."""
    from sklearn.exceptions import ConvergenceWarning  # a second to import, which sampling does not need
    from sklearn.mixture import GaussianMixture

    if len(points) == 1:
        points = points.expand(2, -1)  # a class that was seen once
    kind = "full" if covariance == "full" else "diag"
    model = GaussianMixture(
        components, covariance_type=kind, reg_covar=FLOOR, tol=GAIN, max_iter=ROUNDS, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is said below, and clusters may be fewer than asked
        model.fit(points.numpy())
    if not model.converged_:
        _log.warning("mixture: %d rounds were not enough for %d components, the last is kept", ROUNDS, components)
    weights, means, covariances = map(torch.from_numpy, (model.weights_, model.means_, model.covariances_))
    factors = torch.linalg.cholesky(covariances) if covariance == "full" else covariances.sqrt()
    return weights, means, factors


def shares(counts: list[int], total: int) -> list[int]:
    """Divide ``total`` in proportion to counts, at least one for each.

    >>> shares([600, 300, 1], 10)
    [6, 3, 1]
    """
    spare, whole = total - len(counts), sum(counts)
    exact = [spare * count / whole for count in counts]
    found = [1 + int(share) for share in exact]
    left = sorted(range(len(counts)), key=lambda place: int(exact[place]) - exact[place])
    for place in left[: total - sum(found)]:
        found[place] += 1
    return found


def _check(place: Place, components: int, shape: tuple[int, ...]) -> None:
    if place.code_shape is not None:
        raise SpecError("mixture has the shape of the code below it and takes none of its own: write 'mixture'")
    if components < 1:
        raise SpecError(f"mixture({components}): at least one component")
    if components * math.prod(shape) > LARGEST:
        raise SpecError(
            f"mixture would keep {components} covariances of {math.prod(shape):,} numbers, more than {LARGEST:,} in "
            "all: ask for fewer components, for covariance=diagonal, or put it on a level with a smaller code"
        )
