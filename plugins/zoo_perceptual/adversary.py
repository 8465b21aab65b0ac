"""A critic of what came back, in pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from zoo.errors import SpecError, TrainingError
from zoo.interfaces import Place, Reconstruction, RoundTrip
from zoo_perceptual.patches import patches

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.phases import Moment

HIGHEST = 1e4
"""That the adaptive weight comes to at most, as in the source."""
TINY = 1e-12


class Adversary(Reconstruction):
    """How little a critic of patches believes in x_hat: minus its logits, averaged over patches and the batch.

    The critic learns in a turn of its own to lower the hinge loss, the mean of
    max(0, 1 - its logits of x) / 2 + max(0, 1 + its logits of x_hat) / 2.

    A logit has no unit. So ``adaptive`` multiplies the weight by the ratio of two gradients with respect to x_hat, that
    of the level's other reconstructions, each times its weight, over the number's own, as it was a step ago: with
    ``weight=1`` the critic pulls at x_hat as hard as they do together, at every error. That is nats per image. The
    source takes both gradients one layer further back, at the weights of the decoder's last, which not every stage has.
    On a trip that tells no gradient it is that of the calibrated Gaussian likelihood.

    Args:
        weight: 0.8 in the source's code.
        start: the critic begins after this part of the level's budget, when x_hat is worth looking at.
        adaptive: as above; without it the weight is just a factor.
        rate: the critic's learning rate, as a factor on the run's.
        depth: convolutions of the critic with stride 2; as many as leave it 4 pixels at least, three at most, where not
            given.
        width: features of its first convolution.

    Raises:
        SpecError: numbers that mean nothing, or images of less than 8 pixels.
        TrainingError: x and x_hat differ in shape.

    Source: Esser, Rombach and Ommer (2021), equations 5 to 7; the hinge loss is that of their code, after Lim and Ye
    (2017), arXiv:1705.02894.
    """

    source = (
        "Esser, P., Rombach, R. and Ommer, B. (2021). Taming Transformers for High-Resolution Image Synthesis. CVPR. "
        "arXiv:2012.09841"
    )
    positional = "weight"
    likelihood = False
    needs_pixels = True
    critic: nn.Module
    ratio: Tensor
    waiting: Tensor

    def __init__(
        self,
        place: Place,
        *,
        weight: float = 0.8,
        start: float = 0.25,
        adaptive: bool = True,
        rate: float = 1.0,
        depth: int | None = None,
        width: int = 64,
    ) -> None:
        super().__init__(place, weight)
        shape = place.seen
        if not 0 <= start < 1 or rate <= 0 or width < 1 or (depth is not None and depth < 1):
            told = f"start={start:g}, rate={rate:g}, width={width}, depth={depth}"
            raise SpecError(f"{told}: a critic has layers, learns, and begins before the end")
        if len(shape) != 3 or min(shape[1:]) < 8:
            raise SpecError(f"adversary looks at patches of images of 8x8 pixels or more, not at {shape}")
        if depth is not None and min(shape[1:]) < 2**depth:
            raise SpecError(f"depth={depth} halves {shape[1]}x{shape[2]} pixels more often than they can be")
        self.depth = depth or max(1, min(3, min(shape[1:]).bit_length() - 3))
        self.critic = patches(shape[0], depth=self.depth, width=width)
        self.critic_rate, self.start, self.adaptive = rate, start, adaptive
        if adaptive:
            self.register_buffer("ratio", torch.ones(()))
        self.wants_gradient = adaptive
        self.register_buffer("waiting", torch.zeros((), dtype=torch.bool))

    def forward(self, trip: RoundTrip) -> Tensor:
        """Minus the critic's logits of x_hat."""
        if trip.x.shape != trip.x_hat.shape:
            raise TrainingError(
                f"x has shape {tuple(trip.x.shape)} and x_hat {tuple(trip.x_hat.shape)}: they are compared"
            )
        if min(trip.x.shape[2:]) < 2**self.depth:
            raise TrainingError(
                f"adversary halves what it sees {self.depth} times, and gets images of {trip.x.shape[2]}x"
                f"{trip.x.shape[3]}: grow from larger ones, or write adversary(depth={self.depth - 1})"
            )
        number: Tensor = -self.critic(trip.x_hat.float()).float().mean()
        if self.adaptive and self.training and torch.is_grad_enabled() and trip.x_hat.requires_grad:
            self._measure(number, trip)
        return number

    def critic_loss(self, trip: RoundTrip) -> Tensor:
        """The hinge loss; 0 while it waits for its start."""
        true, false = self.critic(torch.cat([trip.x, trip.x_hat]).float()).float().chunk(2)
        loss: Tensor = ~self.waiting * (F.relu(1 - true).mean() + F.relu(1 + false).mean()) / 2
        return loss

    def advance(self, moment: Moment) -> None:
        """Wait until it is time."""
        self.waiting.fill_(moment.progress < self.start)

    def weight_at(self, moment: Moment) -> float | Tensor:
        """Nothing before the start; then the weight, times the ratio of gradients."""
        if moment.progress < self.start:
            return 0.0
        return self.weight * self.ratio if self.adaptive else self.weight

    def _measure(self, number: Tensor, trip: RoundTrip) -> None:
        """The ratio of the norms of two gradients with respect to x_hat."""
        (own,) = torch.autograd.grad(number, trip.x_hat, retain_graph=True)
        wanted = _gaussian(trip) if trip.gradient is None else trip.gradient.float().norm()
        self.ratio.copy_((wanted / (own.float().norm() + TINY)).clamp(max=HIGHEST))


def _gaussian(trip: RoundTrip) -> Tensor:
    """The norm of the calibrated Gaussian likelihood's gradient with respect to x_hat."""
    error = (trip.x_hat - trip.x).detach().float().square().mean()
    return (trip.x[0].numel() / (len(trip.x) * error.clamp(min=TINY))).sqrt()
