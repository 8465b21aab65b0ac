"""Levels, and the stack that they make: images in, codes out, and back."""

from __future__ import annotations

from itertools import chain
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from zoo import files, registry
from zoo.errors import EvaluationError, FileError, SpecError
from zoo.interfaces import Head, Reconstruction, Regularizer, RoundTrip, Shape, Stage, Term
from zoo.posterior import places
from zoo.spec import LevelSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import Any

    from zoo.interfaces import Part
    from zoo.posterior import Posterior
    from zoo.spec import StackSpec


TINY = 1e-12
"""A feature whose variance is below this never varies."""
PROJECTIONS = 8
"""Random projections that ``Stack.sensitivity`` averages over."""


class Absent(nn.Module):
    """Stands where the half of a stage would be that was not loaded, and says so when it is used."""

    def __init__(self, half: str, folder: Path) -> None:
        super().__init__()
        self.message = f"the {half} was not loaded: zoo.load({str(folder)!r}) without part= loads both halves"

    def forward(self, *_: Any) -> Any:
        raise FileError(self.message)


class Level(nn.Module):
    """A stage with the terms of its objective: what is trained, frozen, saved and stacked on.

    Args:
        stage: the two maps.
        terms: by name, in the order of the sentence; at least one likelihood among them; several add up.

    The buffers ``shift`` and ``scale`` bring the codes of a level to unit scale; ``finish`` sets them from training
    codes when the level is finished. ``encode`` and ``decode`` include them. The buffer ``trained``
    says that it has been finished once: when it trains on, its stage is not prepared anew. The buffer ``emphasis``
    weighs the features of an upper level's input by what they mean in pixels (``Stack.sensitivity``): the stage, and
    the terms of a loss in codes, see the input times it, so that an error there counts as it will in the image.
    """

    shift: Tensor
    scale: Tensor
    trained: Tensor
    emphasis: Tensor

    def __init__(self, stage: Stage, terms: dict[str, Term]) -> None:
        super().__init__()
        self.stage = stage
        self.terms = nn.ModuleDict(terms)
        self.register_buffer("shift", torch.zeros(_features(stage.code_shape)))
        self.register_buffer("scale", torch.ones(_features(stage.code_shape)))
        self.register_buffer("emphasis", torch.ones(_features(stage.input_shape)))
        self.register_buffer("trained", torch.zeros((), dtype=torch.bool))

    @property
    def input_shape(self) -> Shape:
        """What the stage was built for, without the batch."""
        return self.stage.input_shape

    @property
    def code_shape(self) -> Shape:
        """One code, without the batch."""
        return self.stage.code_shape

    @property
    def regularizers(self) -> list[Regularizer]:
        """The terms on the code."""
        return [term for term in self.terms.values() if isinstance(term, Regularizer)]

    @property
    def reconstructions(self) -> list[Reconstruction]:
        """The terms on what came back."""
        return [term for term in self.terms.values() if isinstance(term, Reconstruction)]

    @property
    def written_out(self) -> LevelSpec | None:
        """The level's part of the sentence with every option, None for parts that no sentence built."""
        items = [cast("Part", part).item for part in (self.stage, *self.terms.values())]
        known = tuple(item for item in items if item is not None)
        return LevelSpec(known) if len(known) == len(items) else None

    @property
    def prior(self) -> Regularizer | None:
        """The regularizer that pulls the codes to a prior, if one does."""
        return next((term for term in self.regularizers if term.prior), None)

    def encode(self, x: Tensor) -> Posterior:
        """(B, *input) to the posterior over unit-scale codes."""
        return self.stage.encode(x * self.emphasis).scaled(self.shift, self.scale)

    def decode(self, z: Tensor) -> Tensor:
        """Unit-scale codes (B, *code) to (B, *input); pixels are not clamped."""
        return self._emphasised(z) / self.emphasis

    def _emphasised(self, z: Tensor) -> Tensor:
        """What the stage decodes: the input times ``emphasis``."""
        return self.stage.decode(z * self.scale + self.shift)

    def draw(self, posterior: Posterior) -> Tensor:
        """The code for the decoder while training: drawn by the one regularizer that has its own way, or a sample."""
        for term in self.regularizers:
            if type(term).draw is not Regularizer.draw:
                return term.draw(posterior)
        return posterior.sample()

    def round_trip(self, x: Tensor, seen: Tensor | None = None) -> RoundTrip:
        """There and back, as the terms read it: x and x_hat times ``emphasis``, which is 1 for images.

        Args:
            x: what should come back, (B, *input).
            seen: what is encoded instead, as a corrupted x; x itself unless given.
        """
        posterior = self.encode(x if seen is None else seen)
        x = x * self.emphasis
        z = self.draw(posterior)
        return RoundTrip(x, posterior, z, self._emphasised(z))

    @torch.no_grad()
    def prepare(self, x: Tensor, sensitivity: Tensor | None = None) -> None:
        """Let the stage look at a sample of its inputs, (N, *input), before the level's first step.

        Args:
            x: images, or unit-scale codes.
            sensitivity: of the images to the features of the codes below: becomes ``emphasis``. Nothing for images.
        """
        if sensitivity is not None:
            self.emphasis.copy_(sensitivity)
        self.stage.prepare(x * self.emphasis)

    @torch.no_grad()
    def finish(self, posteriors: Iterable[Posterior]) -> None:
        """Mark the level as trained, and fold its features' means and deviations into shift and scale.

        Of a level with a prior they are those of draws from the posteriors, so that as a whole these have the prior's
        mean and deviation in every feature, however weakly its regularizer has pulled; else those of the posteriors'
        means. A feature that never varies keeps its own scale, and so do the codes of a regularizer with a ``draw`` of
        its own, which may live on a grid.

        Args:
            posteriors: of many training inputs, batch by batch, as ``encode`` gives them now.
        """
        self.trained.fill_(True)
        if any(type(term).draw is not Regularizer.draw for term in self.regularizers):
            return
        mean, square, noise = (torch.zeros(self.shift.shape, dtype=torch.float64) for _ in range(3))
        count = 0
        for posterior in posteriors:  # sums only: the codes of many inputs may not fit into memory
            z, size = posterior.mean.cpu().double(), len(posterior.mean)
            mean += size * _by_feature(z)
            square += size * _by_feature(z.square())
            if self.prior is not None and posterior.logvar is not None:
                noise += size * _by_feature(posterior.logvar.cpu().double().exp()).reshape(noise.shape)
            count += size
        mean, variance = mean / count, (square / count - (mean / count).square()).clamp_min(0) + noise / count
        deviation = torch.where(variance > TINY, variance.sqrt(), 1.0)
        self.shift.add_(mean.to(self.shift) * self.scale)
        self.scale.mul_(deviation.to(self.scale))


