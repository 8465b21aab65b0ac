"""Networks whose features samples are judged by, and the features of real images, kept between runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import interpolate

from zoo import builder, cache, files
from zoo.cache import Key
from zoo.errors import EvaluationError, NetworkError
from zoo.evaluation.reconstruction import batches
from zoo.networks import architectures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from zoo.data import Images

AT_ONCE = 1024  # images that are read and judged
CLOSE = 1e-3  # how far features may come out from those that are kept, in another batch
WIDTH = 2048  # of features, about
PIXELS_AT_ONCE = 64 * 224 * 224  # of one batch, as the network sees it


@dataclass(frozen=True)
class Network:
    """A frozen network as a map from images in [0, 1], (B, C, H, W), to features, (B, F).

    Args:
        name: as it was asked for, a folder or file without its path.
        module: the network, in eval mode.
        forward: from prepared images to features.
        size: height and width that images are brought to, by bicubic interpolation with antialiasing.
        channels: one channel is repeated, several are averaged to one.
        mean, std: subtracted, and divided by, per channel.
        about: what it began as, where it is one of our own that prepares images itself.
    """

    name: str
    module: nn.Module
    forward: Callable[[Tensor], Tensor]
    size: tuple[int, int]
    channels: int = 3
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    about: Mapping[str, Any] | None = None
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", files.digest(dict(sorted(self.module.state_dict().items()))))

    def describe(self) -> dict[str, Any]:
        """Everything that the features depend on, JSON-ready: also the key of the cache."""
        return {
            "network": self.name,
            "weights_sha256": self.sha256,
            "size": list(self.size),
            "interpolation": "bicubic, antialiased, clamped to [0, 1]",
            "channels": self.channels,
            "mean": list(self.mean),
            "std": list(self.std),
        } | ({} if self.about is None else {"began_as": dict(self.about)})

    def features(self, images: Tensor) -> Tensor:
        """The features of images (N, C, H, W) in [0, 1], rounded to 8 bits: (N, F) float32 on the CPU."""
        size = max(1, PIXELS_AT_ONCE // (self.size[0] * self.size[1]))
        return torch.cat([self._batch(images[part]) for part in batches(len(images), size)])

    def _batch(self, images: Tensor) -> Tensor:
        device = next((weight.device for weight in self.module.parameters()), torch.device("cpu"))
        x = (images.to(device) * 255).round() / 255
        if x.shape[1] != self.channels:
            x = x.mean(1, keepdim=True).expand(-1, self.channels, -1, -1)
        if x.shape[-2:] != self.size:
            x = interpolate(x, self.size, mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(value, device=device).reshape(1, -1, 1, 1) for value in (self.mean, self.std))
        return self.forward((x - mean) / std).flatten(1).float().cpu()


def network(name: str, *, device: torch.device) -> Network:
    """The network of this name.

    Args:
        name: a folder that ``stack.save`` wrote, whose codes are then the features; a timm model, as in
            ``resnet18.a1_in1k``, with its own pretrained weights, which timm downloads; or ``NAME=FILE.safetensors``,
            the same with weights of a file, whose classifier may be of any width.
        device: where it goes.

    Raises:
        EvaluationError: no such network, or its weights cannot be had.
    """
    if (Path(name) / files.CONFIG).is_file():
        return _stack(Path(name), device)
    return opened(name, asked="features", device=device)


def opened(name: str, *, asked: str, device: torch.device, logits: bool = False) -> Network:
    """A network of others, with its own pretrained weights, or those of a file where it is ``NAME=FILE.safetensors``.

    Args:
        name: of the network, see ``zoo.networks.architectures.find``, and the file.
        asked: the option that it was given for, for errors.
        device: where it goes.
        logits: with its classifier; without it where not.

    Raises:
        EvaluationError: no such network, or its weights cannot be had, or do not fit.
        FileError: the file cannot be read.
    """
    architecture, _, file = name.partition("=")
    try:
        known = architectures.find(architecture)
        model = (
            architectures.restored(known, Path(file), logits=logits)
            if file
            else known.pretrained(classes=None if logits else 0)
        )
    except NetworkError as error:
        raise EvaluationError(f"{asked}={name!r}: {error}") from error
    model = model.eval().requires_grad_(False).to(device)
    return Network(
        f"{architecture}={Path(file).name}" if file else name, model, model, known.size, mean=known.mean, std=known.std
    )


def features_of(images: Images, judge: Network) -> Tensor:
    """The features of all of these images, (N, F): read from the cache, or computed and kept there.

    The key is the hashes of the images and of the weights, and how images are prepared.
    """
    described = judge.describe()
    title = f"{judge.name} of {images.name} ({images.split})"
    key = Key("features", title, {"images": images.fingerprint, **described}, tuple(described))

    def make(places: range, _: Callable[[int], None]) -> dict[str, Tensor]:
        part = images.subset(slice(places.start, places.stop))
        return {"features": torch.cat([judge.features(part.batch(few)) for few in batches(len(part), AT_ONCE)])}

    shards = cache.obtain(key, len(images), make, row_bytes=4 * WIDTH, close=CLOSE)
    return shards.all("features")


def _stack(folder: Path, device: torch.device) -> Network:
    stack = builder.load(folder).requires_grad_(False).to(device)
    channels, height, width = stack.input_shape
    return Network(folder.resolve().name, stack, stack.encode, (height, width), channels)
