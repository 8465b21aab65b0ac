"""The regularizer of the Wasserstein autoencoder: codes against draws from the prior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch

from zoo.errors import SpecError, TrainingError, nearest
from zoo.interfaces import Place, Regularizer, RoundTrip
from zoo_latent.moments import pretraining

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from zoo.phases import Phase

Kernel = Literal["imq", "rbf"]
IMQ_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class MMD(Regularizer):
    """Squared maximum mean discrepancy between a batch of codes and as many draws from N(0, I).

    It compares the codes of the batch, ``trip.z``, with the prior as two samples, so it says nothing of one image
    alone: it is a bare number, about 0 when the laws agree, and its weight turns it into nats per image. A map is one
    vector per image. The draws come from torch's global generator.

    Args:
        weight: chosen by measurement against the calibrated Gaussian reconstruction (docs/unit.md).
        kernel: ``"imq"``, the sum of C / (C + d^2) over seven C = 2 z t, z the size of a code and t from 0.1 to 10; or
            ``"rbf"``, exp(-d^2 / 2s) with s taken from the batch's own distances.
        biased: the V-statistic, never negative, instead of the unbiased estimate, which may be.
        detach: with ``"rbf"``, no gradient through s.
        warmup: the weight rises to its full size over this part of the level's budget, in a straight line.
        tau: or as 1 - exp(-t / tau), t in steps.
        adaptive: after every so many steps the weight goes half of the way to the one at which the discrepancy would
            have counted as much as the reconstruction, which has to be an error: mse, mae, bernoulli or ssim.
        pretrain: before the level's training its encoder learns to match the prior's moments, for at most so many
            steps.

    Raises:
        SpecError: no such kernel, or numbers that mean nothing.
        TrainingError: while training, a batch of one for the unbiased estimate, which needs pairs. In evaluation such
            a batch, the last of an odd number, counts as 0.

    Source: Tolstikhin et al. (2018), algorithm 2 and section 4; the statistic is that of their code. Gretton et al.
    (2012), JMLR 13, lemma 6.
    """

    source = (
        "Tolstikhin, I., Bousquet, O., Gelly, S. and Schoelkopf, B. (2018). Wasserstein Auto-Encoders. ICLR. "
        "arXiv:1711.01558"
    )
    positional = "weight"

    def __init__(
        self,
        place: Place,
        *,
        weight: float = 100.0,
        kernel: Kernel = "imq",
        biased: bool = False,
        detach: bool = False,
        warmup: float = 0.0,
        tau: float = 0.0,
        adaptive: int = 0,
        pretrain: int = 0,
    ) -> None:
        super().__init__(place, weight, warmup=warmup, tau=tau, adaptive=adaptive)
        if pretrain < 0:
            raise SpecError(f"pretrain={pretrain}: a number of steps, or 0 for none")
        if kernel not in get_args(Kernel):
            raise SpecError(f"wae_mmd has no kernel {kernel!r}: {nearest(str(kernel), get_args(Kernel))}")
        if detach and kernel != "rbf":
            raise SpecError(f"wae_mmd(detach=true): kernel={kernel} has no scale s to detach; add kernel=rbf")
        self.kernel = kernel
        self.biased = biased
        self.detach = detach
        self.pretrain = pretrain

    def phases(self) -> tuple[Phase, ...]:
        """Moment matching, where it was asked for."""
        return (pretraining(self.pretrain, self.place.input_shape),) if self.pretrain else ()

    def forward(self, trip: RoundTrip) -> Tensor:
        """The discrepancy, a bare number."""
        codes = trip.z.float().flatten(1)
        if len(codes) == 1 and not self.biased:
            if self.training:
                raise TrainingError(
                    "wae_mmd compares the codes of a batch with each other and got a batch of 1: "
                    "use a batch size of 2 or more, or wae_mmd(biased=true)"
                )
            return codes.sum() * 0
        draws = torch.randn_like(codes)
        return mmd(codes, draws, kernel=self.kernel, biased=self.biased, detach=self.detach)


def mmd(q: Tensor, p: Tensor, *, kernel: Kernel = "imq", biased: bool = False, detach: bool = False) -> Tensor:
    """Squared discrepancy of two samples of equal size, (n, d) each, in float32.

    Unbiased: sum over i != j of [k(q_i, q_j) + k(p_i, p_j)] / (n (n - 1)) - 2 sum over all i, j of k(q_i, p_j) / n^2.
    Biased: the diagonals count too, and all three sums are divided by n^2.
    """
    n = len(q)
    with torch.autocast(q.device.type, enabled=False):  # a matrix product in bf16 would drown small distances
        qq, pp, qp = _distances(q, q), _distances(p, p), _distances(q, p)
    k = _imq(q.shape[1]) if kernel == "imq" else _rbf(_bandwidth(qp, qq, detach=detach))
    within = k(qq) + k(pp)
    across = k(qp).sum() / n**2
    if biased:
        return within.sum() / n**2 - 2 * across
    return (within.sum() - within.trace()) / (n * (n - 1)) - 2 * across


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances, (n, d) and (m, d) to (n, m), without the (n, m, d) differences in memory."""
    squares = a.square().sum(1)[:, None] + b.square().sum(1)[None, :]
    return (squares - 2 * a @ b.T).clamp(min=0)


def _imq(size: int) -> Callable[[Tensor], Tensor]:
    """Inverse multiquadratics, summed; 2 * size is the mean squared distance of two draws from the prior."""

    def kernel(distances: Tensor) -> Tensor:
        total = torch.zeros_like(distances)
        for scale in IMQ_SCALES:
            constant = 2 * size * scale
            total = total + constant / (constant + distances)
        return total

    return kernel


def _rbf(bandwidth: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda distances: (-distances / (2 * bandwidth)).exp()


def _bandwidth(qp: Tensor, qq: Tensor, *, detach: bool) -> Tensor:
    """The ((n^2 - n) / 2)-th largest squared distance of codes to draws plus that of codes to codes: about medians."""
    n = len(qq)
    half = max((n * n - n) // 2, 1)
    to_draws, within = (distances.flatten().sort(descending=True).values[half - 1] for distances in (qp, qq))
    bandwidth = (to_draws + within).clamp(min=torch.finfo(torch.float32).tiny)
    return bandwidth.detach() if detach else bandwidth