class Stack(nn.Module):
    """Levels composed, pixels first: ``encode`` to the top code, ``decode`` back to images, ``sample`` new ones.

    The maps keep gradients; call them under ``torch.inference_mode()`` where none are wanted.

    >>> import zoo, torch
    >>> stack = zoo.build("28x28x1/conv7x7x10/fc8+wae_mmd")
    >>> z = stack.encode(torch.rand(2, 1, 28, 28))
    >>> z.shape, stack.decode(z).shape
    (torch.Size([2, 8]), torch.Size([2, 1, 28, 28]))
    """

    def __init__(
        self,
        spec: StackSpec,
        input_shape: Shape,
        levels: list[Level],
        head: Head | None = None,
        *,
        brought: files.Brought | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.input_shape = input_shape
        self.levels = nn.ModuleList(levels)
        self.head = head
        self.brought = brought
        self.report: dict[str, Any] | None = None

    @property
    def code_shape(self) -> Shape:
        """The top code, without the batch; the images' own shape for a head that stands on the input."""
        return self.level(len(self.levels)).code_shape if len(self.levels) else self.input_shape

    def level(self, number: int) -> Level:
        """Level ``number``, counted from 1."""
        if not 1 <= number <= len(self.levels):
            raise SpecError(f"level {number}: {self.spec} has levels 1 to {len(self.levels)}")
        return cast("Level", self.levels[number - 1])

    def lower(self, levels: int | None = None) -> Iterator[Level]:
        """The first ``levels`` levels, bottom up; all when None."""
        top = len(self.levels) if levels is None else levels
        return (self.level(number) for number in range(1, top + 1))

    def posterior(self, x: Tensor, levels: int | None = None) -> Posterior:
        """The posterior over the code of the last of the first ``levels`` levels, for images (B, C, H, W) in [0, 1]."""
        posterior = None
        for level in self.lower(levels):
            posterior = level.encode(x if posterior is None else posterior.mode)
        if posterior is None:
            raise SpecError(f"{self.spec} has no level that encodes")
        return posterior

    def encode(self, x: Tensor, levels: int | None = None) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to codes (B, *code): the posterior's mean."""
        return self.posterior(x, levels).mode if levels != 0 and len(self.levels) else x

    def decode(self, z: Tensor, levels: int | None = None) -> Tensor:
        """Codes of the last of the first ``levels`` levels to images (B, C, H, W) in [0, 1]."""
        return self.to_pixels(z, levels).clamp(0, 1)

    def to_pixels(self, z: Tensor, levels: int | None = None) -> Tensor:
        """``decode`` without the clamp, which has no gradient outside [0, 1]: what a loss in pixels reads."""
        for level in reversed(list(self.lower(levels))):
            z = level.decode(z)
        return z

    def forward(self, x: Tensor) -> Tensor:
        """Images there and back."""
        return self.decode(self.encode(x))

    @torch.inference_mode()
    def sample(self, n: int, *, seed: int | None = None, label: int | None = None) -> Tensor:
        """New images (n, C, H, W) in [0, 1], drawn through the head, else from the top level's prior.

        Args:
            n: how many.
            seed: same seed, same images; None draws from torch's global state.
            label: a class index, for a head that knows labels.

        Raises:
            EvaluationError: the stack has neither a head nor a prior.
        """
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        draw = self.sampler(label, generator)
        batches = [self.decode(draw(min(256, n - start)).to(self.device)) for start in range(0, n, 256)]
        return torch.cat(batches) if batches else torch.empty(0, *self.input_shape)

    @torch.inference_mode()
    def similar(self, x: Tensor, *, noise: bool = True, seed: int | None = None) -> Tensor:
        """Images like these, (B, C, H, W) in [0, 1]: a draw from the top posterior of each, decoded.

        Args:
            x: images (B, C, H, W) in [0, 1].
            noise: draw; the posteriors' means, which come out the same every time, where False.
            seed: same seed, same images; None draws from torch's global state.

        Raises:
            EvaluationError: noise is asked of a top level whose encoder gives points.
            SpecError: the stack has no level.
        """
        posterior = self.posterior(x.to(self.device))
        if not noise:
            return self.decode(posterior.mode)
        if posterior.logvar is None:
            raise EvaluationError(
                f"{self.spec} has one code for each image and no posterior to draw from: that takes a top level with a "
                "regularizer such as '+kl'; noise=False gives what comes back"
            )
        generator = None if seed is None else torch.Generator(self.device).manual_seed(seed)
        return self.decode(posterior.sample(generator))

    def sampler(self, label: int | None = None, generator: torch.Generator | None = None) -> Callable[[int], Tensor]:
        """What draws n top codes, (n, *code), as ``sample`` does: through the head, else from the prior.

        Raises:
            EvaluationError: the stack has neither, or no head that knows labels where one is asked for.
        """
        if self.head is not None:
            head = self.head
            return lambda n: head.sample(n, label=label, generator=generator)
        if label is not None:
            raise EvaluationError(f"{self.spec} cannot sample by label: that takes a head that knows labels")
        prior = self.level(len(self.levels)).prior
        if prior is None:
            raise EvaluationError(
                f"{self.spec} cannot sample: its top level has no prior. Add a regularizer, as in '{self.spec}+kl', "
                f"or a head, as in '{self.spec}/normal'."
            )
        return lambda n: prior.sample(n, generator)

    def sensitivity(self, z: Tensor, levels: int) -> Tensor:
        """How much the images move with each feature of the codes of level ``levels``, relative to each other.

        The root of the mean squared derivative of all pixels by the feature, over the codes z, (B, *code), and their
        places; scaled to a mean square of 1, and at least a hundredth of the largest. Times it, an error in codes has
        about the size of the error in pixels that it makes. The diagonal of J^T J is estimated by random projections
        (Hutchinson 1990): E[(J^T v)^2] for v of random signs.

        Returns:
            (C, 1, 1) for maps, else one number for each of the code's.
        """
        total = torch.zeros(_features(z.shape[1:]), device=z.device)
        with torch.enable_grad():
            for _ in range(PROJECTIONS):
                point = z.detach().clone().requires_grad_()
                x_hat = self.to_pixels(point, levels)
                signs = torch.randint(0, 2, x_hat.shape, device=x_hat.device) * 2.0 - 1.0
                (gradient,) = torch.autograd.grad((x_hat * signs).sum(), point)
                total += _by_feature(gradient.square())
        root = (total / total.mean().clamp_min(torch.finfo(total.dtype).tiny)).sqrt()
        return root.clamp_min(max(root.max().item() / 100, 1e-6))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((tensor.device for tensor in chain(self.parameters(), self.buffers())), torch.device("cpu"))

    def save(self, folder: str | Path, *, report: dict[str, Any] | None = None) -> Path:
        """Write config.json, one safetensors file per level, report.json and a model card; ``zoo.load`` reads it back.

        The folder's old stack, if it holds one, is replaced in one step: a reader sees the old or the new, never a mix.

        Raises:
            FileError: the stack was loaded with ``part=``, so half of it is not here.
        """
        for module in self.modules():
            if isinstance(module, Absent):
                module()  # says what is missing
        self.report = report or self.report
        return files.write(folder, self.description(), self.tensors(), self.report)

    def push_to_hub(
        self,
        repo: str,
        *,
        revision: str | None = None,
        private: bool = False,
        tag: str | None = None,
        message: str | None = None,
    ) -> str:
        """Push to the Hub in one commit what ``save`` writes; ``zoo.load("hf-hub:user/name@tag")`` reads it back.

        Args:
            repo: "user/name"; made where there is none.
            revision: a branch, made where there is none; the main one unless given.
            private: the repository is private. One that is there already and public is then refused.
            tag: a name for this commit, which stays at it.
            message: of the commit.

        Returns:
            The commit's address; the last commit's where nothing has changed.

        Raises:
            HubError: the Hub refuses, or cannot be reached.
        """
        from zoo import hub  # and with it the Hub's client, which is seldom needed

        with TemporaryDirectory(prefix="zoo-") as folder:
            self.save(folder)
            return hub.push(folder, repo, revision=revision, private=private, tag=tag, message=message)

    def description(self) -> dict[str, Any]:
        """What config.json says of the stack beside its files: JSON-ready."""
        parts = [
            {
                "spec": str(level.written_out or spec),
                "input_shape": list(level.input_shape),
                "code_shape": list(level.code_shape),
                "posterior": level.stage.place.posterior,
                "prior": level.prior is not None,
            }
            for spec, level in zip(self.spec.levels, self.lower(), strict=False)
        ]
        if self.head is not None:
            parts.append({"spec": str(self.head.item or self.spec.levels[-1]), "input_shape": list(self.code_shape)})
        names = {item.name for level in self.spec.levels for item in level.items}
        names |= {item.name for level in self.lower() if level.written_out for item in level.written_out.items}
        return {
            "spec": str(self.spec),
            "plugins": {name: registry.find(name).origin for name in sorted(names)},
            **({} if self.brought is None else self.brought.to_json()),
            "input": {"shape": list(self.input_shape), "layout": "CHW", "range": [0, 1]},
            "levels": parts,
        }

    def tensors(self) -> list[dict[str, Tensor]]:
        """The weights and buffers, a dict for every level and one for the head."""
        modules: list[nn.Module] = [*self.levels, *([] if self.head is None else [self.head])]
        return [dict(module.state_dict()) for module in modules]


def _by_feature(codes: Tensor) -> Tensor:
    """The mean over a batch (B, *code) and the places of a map: (C, 1, 1) for maps, else (*code,)."""
    return codes.mean(places(codes)).reshape(_features(codes.shape[1:]))


def _features(shape: Shape) -> Shape:
    """A shape that holds one number a feature: (C, 1, 1) of a map, else the code's own."""
    return (shape[0], 1, 1) if len(shape) == 3 else shape
