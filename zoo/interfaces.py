"""The four kinds of plugin, and what they are told and given.

A **Stage** is two maps with a code between them. A **Regularizer** and a **Reconstruction** are terms: each is one
number from a round trip. A **Head** generates codes. Every term is in nats per image: summed over the elements of an
image (or its code), averaged over the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from zoo.errors import RegistryError, SpecError, TrainingError
from zoo.phases import Phase
from zoo.weighing import Weighing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from zoo.growth import Size, View
    from zoo.phases import Moment
    from zoo.posterior import Posterior
    from zoo.spec import Item
    from zoo.weighing import Numbers

Shape = tuple[int, ...]
"""A shape without the batch, in tensor order: (C, H, W) for images and maps, (N,) for vectors."""

PosteriorKind = Literal["point", "gaussian"]
OutputKind = Literal["linear", "sigmoid"]


@dataclass(frozen=True)
class Place:
    """Where a class of the spec stands in its stack: what ``build`` knows and the class does not.

    Args:
        input_shape: what the stage encodes, and a head generates.
        code_shape: the shape written behind the stage's name, None where the spec leaves it to the stage. A term
            is always told its level's code shape.
        pixels: the input is images in [0, 1] rather than unit-scale codes.
        posterior: ``"gaussian"`` when a regularizer of the level needs a deviation as well as a mean.
        output: ``"sigmoid"`` when a reconstruction of the level needs values in (0, 1).
        image_shape: of the stack's images, which the terms of an upper level read with ``--loss-in pixels``; None
            where nobody said.
    """

    input_shape: Shape
    code_shape: Shape | None = None
    pixels: bool = True
    posterior: PosteriorKind = "point"
    output: OutputKind = "linear"
    image_shape: Shape | None = None

    @property
    def seen(self) -> Shape:
        """The shape of what a term that reads images reads."""
        return self.image_shape or self.input_shape


@dataclass(frozen=True)
class RoundTrip:
    """One batch there and back: what every term reads.

    Args:
        x: the batch that should come back, (B, *input): images in [0, 1], or unit-scale codes.
        posterior: what the encoder said of it.
        z: the code drawn from the posterior, (B, *code).
        x_hat: what came back, (B, *input); not clamped.
        gradient: with respect to x_hat, (B, *input), of the sum of the level's other reconstructions, each times its
            weight now, in nats per image: for a term that ``wants_gradient``, while something learns. Else None.
    """

    x: Tensor
    posterior: Posterior
    z: Tensor
    x_hat: Tensor
    gradient: Tensor | None = None

    def detach(self) -> RoundTrip:
        """The same trip, cut from the graph: what a critic learns on."""
        return RoundTrip(self.x.detach(), self.posterior.detach(), self.z.detach(), self.x_hat.detach())

    def float(self) -> RoundTrip:
        """The same trip in float32."""
        posterior = self.posterior.float()
        if posterior is self.posterior and self.x.dtype == self.z.dtype == self.x_hat.dtype == torch.float32:
            return self  # as in every step of a small level: four tensors that become themselves take a part of it
        return RoundTrip(self.x.float(), posterior, self.z.float(), self.x_hat.float())


@dataclass(frozen=True)
class HeadBatch:
    """What a head learns from: codes, and where its loss is in pixels the images and the frozen maps between.

    Args:
        codes: (B, *code) of the level below, unit scale; images for a head that stands on the input itself.
        labels: (B,) class indices, where the data has them.
        images: (B, C, H, W) in [0, 1]; None when the loss is in codes.
        encode: frozen map from images to codes, differentiable; None when the loss is in codes.
        decode: frozen map from codes to images, differentiable; None when the loss is in codes.
    """

    codes: Tensor
    labels: Tensor | None = None
    images: Tensor | None = None
    encode: Callable[[Tensor], Tensor] | None = None
    decode: Callable[[Tensor], Tensor] | None = None


class Part(nn.Module, ABC):
    """What a name of the spec stands for: the root of the four kinds.

    A concrete class takes a ``Place`` first and its options as keyword-only arguments with annotations and defaults;
    ``build`` checks a spec's arguments against that signature.
    """

    source: ClassVar[str] = ""
    """The paper it comes from: authors (year), title, arXiv number or venue."""

    positional: ClassVar[str | None] = None
    """The option that a value without a key means, as the weight in ``kl(0.5)``."""

    item: Item | None = None
    """What stands for it in the spec with every option written out: ``build`` sets it, and a saved stack keeps it,
    so that a default which changes later changes no stack that was saved before. An option whose default is None is
    written out when the class has settled it, in an attribute of the same name."""

    def advance(self, moment: Moment) -> None:
        """Told where the training stands, before each step and once more at the end of each phase.

        For what changes on the way, as the share of a layer that is faded in. That is a buffer, changed in place.
        """


class Stage(Part):
    """Two maps with a code between them: ``encode(x) -> Posterior`` and ``decode(z) -> x_hat``.

    What only ``encode`` uses is kept under ``self.encoder``, what only ``decode`` uses under ``self.decoder``, so that
    either can be loaded without the other. A stage for pixels (``place.pixels``) takes images in [0, 1], normalises
    them for itself and decodes to the same scale; above level 1 it takes and gives unit-scale codes.
    """

    exportable: ClassVar[bool] = False
    """``torch.export`` takes encode and decode; proven by ``zoo.testing.check_stage``."""

    compilable: ClassVar[bool] = False
    """``torch.compile(fullgraph=True)`` takes encode and decode; proven likewise."""

    any_size: ClassVar[bool] = False
    """A stage with a map as its code also takes inputs of other heights and widths; proven likewise."""

    settled: Mapping[str, float] = MappingProxyType({})
    """What ``prepare`` sets to the best there is for clean inputs, by beginnings of parameters' names: factors on the
    learning rate while the level is trained for the first time, unless images are corrupted, or the loss of a level on
    codes is in pixels; 0 stays as it is."""

    encoder: nn.Module
    decoder: nn.Module

    def __init__(self, place: Place, code_shape: Shape) -> None:
        super().__init__()
        self.place = place
        self.input_shape = place.input_shape
        self.code_shape = code_shape

    @abstractmethod
    def encode(self, x: Tensor) -> Posterior:
        """(B, *input) to a posterior over (B, *code)."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """(B, *code) to (B, *input)."""

    def check_input(self, x: Tensor) -> None:
        """Refuse inputs of another shape, for a stage that takes one shape alone.

        Raises:
            SpecError: x is not (B, *input); it says what is wanted.
        """
        if x.shape[1:] != self.input_shape:
            advice = "; zoo.data.images(x, stack.input_shape) brings images to it" if self.place.pixels else ""
            raise SpecError(
                f"{type(self).__name__} takes inputs of {tuple(self.input_shape)}, channels first, and nothing else; "
                f"got {tuple(x.shape[1:])}{advice}"
            )

    def prepare(self, x: Tensor) -> None:
        """Look at a sample of the inputs, (N, *input), once before the first step; for a start that knows the data.

        It is in random order, so the first of it are a sample as well.
        """

    def phases(self) -> tuple[Phase, ...]:
        """How the stage wants to be trained: in one phase, all of it, unless overridden."""
        return (Phase(),)

    def start_growing(self, sizes: Sequence[Size]) -> list[tuple[str, ...]]:
        """Get ready to learn from smaller images first, and to grow; nothing but the training asks for it.

        Layers may be added that stand in for those which are not there yet; ``stop_growing`` lets go of them. Unless
        overridden, a stage that takes any size and codes maps learns from smaller images as it is, and another cannot.

        Args:
            sizes: height and width of the images, smallest first, the stage's own the last.

        Returns:
            For each size the beginnings of the names of the parameters that are new there: these learn alone, while
            they are faded in, before all do. Nothing for the first.

        Raises:
            TrainingError: it cannot be grown, or not from these sizes; it says why.
        """
        if not self.any_size or len(self.code_shape) != 3:
            raise TrainingError(
                f"{type(self).__name__} cannot be grown: its layers are made for images of {_written(sizes[-1])} alone"
            )
        (height, width), (rows, columns) = self.input_shape[1:], self.code_shape[1:]
        for size in sizes:
            if size[0] * rows % height or size[1] * columns % width:
                raise TrainingError(f"{type(self).__name__}: its map would not be whole for images of {_written(size)}")
        return [() for _ in sizes]

    def see(self, view: View | None) -> None:
        """Told before each phase how images are shown while it grows, None for whole ones. Nothing unless overridden.

        Then ``encode`` takes, and ``decode`` gives, images of the view's size, of which the share that is faded in is
        changed in place from step to step.
        """

    def stop_growing(self) -> None:
        """Growing is over: only what the spec says is left. Nothing unless overridden."""


class Term(Part):
    """One number from a round trip, in nats per image. It may own a critic, which then learns in a turn of its own.

    Args:
        weight: what the number is multiplied by in the level's objective.
        warmup, tau, adaptive, balance: how the weight changes on the way, see ``Weighing``. A class offers those that
            make sense for it as options of its own.
    """

    critic: nn.Module | None
    """A network that learns against the stage, by ``critic_loss`` and an optimiser of its own."""

    critic_rate: float = 1.0
    """The critic's learning rate, as a factor on the run's."""

    def __init__(
        self,
        place: Place,
        weight: float,
        *,
        warmup: float = 0.0,
        tau: float = 0.0,
        adaptive: int = 0,
        balance: float = 0.0,
    ) -> None:
        super().__init__()
        self.place = place
        self.weight = weight
        self.weighing = Weighing(weight, warmup=warmup, tau=tau, adaptive=adaptive, balance=balance)
        self.critic = None  # not on the class, where it would hide the module that a subclass assigns

    @abstractmethod
    def forward(self, trip: RoundTrip) -> Tensor:
        """The number, a scalar, not yet weighted."""

    def critic_loss(self, trip: RoundTrip) -> Tensor:
        """The critic's own loss, a scalar, on a detached trip. Only asked of a term that owns a critic."""
        raise RegistryError(f"{type(self).__name__} owns a critic but no critic_loss: it has nothing to learn by")

    def weight_at(self, moment: Moment) -> float | Tensor:
        """What the number is multiplied by at this moment of the training: a number, or a scalar without gradient.

        Asked before each step, and changes nothing. With ``moment.progress`` 1 it is the whole weight, no warm-up: by
        that the held-out loss is weighed, whenever it is measured.
        """
        return self.weighing.at(self.weight, moment)

    def adapt(self, numbers: Numbers) -> None:
        """Told what a step came to, after it. What it changes is a buffer, in place."""
        self.weighing.adapt(numbers)

    def phases(self) -> tuple[Phase, ...]:
        """Phases before the stage's own, while the level is trained for the first time; none unless overridden."""
        return ()


