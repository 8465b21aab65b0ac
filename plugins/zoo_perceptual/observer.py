"""A frozen network that shows what it sees at some depths."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from timm import layers as timm_layers
from torch import Tensor, fx, nn
from torch.nn.functional import interpolate

from zoo.errors import NetworkError, SpecError, TrainingError
from zoo.networks import architectures
from zoo_perceptual.depths import located
from zoo_perceptual.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from zoo.interfaces import Place
    from zoo.networks.architectures import Architecture

GREY, COLOUR = 1, 3


class Observer(nn.Module):
    """Images (B, 1 or 3, H, W) in [0, 1] to the activations of some layers of a network, each (B, ...).

    The network is cut behind the deepest of them. It is in eval mode for good and learns nothing. All that it computes
    with is in the state, so a saved stack brings it along: nothing is downloaded or read when one is loaded.

    Args:
        place: where its term stands.
        network: its name, see ``zoo.networks.architectures.find``.
        layers: see ``zoo_perceptual.depths.located``.
        weights: a safetensors file with them.
        pretrained: without a file, the network's own; random ones where False.
        mean, std: of the images that it was trained on, of each channel; as is known of the network where None.

    Raises:
        SpecError: no such network or layer, weights that cannot be had, or images that are too small for it.
        FileError: the file cannot be read.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        place: Place,
        network: str,
        layers: str | Sequence[str | int],
        *,
        weights: str | None = None,
        pretrained: bool = True,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.memory = Memory()
        try:
            known = architectures.find(network)
            cut = _cut(network, layers if isinstance(layers, str) else tuple(layers))
            self.layers, self.size = cut.layers, known.size if known.fixed else None
            self.channels_first = cut.channels_first
            self.network = copy.deepcopy(cut.network)
            self.smallest = min(place.seen[1:], default=0)  # what was tried; while a stage grows, images are smaller
            _check_size(self, place, network)
            self.scale = tuple(mean or known.mean), tuple(std or known.std)
            for name, values in zip(("mean", "std"), self.scale, strict=True):
                if len(values) not in (GREY, COLOUR) or (name == "std" and min(values) <= 0):
                    raise SpecError(f"{name} is a number for every channel, 1 or 3, deviations above 0: not {values}")
                self.register_buffer(name, torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1))
            if not self.mean.is_meta:  # as it is while a saved stack is loaded, which brings its own
                tensors = _tensors(known, cut, weights, pretrained=pretrained)
                architectures.fill(self.network, tensors, name=network, part=True)
        except NetworkError as error:
            raise SpecError(f"network={network}: {error}") from error
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> list[Tensor]:
        """The activations, shallow first."""
        if images.ndim != 4 or images.shape[1] not in (GREY, COLOUR):
            raise TrainingError(
                f"a network that looks at images takes grey or coloured ones, not {tuple(images.shape[1:])}; on an "
                "upper level train with --loss-in pixels"
            )
        x = images.expand(-1, COLOUR, -1, -1)
        if self.size is not None and x.shape[-2:] != self.size:
            x = interpolate(x, self.size, mode="bilinear", align_corners=False, antialias=True)
        try:
            found = self.network((x - self.mean) / self.std)
        except RuntimeError as error:
            if min(x.shape[-2:]) >= self.smallest:
                raise
            raise TrainingError(
                f"a network that looks at images has nothing left of {x.shape[-2]}x{x.shape[-1]} down to "
                f"{self.layers[-1]}: grow from larger ones, or take earlier layers"
            ) from error
        return [found[layer] for layer in self.layers]

    def wanted(self, images: Tensor) -> list[Tensor]:
        """The activations of images that should come back, without gradients: remembered while something learns."""
        return self.memory.ask(self, images) if torch.is_grad_enabled() else self(images)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Observer:
        """Forget what was remembered: a network that is cast says something else, and a run that ends moves its stack,
        however it ends."""
        self.memory.forget()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def train(self, mode: bool = True) -> Observer:
        """Stay in eval mode: a frozen network keeps its own statistics."""
        return super().train(False)


