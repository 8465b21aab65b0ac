"""Codes: what a frozen level makes of a set of images is the data set of the next level."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from zoo import cache, files, registry
from zoo.arithmetic import in_full
from zoo.errors import DataError, SpecError
from zoo.posterior import Posterior, places

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from zoo.cache import Shards, Sharing
    from zoo.data import Images
    from zoo.data.augmentation import Augmentation
    from zoo.posterior import Noise
    from zoo.stack import Stack

Mode = Literal["mean", "moments"]
CodeType = Literal["float32", "float16"]

ERROR = 1e-3
"""float16 is used where its error, the root of the mean square, is at most this part of each feature's deviation."""
CLOSE = 5e-3
"""How far a code may come out from the one that is kept when it is encoded again, in another batch."""
ROUNDING = 1e-4
"""How far those may come out that codes of a level above are made of."""
BATCH = 256
"""Images at once; everywhere the same ones, as those of other batches round otherwise."""


@dataclass(frozen=True)
class Coding:
    """How codes are kept.

    Args:
        mode: ``mean``, the mean of every posterior; or ``moments``, its mean and log variance, from which a fresh
            code is drawn every time.
        dtype: ``float32``; or ``float16``, half as large, whose error is at most a thousandth of each feature's
            standard deviation: shards where it would be more are kept in float32.
        augmentation: of the images before they are encoded; None for none.
        views: passes over the augmented images that are recorded; a batch takes one of them at random for each image.
        seed: of the views.
    """

    mode: Mode = "mean"
    dtype: CodeType = "float32"
    augmentation: Augmentation | None = None
    views: int = 1
    seed: int = 0

    @property
    def passes(self) -> int:
        """How often every image is encoded: once, or once for each view."""
        return 1 if self.augmentation is None else self.views

    @property
    def plain(self) -> bool:
        """What is kept of an image, and read of it, is the one code that it is given."""
        return self.mode == "mean" and self.augmentation is None

    def describe(self) -> dict[str, Any]:
        """JSON-ready."""
        views = None
        if self.augmentation is not None:
            views = {"augmentation": str(self.augmentation), "count": self.views, "seed": self.seed}
        return {"mode": self.mode, "dtype": self.dtype, "views": views}


@dataclass(frozen=True)
class Codes:
    """The codes of a set of images, memory-mapped from the cache.

    Args:
        shards: rows of ``mean``, and of ``logvar`` in the mode ``moments``, for every view of every image in turn.
        count: how many images the shards hold.
        labels: (N,) class indices, where the images have them.
        noise: of the posteriors that codes are drawn from; None where they are the means.
        views: how many views there are of each image.
        places: (N,), which of the images' codes these are; None for all of them.
    """

    shards: Shards
    count: int
    labels: Tensor | None = None
    noise: Noise | None = None
    views: int = 1
    places: Tensor | None = None

    def __len__(self) -> int:
        return self.count if self.places is None else len(self.places)

    def batch(self, index: Tensor) -> Tensor:
        """The codes at these places, float32 (B, *code); views and draws come from torch's global random state."""
        rows = index if self.places is None else self.places[index]
        if self.views > 1:
            rows = rows + self.count * torch.randint(self.views, rows.shape, device="cpu")
        mean = self.shards.take("mean", rows).float()
        if self.noise is None:
            return mean
        return Posterior(mean, self.shards.take("logvar", rows).float(), self.noise).sample()

    def subset(self, index: Tensor) -> Codes:
        """The codes at these places, in their order; nothing is copied."""
        places = index if self.places is None else self.places[index]
        return replace(self, labels=None if self.labels is None else self.labels[index], places=places)