class Regularizer(Term):
    """A term on codes: it pulls them towards a prior, and says how they are drawn."""

    posterior: ClassVar[PosteriorKind] = "point"
    """The posterior it needs; ``build`` configures the encoder for it."""

    prior: ClassVar[bool] = True
    """It pulls the codes to a unit-scale prior that ``sample`` draws from."""

    def draw(self, posterior: Posterior) -> Tensor:
        """The code that goes to the decoder while training; at most one term of a level overrides this.

        Everything else, from the codes of the next level to a reconstruction, takes the posterior's mean. So what a
        code is always, as one rounded to a grid, is the stage's to do in ``encode``, its gradients passed straight
        through.
        """
        return posterior.sample()

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n codes from the prior, (n, *code), on the CPU; N(0, I) unless overridden."""
        return torch.randn((n, *(self.place.code_shape or ())), generator=generator, device="cpu")


class Reconstruction(Term):
    """A term on what came back: a likelihood takes the default's place, a partner adds to it."""

    likelihood: ClassVar[bool] = True
    """It replaces the default reconstruction; a partner (False) adds to whichever likelihood there is."""

    output: ClassVar[OutputKind] = "linear"
    """The decoder's output that it needs; ``build`` configures the stage for it."""

    needs_pixels: ClassVar[bool] = False
    """It means nothing on codes: above level 1 it takes ``--loss-in pixels``."""

    wants_gradient: bool = False
    """In training its trips say by ``gradient`` how hard the level's other reconstructions, those that do not want it
    themselves, pull at x_hat. That takes another pass back through them, as far as x_hat."""


