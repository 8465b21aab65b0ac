"""The stack that levels make: images in, codes out, and back."""

from __future__ import annotations

from itertools import chain, islice
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from zoo import files, registry
from zoo.errors import EvaluationError, FileError, SpecError
from zoo.level import by_feature, features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any, NoReturn

    from zoo.interfaces import Head, Shape
    from zoo.level import Level
    from zoo.posterior import Posterior
    from zoo.spec import StackSpec

PROJECTIONS = 8
"""Random projections that ``Stack.sensitivity`` averages over."""
AT_ONCE = 256
"""Images that ``Stack.sample`` and ``Stack.similar`` draw and decode together."""


class AbsentError(FileError, AttributeError):
    """A part of a half that was not loaded: the attribute that it would have been is not there."""


class Absent(nn.Module):
    """Stands where the half of a stage would be that was not loaded, and says so when it or a part of it is used."""

    def __init__(self, half: str, folder: Path) -> None:
        super().__init__()
        self.message = f"the {half} was not loaded: zoo.load({str(folder)!r}) without part= loads both halves"

    def forward(self, *_: Any) -> NoReturn:
        raise FileError(self.message)

    def __getitem__(self, _: object) -> NoReturn:
        raise FileError(self.message)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # torch's own, and Python's
            return super().__getattr__(name)
        raise AbsentError(self.message)


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
        if top < 0:
            raise SpecError(f"levels={levels}: {self.spec} has levels 1 to {len(self.levels)}")
        return (self.level(number) for number in range(1, top + 1))

    def posterior(self, x: Tensor, levels: int | None = None, *, above: int = 0) -> Posterior:
        """The posterior over the code of the last of the first ``levels`` levels.

        Args:
            x: images (B, C, H, W) in [0, 1]; or codes (B, *code) of level ``above``.
            levels: how many levels, from the pixels up; all when None.
            above: how many of them x has gone through.
        """
        if not isinstance(x, Tensor) or not x.is_floating_point():
            found = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
            raise SpecError(f"images are a float tensor (B, C, H, W) in [0, 1], got {found}: bytes go over 255")
        posterior = None
        for level in islice(self.lower(levels), above, None):
            posterior = level.encode(x if posterior is None else posterior.mode)
        if posterior is None:
            raise SpecError(f"{self.spec} has no level that encodes")
        return posterior

    def encode(self, x: Tensor, levels: int | None = None) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to codes (B, *code): the posterior's mean."""
        return self.posterior(x, levels).mode if levels != 0 and len(self.levels) else x

    def decode(self, z: Tensor, levels: int | None = None) -> Tensor:
        """Codes of the last of the first ``levels`` levels to images (B, C, H, W) in [0, 1]."""
        top = len(self.levels) if levels is None else levels
        wanted = self.level(top).code_shape if top else self.input_shape
        if z.ndim != 1 + len(wanted) or z.shape[1] != wanted[0]:
            raise SpecError(f"codes of {self.spec} are (B, {', '.join(map(str, wanted))}), got {tuple(z.shape)}")
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
        sizes = [min(AT_ONCE, n - start) for start in range(0, n, AT_ONCE)]
        batches = [self.decode(draw(size).to(self.device)) for size in sizes]
        return torch.cat(batches) if batches else torch.empty(0, *self.input_shape, device=self.device)

    @torch.inference_mode()
    def similar(self, x: Tensor, *, noise: bool = True, seed: int | None = None, draws: int = 1) -> Tensor:
        """Images like these, (B, C, H, W) in [0, 1]: a draw from the top posterior of each, decoded.

        Args:
            x: images (B, C, H, W) in [0, 1].
            noise: draw; the posteriors' means, which come out the same every time, where False.
            seed: same seed, same images; None draws from torch's global state.
            draws: of each image, (B * draws, C, H, W), those of one image after each other; it is encoded once.

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
                "regularizer such as '+kl'"
            )
        generator = None if seed is None else torch.Generator(self.device).manual_seed(seed)
        z = posterior.repeated(draws).sample(generator)
        return torch.cat([self.decode(part) for part in z.split(AT_ONCE)])

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
                f"or a head, as in '{self.spec}/normal'; with 'folder(FOLDER)/normal' a head alone is trained."
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
        total = torch.zeros(features(z.shape[1:]), device=z.device)
        with torch.enable_grad():
            for _ in range(PROJECTIONS):
                point = z.detach().clone().requires_grad_()
                x_hat = self.to_pixels(point, levels)
                signs = torch.randint(0, 2, x_hat.shape, device=x_hat.device) * 2.0 - 1.0
                (gradient,) = torch.autograd.grad((x_hat * signs).sum(), point)
                total += by_feature(gradient.square())
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
            FileError: the stack was loaded with ``part=``, so half of it is not here; or it is of another precision
                than its spec builds, and could not be loaded again.
        """
        for module in self.modules():
            if isinstance(module, Absent):
                module()  # says what is missing
        tensors = self.tensors()
        _check_precision(tensors)
        self.report = report or self.report
        return files.write(folder, self.description(), tensors, self.report)

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


def _check_precision(levels: list[dict[str, Tensor]]) -> None:
    """Refuse a stack that was cast: ``zoo.load`` builds one of its spec, and that is float32."""
    for number, tensors in enumerate(levels, 1):
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and tensor.dtype != torch.float32:
                raise FileError(
                    f"level {number}: {name} is {str(tensor.dtype).removeprefix('torch.')}, and could not be loaded "
                    "again: stacks are saved in float32, which stack.float() brings this one to"
                )