def encode(
    stack: Stack,
    images: Images,
    *,
    levels: int,
    coding: Coding | None = None,
    tick: Callable[[int], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
    among: Sharing | None = None,
) -> Codes:
    """The codes of images through the first ``levels`` levels: from the cache, or encoded now and kept there.

    Where the codes of a level below are in the cache, in float32, they are gone on from: images are read no more.

    Args:
        stack: in eval mode.
        images: what to encode.
        levels: how many levels, from the pixels up, at least 1.
        coding: how codes are kept.
        tick: called with the number of images just encoded, and with 0 while another process encodes the same.
        say: told what was found damaged or half-written, and what is waited for.
        among: processes that all call this at once and share out what is missing.

    Raises:
        DataError: there are no images.
        SpecError: moments are asked of a level whose encoder gives points.
        FileError: the cache cannot be written to.
    """
    coding = coding or Coding()
    if not len(images):
        raise DataError(f"{images.name} ({images.split}) has no images: there is nothing to encode")
    with torch.inference_mode():
        one = stack.posterior(images.batch(slice(0, 1)).to(stack.device), levels)
    if coding.mode == "moments" and one.logvar is None:
        raise SpecError(
            f"{stack.spec.levels[levels - 1]} has one code for each image and no posterior to draw from: take "
            "its means (mode='mean'), or give it a regularizer with a posterior, as in '+kl'"
        )
    numbers = one.mean.numel() + (0 if coding.mode == "mean" or one.logvar is None else one.logvar.numel())
    shards = cache.obtain(
        _key(stack, images, levels, coding),
        coding.passes * len(images),
        _Encoder(stack, images, levels, coding).rows,
        row_bytes=numbers * (2 if coding.dtype == "float16" else 4),
        together=BATCH,
        tick=tick,
        say=say,
        close=CLOSE,
        among=among,
    )
    return Codes(shards, len(images), images.labels, one.noise if coding.mode == "moments" else None, coding.passes)


@dataclass(frozen=True)
class _Encoder:
    stack: Stack
    images: Images
    levels: int
    coding: Coding
    decided: dict[int, Tensor] = field(default_factory=dict)

    @cached_property
    def below(self) -> tuple[int, Shards] | None:
        """The highest level below whose means are in the cache as they came out, and those: what to go on from."""
        for levels in range(self.levels - 1, 0, -1):
            for mode in get_args(Mode):
                kept = replace(self, levels=levels, coding=replace(self.coding, mode=mode, dtype="float32"))
                key = _key(self.stack, self.images, levels, kept.coding)
                shards = cache.find(key, kept.coding.passes * len(self.images), kept.rows, close=ROUNDING)
                if shards is not None:
                    return levels, shards
        return None

    @torch.inference_mode()
    @in_full()  # whoever reads the entry, in training or to measure, finds what it would have made itself
    def rows(self, wanted: range, tick: Callable[[int], None]) -> dict[str, Tensor]:
        """The codes of these rows: view after view, image after image."""
        count = len(self.images)
        below = self.below if len(wanted) > BATCH else None  # to see that it is whole takes longer than a batch
        rows: dict[str, Tensor] = {}
        first = wanted.start
        while first < wanted.stop:
            size = min(BATCH, wanted.stop - first, count - first % count)
            for name, part in self._batch(first, size, below).items():
                if name not in rows:  # all of it at once: small parts between a network's large ones tear the heap
                    rows[name] = part.new_empty(len(wanted), *part.shape[1:])
                rows[name][first - wanted.start :][:size] = part
            first += size
            tick(size)
        return {name: halved(codes) for name, codes in rows.items()} if self.coding.dtype == "float16" else rows

    def _batch(self, first: int, size: int, below: tuple[int, Shards] | None) -> dict[str, Tensor]:
        if below is None:
            above, x = 0, self._views(first, size)
        else:
            above, x = below[0], below[1].take("mean", torch.arange(first, first + size, device="cpu"))
        posterior = self.stack.posterior(x.to(self.stack.device), self.levels, above=above)
        rows = {"mean": posterior.mode.float().cpu()}
        if self.coding.mode == "moments" and posterior.logvar is not None:
            rows["logvar"] = posterior.logvar.float().cpu()
        return rows

    def _views(self, first: int, size: int) -> Tensor:
        """Images as they are, or as one view has them."""
        view, place = divmod(first, len(self.images))
        x = self.images.batch(slice(place, place + size))
        if self.coding.augmentation is None:
            return x
        if view not in self.decided:  # for all images at once: the same whatever the batches are
            generator = torch.Generator().manual_seed(self.coding.seed * 1_000_003 + view)
            self.decided[view] = self.coding.augmentation.decide(len(self.images), generator)
        return self.coding.augmentation.apply(x, self.decided[view][place : place + size])


def halved(codes: Tensor) -> Tensor:
    """Codes (N, *code) in float16, or as they are where that would lose more than ``ERROR``."""
    half = codes.half()
    over = places(codes)
    error = (half.float() - codes).square().mean(over).sqrt()
    return half if bool((error <= ERROR * codes.std(over, correction=0)).all()) else codes


def _key(stack: Stack, images: Images, levels: int, coding: Coding) -> cache.Key:
    """Everything the codes depend on, and nothing else: what a level is trained against does not change its codes."""
    weights = {
        f"{number}.{name}": tensor
        for number, level in enumerate(stack.lower(levels), 1)
        for name, tensor in level.state_dict().items()
        if not name.startswith("terms.")
    }
    short = [spec.items[0] for spec in stack.spec.levels[:levels]]
    stages = [level.stage.item or item for level, item in zip(stack.lower(levels), short, strict=True)]
    parts = {
        "stages": [str(stage) for stage in stages],
        "plugins": [registry.find(stage.name).origin for stage in stages],
        "weights": files.digest(weights),
        "input": {"shape": list(stack.input_shape), "range": [0, 1]},
        "data": images.fingerprint,
        **coding.describe(),
    }
    lower = "/".join(map(str, short))
    title = f"{lower} of {images.name} ({images.split})"
    return cache.Key("codes", title, parts, tuple(name for name in parts if name not in ("data", "plugins")))
