"""One row of the table of the unit: trained, and measured beside principal components of the same width."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from zoo_latent.mmd import mmd

from benchmarks.unit.judge import kid, residual, trained
from zoo.builder import build, load
from zoo.data import images
from zoo.errors import TrainingError
from zoo.evaluation import pca, prior
from zoo.evaluation.protocol import stream
from zoo.evaluation.reconstruction import batches, decibels
from zoo.training import InterruptedTrainingError, fit

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from benchmarks.unit.plan import Cell, Size
    from zoo.data import Images
    from zoo.stack import Stack

BATCH = 250


@dataclass
class Bench:
    """What all rows of one image size share: images, judges, lower levels and principal components.

    Args:
        size: which.
        folder: where lower levels and judges are kept between runs.
        network: weights of a ResNet-18 that judges samples of 64x64 images as well.
    """

    size: Size
    folder: Path
    network: Path | None = None
    _seen: dict[Any, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        height, width, channels = map(int, self.size.shape.split("x"))
        shape = (channels, height, width)
        train = images(self.size.data, shape)
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        few, held = order[: self.size.images], order[self.size.images :][: self.size.checked]
        self.train, self.held = train.subset(few), train.subset(held)
        test = images(self.size.data, shape, split="test")
        self.test = test.subset(
            torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[: self.size.tested]
        )
        self.judge = trained(train, self.folder / f"judge-{height}.safetensors")
        self.other = None if self.network is None or height != 64 else residual(self.network)
        self.real = self.judge.features(self.test.batch(slice(None)))
        self.real_other = None if self.other is None else self.other.features(self.test.batch(slice(self.size.samples)))

    def stack(self, cell: Cell) -> Stack:
        """The row's stack, its lower level trained."""
        stack = build(cell.spec, seed=cell.seed)
        if cell.levels == 2:
            stack.level(1).load_state_dict(self._lower(cell.precision, cell.seed).level(1).state_dict())
        return stack

    def steps(self, cell: Cell) -> int:
        """Of the row's last level."""
        return self.size.steps[0 if cell.levels == 1 else 2]

    def anchors(self, width: int) -> dict[str, float]:
        """The mean image and principal components: their errors, and the distance of Gaussian samples of theirs."""
        if width not in self._seen:
            x = self.test.batch(slice(None))
            model = pca.fit(self.train.batch(slice(5000)), (width,), seed=0)
            scale = torch.from_numpy(model.model.explained_variance_).float().sqrt()
            drawn = torch.randn(self.size.samples, width, generator=stream(0, "components")) * scale
            mean = self.train.batch(slice(5000)).mean(0)
            self._seen[width] = {
                "mean_mse": (x - mean).square().mean().item(),
                "pca_mse": (model.decode(model.encode(x)).clamp(0, 1) - x).square().mean().item(),
                "pca_kid": self.distance(model.decode(drawn).clamp(0, 1))["kid"],
            }
        return self._seen[width]

    def distance(self, samples: Tensor) -> dict[str, float]:
        """KID of images by the judge, and its deviation."""
        return kid(self.real, self.judge.features(samples))

    def _lower(self, precision: str, seed: int) -> Stack:
        spec = f"{self.size.shape}/{self.size.lower}"
        folder = self.folder / f"level-1-{self.size.shape}-{precision}-seed-{seed}"
        if not folder.is_dir():
            print(f"  level 1 of two: {spec} {precision} seed {seed}", flush=True)
            start = perf_counter()
            stack = _fit(build(spec, seed=seed), self, self.size.steps[1], precision, seed)
            stack.save(folder, report={"seconds": perf_counter() - start})
        return load(folder)


def measure(cell: Cell, bench: Bench) -> dict[str, Any]:
    """Train one row and measure it."""
    stack, start = bench.stack(cell), perf_counter()
    weight = next(term.weight for name, term in stack.level(cell.levels).terms.items() if name == cell.term)
    found: dict[str, Any] = {**cell.to_json(), "weighs": weight, "steps": bench.steps(cell)}
    try:
        _fit(stack, bench, bench.steps(cell), cell.precision, cell.seed, level=cell.levels)
    except InterruptedTrainingError:
        raise
    except TrainingError as error:
        return {**found, "exploded": str(error)}
    found["seconds"] = perf_counter() - start
    with torch.inference_mode():
        codes = encoded(stack, bench.test)
        found |= reconstructed(stack, codes, bench) | sampled(stack, codes, bench)
    return {**found, **bench.anchors(cell.width), "exploded": None, "seconds_measuring": perf_counter() - start}


