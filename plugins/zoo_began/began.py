"""The boundary equilibrium GAN: codes, or images, that an autoencoder is to reconstruct as well as real ones."""

from __future__ import annotations

from collections import OrderedDict
from math import isqrt, prod
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from zoo.errors import EvaluationError, SpecError
from zoo.interfaces import Head, HeadBatch, Place
from zoo_began.networks import decoder, encoder

if TYPE_CHECKING:
    from torch import Tensor

Mode = Literal["codes", "pixels", "full"]

MOST_Z = 64
"""Numbers that everything is generated from, at most, unless it says otherwise: the paper's for images of 64x64."""


class Began(Head):
    """A generator G against an autoencoder D, in balance.

    With l(v) = mean |v - D(v)|, of real codes x, and of G(z) for z uniform in [-1, 1], the generator learns by l(G(z))
    and the autoencoder by l(x) - k l(G(z)); k follows the balance, k + lambda_k (gamma l(x) - l(G(z))) within [0, 1],
    and M = l(x) + |gamma l(x) - l(G(z))| tells how far it has come. In eval mode the loss is M, of the codes it is
    given.

    Args:
        place: where it stands.
        z: how many numbers everything is generated from, and pressed into by D; the root of the code's where not
            given, 64 at most.
        mode: where the loss lives. ``codes``: in those of the level below, from the cache. ``pixels``: in the images,
            through the frozen levels, which then stand behind G and around D. ``full``: there are no levels below. Not
            given it is ``full`` on images and else ``codes``, which the run can move to pixels (``--loss-in pixels``).
        gamma: the balance aimed at, l(G(z)) over l(x): the lower, the fewer kinds of codes, each of them better.
        lambda_k: how fast k follows.
        rate: the autoencoder's learning rate, as a factor on the run's.
        width: channels of the convolutions, or of dense layers; not given: as many as the code has and at least 32,
            64 for images, 256 for all that is no map.
        blocks: pairs of layers at every resolution.

    On codes, D reads and G gives them times ``emphasis``, what each feature means in pixels: so an error there counts
    as it will in the image.

    Raises:
        SpecError: a mode that is not possible where it stands, or numbers that mean nothing.

    Source: Berthelot et al. (2017), section 3.4, where lambda_k is 0.001, gamma 0.3 to 0.7 and the rates are equal;
    what they are here was found by trial (docs/heads.md). Two players want less momentum: Radford et al. (2016),
    arXiv:1511.06434.
    """

    source = (
        "Berthelot, D., Schumm, T. and Metz, L. (2017). BEGAN: Boundary Equilibrium Generative Adversarial Networks. "
        "arXiv:1703.10717"
    )
    positional = "z"
    momentum = 0.5

    gamma: Tensor
    lambda_k: Tensor
    k: Tensor
    M: Tensor
    emphasis: Tensor

    def __init__(
        self,
        place: Place,
        *,
        z: int | None = None,
        mode: Mode | None = None,
        gamma: float = 0.7,
        lambda_k: float = 0.01,
        rate: float = 0.2,
        width: int | None = None,
        blocks: int = 1,
    ) -> None:
        super().__init__(place)
        if place.code_shape is not None:
            raise SpecError(f"began takes no shape: began({place.code_shape[-1]}) draws from so many numbers")
        self.mode = _checked_mode(mode, place)
        shape = place.input_shape
        self.z = min(MOST_Z, isqrt(prod(shape))) if z is None else z
        self.width = _width(place) if width is None else width
        if min(self.z, self.width, blocks) < 1:
            raise SpecError("began: z, width and blocks are at least 1")
        if not 0 < gamma <= 1 or lambda_k <= 0 or rate <= 0:
            raise SpecError("began: gamma is above 0 and at most 1, lambda_k and rate are above 0")
        self.loss_in = "pixels" if mode == "pixels" else None
        self.critic_rate = rate
        self.generator = decoder(self.z, place, self.width, blocks)
        self.critic: nn.Module = nn.Sequential(
            OrderedDict(
                encoder=encoder(place, self.z, self.width, blocks), decoder=decoder(self.z, place, self.width, blocks)
            )
        )
        for name, value in {"gamma": gamma, "lambda_k": lambda_k, "k": 0.0, "M": 0.0}.items():
            self.register_buffer(name, torch.tensor(float(value)))
        self.register_buffer("emphasis", torch.ones((shape[0], 1, 1) if len(shape) == 3 else shape))

    def emphasise(self, sensitivity: Tensor) -> None:
        if not self.M:  # it trains on in the space that it began in
            self.emphasis.copy_(sensitivity)

    def loss(self, batch: HeadBatch) -> Tensor:
        """l(G(z)) of as many draws as there are codes, summed over the elements of each; M likewise in eval mode."""
        if self.training:
            return self._error(batch, *self._generated(batch)).mean() * _elements(batch)
        return self._measure(*self._errors(batch)) * _elements(batch)

    def critic_loss(self, batch: HeadBatch) -> Tensor:
        """l(x) - k l(G(z)) of fresh draws, summed over elements; in training k and M then take their step."""
        real, fake = self._errors(batch)
        loss = real - self.k.clone() * fake
        if self.training:
            with torch.no_grad():
                self.M.copy_(self._measure(real, fake))
                self.k.add_(self.lambda_k * (self.gamma * real - fake)).clamp_(0, 1)
        return loss * _elements(batch)

    def measures(self) -> dict[str, Tensor]:
        return {"M": self.M, "k": self.k}

    def sample(self, n: int, *, label: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Draw n codes, (n, *code); z is drawn where the generator lives, on the CPU without one."""
        if label is not None:
            raise EvaluationError(
                f"began knows no labels and cannot draw label {label}: sample without a label, or end the stack in a "
                "head that learns labels (`zoo list --kind head`)"
            )
        device = "cpu" if generator is None else generator.device
        z = torch.rand((n, self.z), generator=generator, device=device).to(self.k.device)
        with torch.autocast(self.k.device.type, enabled=False):
            codes: Tensor = self.generator(2 * z - 1) / self.emphasis
        return codes

    def _errors(self, batch: HeadBatch) -> tuple[Tensor, Tensor]:
        """l(x) and l(G(z)) of fresh draws, without a gradient to G; in one pass through D."""
        with torch.no_grad():
            fake, coded = self._generated(batch)
            real = batch.codes * self.emphasis
            x = real if batch.images is None else batch.images
        error = self._error(batch, torch.cat([x, fake]), torch.cat([real, coded]))
        return error[: len(x)].mean(), error[len(x) :].mean()

    def _generated(self, batch: HeadBatch) -> tuple[Tensor, Tensor]:
        """G(z) as the loss sees it, and as D reads it: times emphasis."""
        z = torch.rand(len(batch.codes), self.z, device=self.k.device)
        codes: Tensor = self.generator(2 * z - 1)
        if batch.encode is None:
            return codes, codes
        images = self._seen(batch, codes)
        return images, batch.encode(images) * self.emphasis

    def _error(self, batch: HeadBatch, v: Tensor, coded: Tensor) -> Tensor:
        """|v - D(v)| of each, the mean over its elements: (B,)."""
        back = self._seen(batch, self.critic(coded))
        return (v.float() - back.float()).abs().flatten(1).mean(1)

    def _seen(self, batch: HeadBatch, codes: Tensor) -> Tensor:
        """Codes times emphasis as the loss sees them: as they are, or decoded to images."""
        return codes if batch.decode is None else batch.decode(codes / self.emphasis)

    def _measure(self, real: Tensor, fake: Tensor) -> Tensor:
        """M, section 3.4.1."""
        return real + (self.gamma * real - fake).abs()


def _checked_mode(mode: Mode | None, place: Place) -> Mode:
    if mode is None:
        return "full" if place.pixels else "codes"
    if place.pixels and mode != "full":
        raise SpecError(f"began(mode={mode}) stands on a level that codes; on the images themselves it is mode=full")
    if mode == "full" and not place.pixels:
        raise SpecError("began(mode=full) learns with nothing frozen and stands on the images, as in 64x64x3/began")
    return mode


def _width(place: Place) -> int:
    shape = place.input_shape
    if len(shape) != 3:
        return 256
    return 64 if place.pixels else max(32, shape[0])


def _elements(batch: HeadBatch) -> int:
    return (batch.codes if batch.images is None else batch.images)[0].numel()