class Head(Part):
    """Generates codes of the level below it; a stack that ends in a head samples through it. It may own a critic."""

    critic: nn.Module | None
    """A network that learns against the generator, by ``critic_loss`` and an optimiser of its own."""

    critic_rate: float = 1.0
    """The critic's learning rate, as a factor on the run's."""

    momentum: float | None = None
    """Of the optimisers of generator and critic, Adam's first decay; None: the optimiser's own."""

    loss_in: Literal["codes", "pixels"] | None = None
    """Where its loss lives; None: as the run says."""

    labelled: bool = False
    """It learns by class: data without labels is refused before anything is trained."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.critic = None  # not on the class, where it would hide the module that a subclass assigns

    @abstractmethod
    def loss(self, batch: HeadBatch) -> Tensor:
        """The generator's loss, a scalar in nats per image."""

    @abstractmethod
    def sample(self, n: int, *, label: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Draw n codes, (n, *code), all of this label where one is given."""

    def labels(self) -> list[int]:
        """The labels that can be sampled; none unless overridden."""
        return []

    def check_labels(self, labels: Sequence[int]) -> None:
        """Told which labels there are, ascending, before the levels below are trained; nothing unless overridden.

        Only a head that is ``labelled`` is told.

        Raises:
            TrainingError: it cannot learn these; it says what to do.
        """

    def critic_loss(self, batch: HeadBatch) -> Tensor:
        """The critic's own loss, a scalar. Only asked of a head that owns a critic."""
        raise RegistryError(f"{type(self).__name__} owns a critic but no critic_loss: it has nothing to learn by")

    def prepare(self, codes: Tensor, labels: Tensor | None = None) -> None:
        """Look at a sample of the codes, (N, *code), once before the first step: all a closed-form head needs.

        Args:
            codes: as in ``HeadBatch``.
            labels: (N,) class indices, where the data has them.
        """

    def emphasise(self, sensitivity: Tensor) -> None:
        """Told before ``prepare`` how much the images move with each feature of the codes (``Stack.sensitivity``).

        Nothing unless overridden, and then nothing is measured. Not told to a head that stands on the images.
        """

    def measures(self) -> dict[str, Tensor]:
        """Scalars that the history tells of it beside its loss, by name, as they are after a step."""
        return {}


def _written(size: Size) -> str:
    return "x".join(map(str, size))