def _fit(stack: Stack, bench: Bench, steps: int, precision: str, seed: int, level: int = 1) -> Stack:
    return fit(
        stack, bench.train, val=bench.held, steps=steps, level=level, precision=precision, seed=seed, progress=False
    )


@dataclass(frozen=True)
class Codes:
    """Of the test images: the posteriors' means, a draw of each (the means of points), and nats per image.

    Args:
        means: (N, width).
        draws: (N, width).
        points: whether the posteriors are points.
        nats: the divergence from N(0, I); None for points.
        lost: the squared error of the levels below by themselves; None where there are none.
    """

    means: Tensor
    draws: Tensor
    points: bool
    nats: float | None
    lost: float | None


def encoded(stack: Stack, test: Images) -> Codes:
    """The codes of the last level."""
    generator = stream(0, "draws")
    means, draws, nats, lost = [], [], 0.0, 0.0
    top, points = len(stack.levels), True
    for part in batches(len(test), BATCH):
        x = test.batch(part)
        z = x if top == 1 else stack.encode(x, top - 1)
        if top > 1:
            lost += _error(x, stack.decode(z, top - 1))
        posterior = stack.level(top).encode(z)
        means.append(posterior.mode)
        draws.append(posterior.sample(generator))
        points = posterior.logvar is None
        nats += 0.0 if points else posterior.kl().sum().item()
    count = len(test)
    return Codes(torch.cat(means), torch.cat(draws), points, None if points else nats / count,
                 lost / count if top > 1 else None)  # fmt: skip


def reconstructed(stack: Stack, codes: Codes, bench: Bench) -> dict[str, Any]:
    """What comes back of the test images, and what the codes are like."""
    parts = batches(len(codes.means), BATCH)
    mse = sum(_error(bench.test.batch(part), stack.decode(codes.means[part])) for part in parts) / len(codes.means)
    spread = prior.distance(codes.means, codes.draws, None, seed=0)
    return {
        "mse": mse,
        "psnr": decibels(mse),
        "below_mse": codes.lost,
        "active": spread["active"],
        "std": spread["std"],
        "kl": codes.nats,
        "sw": spread["sliced_wasserstein_draws"],
        "sw_floor": spread["sliced_wasserstein_floor"],
        "mmd": mmd(codes.draws, torch.randn(codes.draws.shape, generator=stream(0, "mmd"))).item(),
    }


def sampled(stack: Stack, codes: Codes, bench: Bench) -> dict[str, Any]:
    """How far images are from real ones that are decoded from draws of N(0, I), and of three closer laws.

    ``folded`` is N(0, I) with each number's own mean and deviation, ``normal`` one with their covariance, and ``there_
    and_back`` the draws of the images' own posteriors: what the blur of the code alone costs.
    """
    count, draws = bench.size.samples, codes.draws
    noise = torch.randn(count, draws.shape[1], generator=stream(0, "samples"))
    root = torch.linalg.cholesky(torch.cov(draws.T).reshape(2 * draws.shape[1:]) + 1e-6 * torch.eye(draws.shape[1]))
    laws = {
        "kid": noise,
        "kid_folded": noise * draws.std(0) + draws.mean(0),
        "kid_normal": noise @ root.T + draws.mean(0),
        "kid_there_and_back": draws[:count],
    }
    found: dict[str, Any] = {
        "sw_folded": prior.distance((draws - draws.mean(0)) / draws.std(0), None, None, seed=0)[
            "sliced_wasserstein_means"
        ]
    }
    for name, z in laws.items():
        images = torch.cat([stack.decode(z[part]) for part in batches(count, BATCH)])
        value = bench.distance(images)
        found |= {name: value["kid"], f"{name}_std": value["kid_std"]}
        if name == "kid" and bench.other is not None and bench.real_other is not None:
            other = kid(bench.real_other, bench.other.features(images))
            found |= {f"{name}_network": other["kid"], f"{name}_network_std": other["kid_std"]}
    return found


def _error(x: Tensor, x_hat: Tensor) -> float:
    """The mean squared error of each of some images, summed over them."""
    return (x - x_hat).square().flatten(1).mean(1).sum().item()