@dataclass(frozen=True)
class _Cut:
    """The part of a network that leads to some layers.

    Args:
        network: without weights, on ``meta``: images to what each layer gives, by name.
        layers: their names, shallow first.
        channels_first: of each, whether it gives a map (B, C, H, W), not one (B, H, W, C) or tokens (B, N, C).
        constants: what it computes with beside its weights: files of weights leave them out.
    """

    network: nn.Module
    layers: tuple[str, ...]
    channels_first: tuple[bool, ...]
    constants: frozenset[str]


@cache
def _cut(name: str, layers: str | tuple[str | int, ...]) -> _Cut:
    """Cut a network behind the last of some layers; followed by torch.fx once, which takes a while."""
    known = architectures.find(name)
    outline = known.outline()
    for module in outline.modules():
        if hasattr(module, "inplace"):
            cast("Any", module).inplace = False  # what is looked at stays as it is
    found = located(outline, layers, name=name)
    try:
        cut = cast("Any", timm_layers).create_feature_extractor(outline, list(found))
    except Exception as error:  # torch.fx cannot follow everything that Python can say
        raise SpecError(f"{name} cannot be cut at {', '.join(found)}: {str(error).partition(chr(10))[0]}") from error
    cut = fx.GraphModule(cut, cut.eval_graph)
    constants = {key for key, _ in cut.named_buffers()} - cut.state_dict().keys()
    for module in cut.modules():
        module._non_persistent_buffers_set.clear()  # all that it computes with is saved
    with torch.no_grad():
        shown = cut(torch.empty(1, COLOUR, *known.size, device="meta"))
    return _Cut(cut, found, tuple(_is_channels_first(shown[layer]) for layer in found), frozenset(constants))


def _is_channels_first(activations: Tensor) -> bool:
    """Whether what a layer gives of a square image, as networks are made for, is a map with its channels first."""
    return activations.ndim == 4 and not activations.shape[1] == activations.shape[2] != activations.shape[3]


def _tensors(known: Architecture, cut: _Cut, weights: str | None, *, pretrained: bool) -> Mapping[str, Tensor]:
    """All that a network computes with: of a file, its own, or with random weights."""
    if weights is None and pretrained:
        return _whole(known.pretrained())
    wanted = cut.constants if weights is not None else cut.network.state_dict().keys()
    tensors = _random(cut.network) if weights is None else architectures.read(Path(weights))
    missing = wanted - tensors.keys()
    made = _whole(known.make()) if missing else {}
    return {**tensors, **{key: made[key] for key in missing if key in made}}


def _random(network: nn.Module) -> dict[str, Tensor]:
    """Weights as the layers draw them; what no layer draws is small and normal. Buffers that none sets are left out."""
    fresh = copy.deepcopy(network).to_empty(device="cpu")
    for parameter in fresh.parameters():
        nn.init.normal_(parameter, std=0.02)
    drawn: dict[str, Tensor] = dict(fresh.named_parameters())
    for name, module in fresh.named_modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
            drawn |= {f"{name}.{key}": tensor for key, tensor in module.named_buffers(recurse=False)}
    return {key: tensor.detach() for key, tensor in drawn.items()}


def _whole(network: nn.Module) -> dict[str, Tensor]:
    return {**network.state_dict(), **dict(network.named_buffers())}


def _check_size(observer: Observer, place: Place, name: str) -> None:
    """Send an image through the network without weights, so that a size which does not fit is found out now."""
    if len(place.seen) != 3 or (not place.pixels and place.image_shape is None):
        return
    channels, height, width = place.seen
    if channels not in (GREY, COLOUR):
        raise SpecError(f"{name} looks at grey or coloured images, not at {channels} channels")
    if observer.size is not None:
        return
    try:
        observer.network(torch.empty(1, COLOUR, height, width, device="meta"))
    except RuntimeError as error:
        raise SpecError(
            f"{name} cannot look at images of {height}x{width} down to {observer.layers[-1]}: take earlier layers"
        ) from error
